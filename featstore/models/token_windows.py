"""Windows: stretches of a signal whose values can be computed apart, one by one or many of them together.

What computes them is a :class:`WindowCoder`: a tokenizer, or a frozen encoder. A cutter turns a signal that arrives in
blocks into windows; where it cuts follows from the model and from the signal's length alone. The values of a window do
not depend on the order of the windows, or on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from featstore.arrays import AnyArray, FloatArray

__all__ = [
    "NEAR_TIE",
    "ChunkCutter",
    "Cutter",
    "FieldCutter",
    "Gatherer",
    "Span",
    "WholeCutter",
    "Window",
    "WindowCoder",
    "WindowStream",
    "WindowValues",
    "encode_in_batches",
    "encode_signals",
    "field_span",
    "full_passes",
    "join_windows",
]

NEAR_TIE = 1e-3  # relative margin of the nearest code below which the rounding of floats may decide


@dataclass(frozen=True, slots=True)
class Span:
    """Samples ``start`` to ``stop`` that a window of tokens is computed from, and how many leading tokens to drop."""

    start: int
    stop: int
    drop: int


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A stretch of a signal.

    Attributes
    ----------
    samples : float32 (..., n)
        Of a waveform (n,); of a spectrum (n_mels, n), where the model takes one.
    drop, keep : int
        Tokens of the stretch that belong to its overlap, and those after them that are the window's own. Windows of an
        encoder count columns of ``samples`` instead.
    where : str
        Track, for messages.
    """

    samples: FloatArray
    drop: int
    keep: int
    where: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class WindowValues:
    """What a window gave.

    Attributes
    ----------
    values : array (..., keep)
        Tokens int32 (n_codebooks, keep), or an encoder's vectors.
    margins : float32 (keep,) or None
        Of tokens: how clearly the nearest code won, (d2 - d1) / d2 with the two smallest distances; None where the
        codec does not say.
    """

    values: AnyArray
    margins: FloatArray | None = None

    @property
    def near_ties(self) -> int | None:
        """Tokens that won by less than :data:`NEAR_TIE`; None without margins."""
        return None if self.margins is None else int((self.margins < NEAR_TIE).sum())


class WindowCoder(Protocol):
    """A model that computes windows, ``batch`` of them in one pass at most."""

    batch: int

    @property
    def no_values(self) -> AnyArray:
        """Values (..., 0) of no window: their type, and their axes before time."""
        ...

    def cutter(self) -> Cutter:
        """Start to cut a signal into windows, whose values follow each other."""
        ...

    def encode_windows(self, windows: Sequence[Window]) -> list[WindowValues]:
        """Values of windows of equal length, ``batch`` of them at most, together; the same as of each alone."""
        ...


class Gatherer(Protocol):
    """Joins the values of one track's windows, in their order."""

    def push(self, parts: Sequence[WindowValues]) -> AnyArray:
        """Take the values of windows; return what is ready (..., m)."""
        ...

    def finish(self) -> AnyArray:
        """Return the rest."""
        ...


class Cutter(Protocol):
    """Cuts one signal that arrives in blocks."""

    def push(self, block: FloatArray) -> list[Window]:
        """Take samples (n,); return the windows that no later sample can change."""
        ...

    def finish(self) -> list[Window]:
        """Return the rest; the signal ends here."""
        ...


def field_span(first: int, last: int, n_samples: int, *, hop: int, left: int, right: int) -> Span:
    """Samples that tokens ``first`` to ``last`` (not included) of a signal of ``n_samples`` depend on.

    Token ``o`` depends on samples ``hop * o - left`` to ``hop * o + right``. The start is a multiple of the hop, and
    the signal's own edges are cut exactly.
    """
    start = max(0, hop * (first - -(-left // hop)))
    stop = n_samples if last >= n_samples // hop else min(n_samples, hop * (last - 1) + right + 1)
    return Span(start, stop, first - start // hop)


class FieldCutter:
    """Windows on a fixed grid of tokens, each with the receptive field as overlap; holds a window and the last block.

    Parameters
    ----------
    hop, right : int
        Samples a token, and how far behind its first one a token looks.
    window : int
        Tokens of a window.
    span : callable
        Takes (first token, token behind the last, samples of the signal); see :func:`field_span`.
    fill : bool
        Fill the signal up with zeros to whole tokens, as some codecs do; others drop what is left over.
    """

    def __init__(
        self, *, hop: int, right: int, window: int, span: Callable[[int, int, int], Span], fill: bool = False
    ) -> None:
        self._hop, self._right, self._window, self._span, self._fill = hop, right, window, span, fill
        self._held: list[FloatArray] = []
        self._at = self._seen = self._done = 0  # first sample held, samples seen, tokens given out

    def push(self, block: FloatArray) -> list[Window]:
        """Take samples; return the windows that are complete."""
        self._held.append(np.array(block, np.float32))
        self._seen += len(block)
        windows = []
        while self._reach(last := self._done + self._window) <= self._seen:
            windows.append(self._cut(last))
        if windows:
            keep = self._span(self._done, self._done + 1, self._seen).start
            self._held, self._at = [self._whole()[keep - self._at :].copy()], keep
        return windows

    def finish(self) -> list[Window]:
        """Return the windows of what is left; none where the signal was shorter than a hop."""
        if self._fill and self._seen >= self._hop and self._seen % self._hop:
            self._held.append(np.zeros(-self._seen % self._hop, np.float32))
            self._seen += len(self._held[-1])
        total, windows = self._seen // self._hop, []
        while self._done < total:
            windows.append(self._cut(min(self._done + self._window, total)))
        self._held = []
        return windows

    def _reach(self, last: int) -> int:
        """Samples that must be there before the tokens up to ``last`` are known, whatever follows.

        That is more than a whole token beyond them, so that none of them can be the last of the signal.
        """
        return max(self._hop * (last - 1) + self._right + 1, self._hop * (last + 1))

    def _whole(self) -> FloatArray:
        if len(self._held) != 1:
            self._held = [np.concatenate(self._held)]
        return self._held[0]

    def _cut(self, last: int) -> Window:
        span = self._span(self._done, last, self._seen)
        window = Window(self._whole()[span.start - self._at : span.stop - self._at], span.drop, last - self._done)
        self._done = last
        return window


class ChunkCutter:
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
        self._chunk, self._stride, self._frames, self._shortest = chunk, stride, frames, shortest
        self._held = np.zeros(0, np.float32)
        self._seen = 0

    def push(self, block: FloatArray) -> list[Window]:
        """Take samples; return the chunks that are complete."""
        self._held = np.concatenate([self._held, np.asarray(block, np.float32)])
        self._seen += len(block)
        windows, at = [], 0
        while len(self._held) - at >= self._chunk:
            windows.append(Window(self._held[at : at + self._chunk], 0, self._frames))
            at += self._stride
        self._held = self._held[at:]
        return windows

    def finish(self) -> list[Window]:
        """Return the last chunk, where samples are left that no other one had."""
        overlap = self._chunk - self._stride
        is_first = self._seen == len(self._held)
        is_new = self._seen >= self._shortest if is_first else len(self._held) > overlap
        if not is_new:
            return []
        filled = np.zeros(self._chunk, np.float32)
        filled[: len(self._held)] = self._held
        return [Window(filled, 0, self._frames)]


class WholeCutter:
    """One window: the signal itself, held until its end.

    Parameters
    ----------
    n_tokens : callable
        Number of tokens of a signal, from its length in samples.
    """

    def __init__(self, n_tokens: Callable[[int], int]) -> None:
        self._n_tokens = n_tokens
        self._held: list[FloatArray] = []

    def push(self, block: FloatArray) -> list[Window]:
        """Take samples; nothing is ready yet."""
        self._held.append(np.array(block, np.float32))
        return []

    def finish(self) -> list[Window]:
        """Return the signal, where it is long enough for a token."""
        whole = np.concatenate(self._held) if self._held else np.zeros(0, np.float32)
        self._held = []
        keep = self._n_tokens(len(whole))
        return [Window(whole, 0, keep)] if keep else []


class WindowStream:
    """Values of one signal that arrives in blocks: each window is computed as soon as it is there.

    Parameters
    ----------
    coder : WindowCoder
    cutter : Cutter, optional
        The coder's own by default.
    gatherer : Gatherer, optional
        Makes something else of the windows' values than to put them side by side.

    Attributes
    ----------
    near_ties : int or None
        Tokens so far that rounding may have decided; None where the coder does not tell.
    """

    def __init__(self, coder: WindowCoder, cutter: Cutter | None = None, gatherer: Gatherer | None = None) -> None:
        self._coder, self._cutter, self._gatherer = coder, cutter or coder.cutter(), gatherer
        self.near_ties: int | None = None

    def push(self, block: FloatArray) -> AnyArray:
        """Take samples (n,); return the values (..., m) that no later sample can change."""
        return self._encode(self._cutter.push(block))

    def finish(self) -> AnyArray:
        """Return the rest; the signal ends here."""
        rest = self._encode(self._cutter.finish())
        return rest if self._gatherer is None else np.concatenate([rest, self._gatherer.finish()], axis=-1)

    def _encode(self, windows: list[Window]) -> AnyArray:
        found = [self._coder.encode_windows([window])[0] for window in windows]
        for one in found:
            if one.near_ties is not None:
                self.near_ties = (self.near_ties or 0) + one.near_ties
        return self._gatherer.push(found) if self._gatherer is not None else join_windows(found, self._coder.no_values)


def join_windows(parts: Sequence[WindowValues], no_values: AnyArray) -> AnyArray:
    """Values (..., T) of windows that follow each other; ``no_values`` (..., 0) where there are none."""
    return np.concatenate([no_values, *(part.values for part in parts)], axis=-1) if parts else no_values


def full_passes(block: FloatArray, size: int) -> Iterator[tuple[FloatArray, int]]:
    """Rows (size, ..., n) of a batch (batch, ..., n), filled up with silence, and how many of them are of the batch.

    The libraries that convolve may add up in another order for another number of rows; with one number for all passes,
    the result of a row does not depend on what goes with it.
    """
    for at in range(0, len(block), size):
        part = block[at : at + size]
        if len(part) < size:
            rows = np.zeros((size, *block.shape[1:]), np.float32)
            rows[: len(part)] = part
            yield rows, len(part)
        else:
            yield np.ascontiguousarray(part, np.float32), size


def encode_in_batches(coder: WindowCoder, windows: Sequence[Window], *, batch: int | None = None) -> list[WindowValues]:
    """Values of windows of any signals, in the order given; those of equal length go through the model together.

    Parameters
    ----------
    coder : WindowCoder
    windows : sequence of Window
    batch : int, optional
        Windows of one pass at most; by default, and never more than, what the coder takes at once.
    """
    most = min(batch or coder.batch, coder.batch)
    alike: dict[tuple[int, ...], list[int]] = {}
    for number, window in enumerate(windows):
        alike.setdefault(window.samples.shape, []).append(number)
    found: dict[int, WindowValues] = {}
    for numbers in alike.values():
        for at in range(0, len(numbers), most):
            part = numbers[at : at + most]
            found |= zip(part, coder.encode_windows([windows[number] for number in part]), strict=True)
    return [found[number] for number in range(len(windows))]


def encode_signals(coder: WindowCoder, signals: Sequence[FloatArray], *, batch: int) -> list[list[WindowValues]]:
    """Values of all windows of each of several whole signals (n,), windows of equal length computed together."""
    cut = []
    for signal in signals:
        cutter = coder.cutter()
        cut.append([*cutter.push(signal), *cutter.finish()])
    found = iter(encode_in_batches(coder, [window for windows in cut for window in windows], batch=batch))
    return [[next(found) for _ in windows] for windows in cut]
