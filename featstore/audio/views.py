"""What a decoder is shown in place of a file: a part of it, corrected header fields, an end that lies further away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from featstore.seekable_file import SeekableFile

__all__ = ["FileView", "ViewOf"]

_STRETCH = 64  # more than the ratio of any two mp3 bit rates (320 to 8 kbit/s)
_ID3V1 = 128  # bytes, at the very end of a file


@dataclass(frozen=True, slots=True)
class ViewOf:
    """How a file is shown.

    Attributes
    ----------
    start, stop : int
        Bytes of the file that are shown; ``stop`` of -1 is its end.
    patches : dict of int to bytes
        Position in the file to the bytes that are shown there.
    is_open_ended : bool
        Whether the view claims to be far longer than it is: a length guessed from that size lies behind the end of the
        music, and never cuts it off.
    """

    start: int = 0
    stop: int = -1
    patches: Mapping[int, bytes] = field(default_factory=dict)
    is_open_ended: bool = False

    def claims(self, length: int) -> tuple[int, int]:
        """Length that the view claims where it shows ``length`` bytes, and where zeros begin behind them."""
        # An ID3v1 tag is looked for at the claimed end: nothing but zeros is found there.
        if self.is_open_ended:
            return length * _STRETCH + _ID3V1, length * _STRETCH
        return length, length

    def shown(self, content: bytes, at: int | None = None) -> bytes:
        """What is shown of a file's bytes: all of them, or those from position ``at`` of the file on."""
        if at is None:
            at, content = self.start, content[self.start : len(content) if self.stop < 0 else self.stop]
        for place, patch in self.patches.items():
            first, last = max(place, at), min(place + len(patch), at + len(content))
            if first < last:
                content = content[: first - at] + patch[first - place : last - place] + content[last - at :]
        return content


class FileView(SeekableFile):
    """A local file as ``view`` shows it."""

    def __init__(self, path: str, view: ViewOf) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 (closed by close)
        self._view = view
        size = os.fstat(self._file.fileno()).st_size
        self._length = (size if view.stop < 0 else view.stop) - view.start
        self.size, self._zeros_from = view.claims(self._length)

    def _next(self, count: int) -> bytes:
        """What is there; nothing between the true end and the zeros at a claimed one."""
        if self._at >= self._zeros_from:
            return bytes(max(0, min(count, self.size - self._at)))
        at = self._view.start + self._at
        self._file.seek(at)
        return self._view.shown(self._file.read(max(0, min(count, self._length - self._at))), at)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
