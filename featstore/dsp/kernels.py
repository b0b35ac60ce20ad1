"""Compiled inner loops of harmonic-percussive separation: columns, or values, side by side in vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.compiling import Floats, Library, Number, aligned_floats
from featstore.kernel_code import LANES, Code, Index, Lanes

__all__ = ["running_median", "soft_mask_2"]

_COLUMNS = 256  # side by side: a window of 31 values each stays in the cache
_SIDE_BY_SIDE = ([LANES] * 4, [LANES], [1])  # vectors of columns that walk together; the last ones take the rest

_library = Library(__file__)


def running_median(rows: FloatArray, kernel: int, medians: FloatArray) -> None:
    """``medians[i] = median of rows[i] … rows[i + kernel - 1]``, column by column, for odd kernels.

    Each column keeps its window sorted. The new value enters and the oldest leaves in one walk of comparisons that is
    the same for all columns, so that they run side by side. Arrays are contiguous float32.
    """
    count, width = rows.shape
    if count < kernel or medians.shape != (count - kernel + 1, width):  # the kernel does not look
        raise ValueError(f"medians of {kernel} among {count} rows do not fit {medians.shape}")
    window = aligned_floats((kernel + 1) * _COLUMNS)
    for first in range(0, width, _COLUMNS):
        window[:] = np.inf  # sorted; the row after the last stays infinite
        _running_median(rows, count, width, first, min(first + _COLUMNS, width), kernel, window, medians)


@_library.kernel
def _running_median(
    code: Code,
    rows: Floats,
    count: Index,
    width: Index,
    first: Index,
    stop: Index,
    kernel: Index,
    window: Floats,
    out: Floats,
) -> None:
    def columns(begin: Index, end: Index, widths: list[int], row: Index, leaves: bool) -> None:
        with code.loop(end, start=begin, step=sum(widths)) as column:
            at, oldest, steps = row * width + column, kernel * width, kernel if leaves else row + 1
            _enter(code, rows, at, oldest if leaves else None, steps, window, column - first, widths)

    def whole_row(row: Index, leaves: bool) -> None:
        begin = first
        for widths in _SIDE_BY_SIDE:
            step = sum(widths)
            end = stop - ((stop - begin) & (step - 1))
            columns(begin, end, widths, row, leaves)
            begin = end

    def store_median(row: Index) -> None:
        with code.loop(stop, start=first) as column:
            middle = code.load(window, (kernel >> 1) * _COLUMNS + column - first, 1)
            code.store(out, (row - kernel + 1) * width + column, middle)

    with code.loop(kernel) as row:
        whole_row(row, leaves=False)
    store_median(kernel - 1)
    with code.loop(count, start=kernel) as row:
        whole_row(row, leaves=True)
        store_median(row)


def _enter(
    code: Code,
    rows: Any,
    at: Index,
    oldest: Index | None,
    steps: Index,
    window: Any,
    column: Index,
    widths: list[int],
) -> None:
    """Let the values at ``at`` into the sorted windows of some columns; those ``oldest`` before them leave, if any."""
    parts = [(sum(widths[:k]), n) for k, n in enumerate(widths)]
    entering = [code.variable(code.load(rows, at + place, n)) for place, n in parts]
    leaving = [code.load(rows, at - oldest + place, n) for place, n in parts] if oldest is not None else []
    with code.loop(steps) as k:
        for number, (place, n) in enumerate(parts):
            level = k * _COLUMNS + column + place
            value, new = code.load(window, level, n), entering[number].get()
            if oldest is not None:  # the window without its oldest value
                value = code.select(value < leaving[number], value, code.load(window, level + _COLUMNS, n))
            below = value < new
            code.store(window, level, code.select(below, value, new))
            entering[number].set(code.select(below, new, value))


def soft_mask_2(own: FloatArray, other: FloatArray, undecided: float, mask: FloatArray) -> None:
    """``own^2 / (own^2 + other^2)``, both divided by the larger one first; ``undecided`` where both are nothing.

    Arrays are contiguous float32 of one shape.
    """
    _soft_mask_2(own, other, undecided, mask, mask.size)


@_library.kernel
def _soft_mask_2(code: Code, own: Floats, other: Floats, undecided: Number, mask: Floats, count: Index) -> None:
    whole = count - (count & (LANES - 1))
    for lanes, start, stop in ((LANES, code.index(0), whole), (1, whole, count)):
        tiny, one = code.constant(1.1754944e-38, lanes), code.constant(1, lanes)
        with code.loop(stop, start=start, step=lanes) as k:
            a, b = code.load(own, k, lanes), code.load(other, k, lanes)
            largest = code.select(b < a, a, b)
            nothing = largest < tiny
            scale = code.select(nothing, one, largest)
            a, b = _squared(a / scale), _squared(b / scale)
            share = a / code.select(nothing, one, a + b)
            code.store(mask, k, code.select(nothing, code.every(undecided, lanes), share))


def _squared(value: Lanes) -> Lanes:
    return value * value
