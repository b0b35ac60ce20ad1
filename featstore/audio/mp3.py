"""Mp3 files that do not say how long they are.

Encoders that vary the bit rate put a table into the first frame (``Xing``, ``Info`` or ``VBRI``) that holds the length.
Without one, libsndfile guesses the length from the size of the file and the bit rate of the first frame, and stops
reading there: a track that begins loudly loses its end (42 % of it in a measured case), without any error.
"""

from __future__ import annotations

import io
import os
from typing import BinaryIO

__all__ = ["OpenEndedFile", "has_length_table"]

_TABLES = (b"Xing", b"Info", b"VBRI")
_FIRST_FRAME = 4096  # bytes that surely hold the first frame's table, if there is one
_STRETCH = 64  # more than the ratio of any two mp3 bit rates (320 to 8 kbit/s)
_TAG_BYTES = 128  # of an ID3v1 tag, at the very end


def has_length_table(path: str) -> bool:
    """Whether an mp3 file's first frame holds a table with its length."""
    with open(path, "rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3" and len(head) == 10:  # the tag's size is in four groups of seven bits
            file.seek(10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)))
            head = b""
        start = head + file.read(_FIRST_FRAME)
    return any(table in start for table in _TABLES)


class OpenEndedFile(io.RawIOBase):
    """A file that claims to be far longer than it is, and simply ends where it ends.

    A length guessed from this size lies behind the end of the music, and so never cuts it off. An ID3v1 tag is shown at
    the claimed end, where it is looked for, and not where it would be taken for a broken frame.
    """

    def __init__(self, path: str) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 (closed by close)
        size = os.fstat(self._file.fileno()).st_size
        self._file.seek(max(0, size - _TAG_BYTES))
        tail = self._file.read(_TAG_BYTES)
        self._tag = tail if tail[:3] == b"TAG" and len(tail) == _TAG_BYTES else bytes(_TAG_BYTES)
        self._end = size - (_TAG_BYTES if tail[:3] == b"TAG" else 0)
        self._claimed = size * _STRETCH + _TAG_BYTES
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position of the claimed file."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._claimed}[whence]
        return self._at

    def tell(self) -> int:
        """Position in the claimed file."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what is there; nothing between the true end and the claimed tag."""
        tag_at = self._claimed - _TAG_BYTES
        if self._at >= tag_at:
            content = self._tag[self._at - tag_at :][: len(buffer)]
        else:
            self._file.seek(self._at)
            content = self._file.read(max(0, min(len(buffer), self._end - self._at)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
