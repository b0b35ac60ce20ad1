"""Files for libraries that want one, where there is none: bytes that are read from a position on."""

from __future__ import annotations

import abc
import io
import os

__all__ = ["SeekableFile"]


class SeekableFile(io.RawIOBase):
    """A file of ``size`` bytes that is read from a position on, which can be moved; ``_next`` says how."""

    size: int
    _at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read the next bytes."""
        content = self._next(len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    @abc.abstractmethod
    def _next(self, count: int) -> bytes | memoryview:
        """At most ``count`` bytes from the position on."""
