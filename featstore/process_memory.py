"""Memory of this process: its peak, and what it keeps of what is freed for what comes next."""

from __future__ import annotations

import ctypes
import resource
import sys

__all__ = ["keep_freed_memory", "peak_resident_bytes"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def keep_freed_memory(*, kept: int = 64 << 20, largest: int = 32 << 20) -> bool:
    """Let this process keep freed memory, instead of giving it back and asking for it again.

    Spectra come and go in arrays of some MB, what a step of training needs in larger ones. By default each of them is
    fresh from the system, which clears every page at its first touch: a third of the time of a mel extraction. Meant
    for processes of our own; a library should not decide it for its host. Results do not depend on it.

    Parameters
    ----------
    kept : int
        Bytes at most that stay with the process though nothing uses them.
    largest : int
        Bytes of the largest array that is kept; larger ones still come from the system, and go back to it.

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
    return bool(tune(_TRIM_THRESHOLD, kept)) and bool(tune(_MMAP_THRESHOLD, largest))


def peak_resident_bytes() -> int:
    """Most bytes of memory that this program has had resident so far.

    ``ru_maxrss`` survives the start of a new program: a small one that a large one starts would be called large. Linux
    tells the program's own peak as ``VmHWM``.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
