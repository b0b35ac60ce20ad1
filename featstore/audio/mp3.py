"""Mp3 files that do not say how long they are.

Encoders that vary the bit rate put a table into the first frame (``Xing``, ``Info`` or ``VBRI``) that holds the length.
Without one, libsndfile guesses the length from the size of the file and the bit rate of the first frame, and stops
reading there. At a constant rate that is right. Otherwise a track that begins loudly loses its end (42 % of it in a
measured case), without any error.
"""

from __future__ import annotations

import io
import mmap
import os
from typing import BinaryIO

__all__ = ["OpenEndedFile", "first_frame", "frame_bytes", "length_is_known"]

_TABLES = (b"Xing", b"Info", b"VBRI")
_TABLE_REACH = 256  # bytes of the first frame in which the table begins
_STRETCH = 64  # more than the ratio of any two mp3 bit rates (320 to 8 kbit/s)
_TAG_BYTES = 128  # of an ID3v1 tag, at the very end
_PROBES = 64  # places of a file where a constant rate must show

# kbit/s by the header's four bits: MPEG 1 layer 3, and MPEG 2 and 2.5 layer 3
_RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_SAMPLE_RATES = (44100, 48000, 32000)  # halved in MPEG 2, quartered in 2.5


def length_is_known(path: str) -> bool:
    """Whether an mp3 file's length can be told: by a table in its first frame, or because its bit rate is constant."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = first_frame(content)
        if at < 0 or any(table in content[at : at + _TABLE_REACH] for table in _TABLES):
            return True  # nothing found to go by: the decoder's own word is as good
        return _is_constant(content, at)


def first_frame(content: mmap.mmap) -> int:
    """Position of the first frame's header, behind an ID3v2 tag; -1 where there is none nearby."""
    at = 0
    if content[:3] == b"ID3":  # the tag's size is in four groups of seven bits
        at = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    for position in range(at, min(at + 4096, len(content) - 4)):
        if frame_bytes(content[position : position + 4]) > 0:
            return position
    return -1


def frame_bytes(header: bytes) -> float:
    """Mean length of the frames that a header of layer 3 announces, in bytes; 0 where it is no such header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2 or header[1] & 0x18 == 0x08:
        return 0.0
    version = header[1] >> 3 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    rate = (_RATES_1 if version == 3 else _RATES_2)[header[2] >> 4]
    if rate == 0 or header[2] >> 2 & 3 == 3:
        return 0.0
    sample_rate = _SAMPLE_RATES[header[2] >> 2 & 3] / {3: 1, 2: 2, 0: 4}[version]
    return (144000 if version == 3 else 72000) * rate / sample_rate


def _is_constant(content: mmap.mmap, at: int) -> bool:
    """Whether frames of the first one's rate lie where they must, all through the file."""
    first = content[at : at + 4]
    step = frame_bytes(first)
    count = int((len(content) - at - _TAG_BYTES) / step)
    for probe in range(1, _PROBES + 1):
        number = probe * max(0, count - 1) // _PROBES
        place = at + int(number * step)
        near = (place, place + 1, place - 1, place + 2, place - 2)  # frames are padded by a byte now and then
        if not any(_same_stream(first, content[position : position + 4]) for position in near if position >= at):
            return False
    return True


def _same_stream(first: bytes, header: bytes) -> bool:
    """Whether two headers agree in version, layer, bit rate and sample rate."""
    return header[:1] == b"\xff" and header[1] >> 1 == first[1] >> 1 and header[2] >> 2 == first[2] >> 2


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
