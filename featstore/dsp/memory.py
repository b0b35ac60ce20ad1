"""Memory that is freed for one block of audio is there for the next."""

from __future__ import annotations

import ctypes
import functools
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT = 64 << 20  # bytes at most that stay with the process though nothing uses them
_LARGEST = 32 << 20  # larger arrays still come from the system, and go back to it


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 64 MB of freed memory, instead of giving it back and asking for it again.

    Spectra come and go in arrays of some MB. By default each of them is fresh from the system, which clears every page
    at its first touch: a third of the time of a mel extraction. Meant for worker processes; a library should not decide
    it for its host. Results do not depend on it.

    Returns
    -------
    bool
        Whether it took effect (Linux with glibc).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        tune = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(tune(_TRIM_THRESHOLD, _KEPT)) and bool(tune(_MMAP_THRESHOLD, _LARGEST))
