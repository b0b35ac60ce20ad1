"""CRC-32C, the checksum of stored chunks: by a small C extension, or compiled here so that threads run side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import google_crc32c
import numpy as np

__all__ = ["check_in_parallel", "crc32c"]

logger = logging.getLogger(__name__)

_LARGE = 1 << 15  # bytes; for less, handing back Python's lock is not worth it

_unlocked: Callable[[Any], int] | None = None


def crc32c(data: Any) -> int:
    """Castagnoli checksum of anything with a buffer.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    # the extension refuses memory views, but takes a numpy view of the same memory: no copy
    view = np.frombuffer(data, dtype=np.uint8)
    if _unlocked is not None and view.size >= _LARGE:
        return _unlocked(view)
    return int(google_crc32c.value(view))


def check_in_parallel() -> bool:
    """From now on, check large chunks without holding Python's lock; False where this processor cannot.

    The extension holds the lock while it computes, so that reading threads would wait for one another. What replaces it
    gives the same numbers, and costs some tenths of a second to load, which is why nobody else asks for it.
    """
    global _unlocked
    if _unlocked is None:
        try:
            from featstore.crc_kernel import SUPPORTED, crc32c_of

            if SUPPORTED and crc32c_of(np.frombuffer(b"123456789", dtype=np.uint8)) == 0xE3069283:
                _unlocked = crc32c_of
        except Exception as error:  # a compiler that cannot work here must not stop anybody from reading
            logger.debug("checksums keep Python's lock: %s", error)
    return _unlocked is not None
