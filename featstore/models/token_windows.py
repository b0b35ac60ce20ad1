"""Windows: stretches of a signal whose values can be computed apart, one by one or many of them together.

What computes them is a :class:`WindowCoder`: a tokenizer, or a frozen encoder. A cutter turns a signal that arrives in
blocks into windows; where it cuts follows from the model and from the signal's length alone. The values of a window do
not depend on the order of the windows, or on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from featstore.arrays import AnyArray, FloatArray

__all__ = [
    "NEAR_TIE",
    "Cutter",
    "Gatherer",
    "Window",
    "WindowCoder",
    "WindowStream",
    "WindowValues",
    "encode_in_batches",
    "full_passes",
    "gathered",
    "join_windows",
]

NEAR_TIE = 1e-3  # relative margin of the nearest code below which the rounding of floats may decide


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


class WindowStream:
    """Values of one signal that arrives in blocks: each window is computed as soon as it is there.

    Parameters
    ----------
    coder : WindowCoder
    cutter : Cutter
    gatherer : Gatherer, optional
        Makes something else of the windows' values than to put them side by side.

    Attributes
    ----------
    near_ties : int or None
        Tokens so far that rounding may have decided; None where the coder does not tell.
    """

    def __init__(self, coder: WindowCoder, cutter: Cutter, gatherer: Gatherer | None = None) -> None:
        self._coder, self._cutter, self._gatherer = coder, cutter, gatherer
        self.near_ties: int | None = None

    def push(self, block: FloatArray) -> AnyArray:
        """Take samples (n,); return the values (..., m) that no later sample can change."""
        return self._encode(self._cutter.push(block))

    def finish(self) -> AnyArray:
        """Return the rest; the signal ends here."""
        return self._encode(self._cutter.finish(), is_last=True)

    def _encode(self, windows: list[Window], *, is_last: bool = False) -> AnyArray:
        parts = [self._coder.encode_windows([window])[0] for window in windows]
        values, near_ties = gathered(self._coder, self._gatherer, parts, is_last=is_last)
        if near_ties is not None:
            self.near_ties = (self.near_ties or 0) + near_ties
        return values


def gathered(
    coder: WindowCoder, gatherer: Gatherer | None, parts: Sequence[WindowValues], *, is_last: bool
) -> tuple[AnyArray, int | None]:
    """Values (..., m) that are ready of a track's next windows, and their near ties where the coder counts them."""
    counts = [part.near_ties for part in parts if part.near_ties is not None]
    near_ties = sum(counts) if counts else None
    if gatherer is None:
        return join_windows(parts, coder.no_values), near_ties
    ready = gatherer.push(parts)
    return (np.concatenate([ready, gatherer.finish()], axis=-1) if is_last else ready), near_ties


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


def encode_in_batches(coder: WindowCoder, windows: Sequence[Window]) -> list[WindowValues]:
    """Values of windows of any signals, in the order given; those of equal length go through the model together."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for number, window in enumerate(windows):
        alike.setdefault(window.samples.shape, []).append(number)
    found: dict[int, WindowValues] = {}
    for numbers in alike.values():
        for at in range(0, len(numbers), coder.batch):
            part = numbers[at : at + coder.batch]
            found |= zip(part, coder.encode_windows([windows[number] for number in part]), strict=True)
    return [found[number] for number in range(len(windows))]
