"""Values to codes in one pass, with what that costs in exactness counted on the way."""

from __future__ import annotations

from typing import Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.compiling import Bytes, Doubles, Floats, Library, Words
from featstore.kernel_code import LANES, Code, Index

__all__ = ["quantise"]

_library = Library(__file__)


def quantise(
    values: FloatArray, dtype: np.dtype[Any], *, scale_factor: float, add_offset: float, first: int, last: int
) -> tuple[AnyArray, int, float, float]:
    """Nearest codes of values: ``(value - add_offset) / scale_factor``, within ``first … last``.

    Parameters
    ----------
    values : float32
        Finite, of any shape.
    dtype : dtype
        Of the codes: 8 or 16 bits.
    scale_factor, add_offset : float
        Value of a code: ``code * scale_factor + add_offset``.
    first, last : int
        Outermost codes.

    Returns
    -------
    codes : dtype
        Of the shape of ``values``.
    saturated : int
        Values beyond the outermost codes.
    max_error, sum_error : float
        Absolute differences of values and what their codes decode to, in float32.
    """
    values = np.ascontiguousarray(values, np.float32)
    codes = np.empty(values.shape, dtype)
    found = np.empty(3, np.float64)
    settings = np.array([scale_factor, add_offset, first, last], np.float64)
    if dtype.itemsize == 2:
        _to_words(values, values.size, settings, codes.view(np.uint16), found)
    else:
        _to_bytes(values, values.size, settings, codes.view(np.uint8), found)
    return codes, int(found[0]), float(found[1]), float(found[2])


def _emit(code: Code, values: Any, count: Index, settings: Any, codes: Any, found: Any, *, bits: int) -> None:
    saturated, largest, total = (code.variable(code.widened(code.constant(0, LANES))) for _ in range(3))
    whole = count - (count & (LANES - 1))
    numbers = [code.spread(settings, at) for at in range(4)]
    with code.loop(whole, step=LANES) as k:
        _step(code, values, k, LANES, numbers, codes, bits, (saturated, largest, total))
    numbers = [code.spread(settings, at, 1) for at in range(4)]
    rest = [code.variable(code.widened(code.constant(0, 1))) for _ in range(3)]
    with code.loop(count, start=whole) as k:
        _step(code, values, k, 1, numbers, codes, bits, rest)
    maximum = rest[1]
    for lane in range(LANES):
        one = code.shuffle(largest.get(), largest.get(), [lane])
        maximum.set(code.select(one > maximum.get(), one, maximum.get()))
    code.store(found, 0, code.total(saturated.get()) + rest[0].get())
    code.store(found, 1, maximum.get())
    code.store(found, 2, code.total(total.get()) + rest[2].get())


def _step(code: Code, values: Any, k: Index, lanes: int, settings: Any, codes: Any, bits: int, counts: Any) -> None:
    """Codes of some values, counted."""
    scale, offset, first, last = settings
    saturated, largest, total = counts
    value = code.load(values, k, lanes)
    nearest = ((code.widened(value) - offset) / scale).rounded()
    below, above = nearest < first, nearest > last
    nothing, one = (code.widened(code.constant(number, lanes)) for number in (0, 1))
    saturated.set(saturated.get() + code.select(below, one, code.select(above, one, nothing)))
    kept = code.select(below, first, code.select(above, last, nearest))
    code.store(codes, k, code.as_integers(kept, bits))
    error = code.widened(abs(code.narrowed(kept) * code.narrowed(scale) + code.narrowed(offset) - value))
    largest.set(code.select(error > largest.get(), error, largest.get()))
    total.set(total.get() + error)


@_library.kernel
def _to_bytes(code: Code, values: Floats, count: Index, settings: Doubles, codes: Bytes, found: Doubles) -> None:
    _emit(code, values, count, settings, codes, found, bits=8)


@_library.kernel
def _to_words(code: Code, values: Floats, count: Index, settings: Doubles, codes: Words, found: Doubles) -> None:
    _emit(code, values, count, settings, codes, found, bits=16)
