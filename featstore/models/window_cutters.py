"""Cutters: where the windows of a signal that arrives in blocks begin and end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from featstore.arrays import FloatArray
from featstore.models.token_windows import Window

__all__ = ["ChunkCutter", "FieldCutter", "GridCutter", "ReceptiveField", "Span", "WholeCutter"]


class _Held:
    """What is kept of a signal (..., n) that arrives in blocks: its columns from ``at`` to ``seen``."""

    def __init__(self) -> None:
        self._parts: list[FloatArray] = []
        self.at = self.seen = 0

    def push(self, block: FloatArray) -> None:
        self._parts.append(np.array(block, np.float32))
        self.seen += block.shape[-1]

    def cut(self, start: int, stop: int) -> FloatArray:
        """Columns ``start`` to ``stop`` of the signal."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate(self._parts or [np.zeros(0, np.float32)], axis=-1)]
        return self._parts[0][..., start - self.at : stop - self.at]

    def keep_from(self, start: int) -> None:
        """Drop the columns before ``start``."""
        self._parts, self.at = [self.cut(start, self.seen).copy()], start


@dataclass(frozen=True, slots=True)
class Span:
    """Samples ``start`` to ``stop`` that a window of tokens is computed from, and how many leading tokens to drop."""

    start: int
    stop: int
    drop: int


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Samples that token ``o`` depends on: from ``hop * o - left`` to ``hop * o + right``, both included."""

    hop: int
    left: int
    right: int

    @property
    def length(self) -> int:
        """Number of samples."""
        return self.left + 1 + self.right

    def span(self, first: int, last: int, n_samples: int) -> Span:
        """Samples that tokens ``first`` to ``last`` (not included) of a signal of ``n_samples`` depend on.

        The start is a multiple of the hop, and the signal's own edges are cut exactly.
        """
        start = max(0, self.hop * (first - -(-self.left // self.hop)))
        stop = n_samples if last >= n_samples // self.hop else min(n_samples, self.hop * (last - 1) + self.right + 1)
        return Span(start, stop, first - start // self.hop)


class FieldCutter:
    """Windows on a fixed grid of tokens, each with the receptive field as overlap; holds a window and the last block.

    Parameters
    ----------
    field : ReceptiveField
        Of a token.
    window : int
        Tokens of a window.
    fill : bool
        Fill the signal up with zeros to whole tokens, as some codecs do; others drop what is left over.
    """

    def __init__(self, field: ReceptiveField, *, window: int, fill: bool = False) -> None:
        self._field, self._hop, self._window, self._fill = field, field.hop, window, fill
        self._held = _Held()
        self._done = 0  # tokens given out

    def push(self, block: FloatArray) -> list[Window]:
        """Take samples; return the windows that are complete."""
        self._held.push(block)
        windows = []
        while self._reach(last := self._done + self._window) <= self._held.seen:
            windows.append(self._cut(last))
        if windows:
            self._held.keep_from(self._field.span(self._done, self._done + 1, self._held.seen).start)
        return windows

    def finish(self) -> list[Window]:
        """Return the windows of what is left; none where the signal was shorter than a hop."""
        if self._fill and self._held.seen >= self._hop:
            self._held.push(np.zeros(-self._held.seen % self._hop, np.float32))
        total, windows = self._held.seen // self._hop, []
        while self._done < total:
            windows.append(self._cut(min(self._done + self._window, total)))
        return windows

    def _reach(self, last: int) -> int:
        """Samples that must be there before the tokens up to ``last`` are known, whatever follows.

        That is more than a whole token beyond them, so that none of them can be the last of the signal.
        """
        return max(self._hop * (last - 1) + self._field.right + 1, self._hop * (last + 1))

    def _cut(self, last: int) -> Window:
        span = self._field.span(self._done, last, self._held.seen)
        window = Window(self._held.cut(span.start, span.stop), span.drop, last - self._done)
        self._done = last
        return window


class GridCutter:
    """Windows on a fixed grid from the first column on, never padded; holds one window and the last block.

    What is left behind the last whole window is dropped, or seen by a further window that ends with the track; then a
    track shorter than a window is one window of its own length, too.

    Parameters
    ----------
    window, hop : int
        Columns of a window, and between the starts of two.
    least : int
        Columns of the shortest window.
    align : bool
        Whether a last window ends with the track.
    where : str
        Track, for messages.
    """

    def __init__(self, *, window: int, hop: int, least: int, align: bool, where: str = "") -> None:
        self._window, self._hop, self._least, self._align, self._where = window, hop, least, align, where
        self._held = _Held()
        self._next = self._covered = 0  # start of the next window, end of the last

    def push(self, block: FloatArray) -> list[Window]:
        """Take columns (..., n); return the windows that are complete."""
        self._held.push(block)
        windows = []
        while self._next + self._window <= self._held.seen:
            windows.append(self._cut(self._next, self._next + self._window))
            self._next += self._hop
        if windows:
            self._held.keep_from(max(self._held.at, min(self._next, self._held.seen - self._window)))
        return windows

    def finish(self) -> list[Window]:
        """Return the last window, where columns are left that no other one had."""
        if not self._align or self._held.seen <= self._covered or self._held.seen < self._least:
            return []
        return [self._last()]

    def _last(self) -> Window:
        return self._cut(max(0, self._held.seen - self._window), self._held.seen)

    def _cut(self, start: int, stop: int) -> Window:
        again = max(0, self._covered - start)  # columns that an earlier window had
        self._covered = stop
        return Window(np.ascontiguousarray(self._held.cut(start, stop)), again, stop - start - again, self._where)


class ChunkCutter(GridCutter):
    """Chunks of one length at fixed steps, the last one filled up with zeros: for codecs that take each by itself.

    Parameters
    ----------
    chunk, stride : int
        Samples of a chunk and of the step.
    frames : int
        Tokens of a chunk.
    shortest : int
        Samples below which a signal has no token.
    """

    def __init__(self, *, chunk: int, stride: int, frames: int, shortest: int) -> None:
        super().__init__(window=chunk, hop=stride, least=shortest, align=True)
        self._frames = frames

    def _last(self) -> Window:
        self._held.push(np.zeros(self._next + self._window - self._held.seen, np.float32))
        return self._cut(self._next, self._held.seen)

    def _cut(self, start: int, stop: int) -> Window:
        self._covered = stop
        return Window(self._held.cut(start, stop), 0, self._frames)


class WholeCutter:
    """One window: the signal itself, held until its end.

    Parameters
    ----------
    n_tokens : callable
        Number of tokens of a signal, from its length in samples.
    """

    def __init__(self, n_tokens: Callable[[int], int]) -> None:
        self._n_tokens, self._held = n_tokens, _Held()

    def push(self, block: FloatArray) -> list[Window]:
        """Take samples; nothing is ready yet."""
        self._held.push(block)
        return []

    def finish(self) -> list[Window]:
        """Return the signal, where it is long enough for a token."""
        keep = self._n_tokens(self._held.seen)
        return [Window(self._held.cut(0, self._held.seen), 0, keep)] if keep else []
