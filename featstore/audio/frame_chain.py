"""How many frames of an mp3 stream follow each other without a gap: a walk from header to header, in machine code."""

from __future__ import annotations

import functools

import numpy as np

from featstore.audio.content import LocalContent
from featstore.compiling import Bytes, Integers, Library
from featstore.kernel_code import Code, Index

__all__ = ["follow_frames"]

_WINDOW = 1 << 22  # bytes that are walked over at once

_library = Library(__file__)


def follow_frames(
    content: LocalContent, at: int, end: int, head: bytes, steps: tuple[int, ...]
) -> tuple[int, int, bool]:
    """Walk over whole frames from a position on.

    Parameters
    ----------
    content : bytes or mmap
    at, end : int
        Where the frames begin, and what the last one may not reach over.
    head : bytes
        First three of a header: the others have its second byte, but for the bit of a checksum.
    steps : tuple of int
        Bytes of a frame by the third byte of its header; 0 ends the walk.

    Returns
    -------
    frames : int
    stop : int
        Position behind the last of them.
    has_one_rate : bool
        Whether all have the bit rate and the sample rate in ``head``.
    """
    frames, others = 0, 0
    while at + 4 <= end:
        # a copy: Dask's profiler keeps locals alive for a moment, and a mapping with views of it cannot be closed
        window = np.frombuffer(content[at : min(end, at + _WINDOW)], np.uint8)
        found = np.empty(3, np.int64)
        _follow(window, len(window), end - at, head[1] | 1, head[2] >> 2, _table(steps), found)
        count, here, strange = found.tolist()
        frames, others, at = frames + count, others + strange, at + here
        if here == 0 or len(window) - here > 3:  # what follows is no frame, or not all of one
            break
    return frames, at, others == 0


@functools.lru_cache(maxsize=64)
def _table(steps: tuple[int, ...]) -> np.ndarray:
    return np.array(steps, np.int64)


@_library.kernel
def _follow(
    code: Code, window: Bytes, size: Index, room: Index, second: Index, rate: Index, steps: Integers, found: Integers
) -> None:
    """Frames, bytes and frames of another rate, from the start of a window that is at least 4 bytes long."""
    at, frames, others, limit = (code.variable(start) for start in (*map(code.index, (0, 0, 0)), size))
    with code.loop(limit):
        here = at.get()
        first, third = code.byte(window, here), code.byte(window, here + 2)
        wrong = (first - 0xFF) * 2 + (code.byte(window, here + 1) | 1) - second
        step = code.integer(steps, third)
        step = code.chosen(wrong * wrong < 1, code.chosen(room < here + step, 0, step), 0)
        at.set(here + step)
        frames.set(frames.get() + code.chosen(step < 1, 0, 1))
        other = (third >> 2) - rate
        others.set(others.get() + code.chosen(step < 1, 0, other * other))
        # a header that lies across the end of the window is for the next one
        limit.set(code.chosen(step < 1, 0, code.chosen(size < here + step + 4, 0, size)))
    for k, number in enumerate((frames, at, others)):
        code.put(found, k, number.get())
