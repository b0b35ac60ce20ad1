"""Values to codes in one pass, with what that costs in exactness counted on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.compiling import Library
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
    wide = dtype.itemsize == 2
    _kernels[wide](
        values, values.size, scale_factor, add_offset, float(first), float(last), scale_factor, add_offset,
        codes.view(np.uint16 if wide else np.uint8), found,
    )  # fmt: skip
    return codes, int(found[0]), float(found[1]), float(found[2])


def _emit(
    code: Code,
    values: Any,
    count: Index,
    scale: Any,
    offset: Any,
    first: Any,
    last: Any,
    scale_32: Any,
    offset_32: Any,
    codes: Any,
    found: Any,
    *,
    bits: int,
) -> None:
    saturated, largest, total = (code.variable(code.widened(code.constant(0, LANES))) for _ in range(3))
    whole = count - (count & (LANES - 1))
    with code.loop(whole, step=LANES) as k:
        _step(code, values, k, LANES, (scale, offset, first, last, scale_32, offset_32), codes, bits,
              (saturated, largest, total))  # fmt: skip
    rest = [code.variable(code.widened(code.constant(0, 1))) for _ in range(3)]
    with code.loop(count, start=whole) as k:
        _step(code, values, k, 1, (scale, offset, first, last, scale_32, offset_32), codes, bits, rest)
    maximum = rest[1]
    for lane in range(LANES):
        one = code.shuffle(largest.get(), largest.get(), [lane])
        maximum.set(code.select(one > maximum.get(), one, maximum.get()))
    code.store(found, 0, code.total(saturated.get()) + rest[0].get())
    code.store(found, 1, maximum.get())
    code.store(found, 2, code.total(total.get()) + rest[2].get())


def _step(code: Code, values: Any, k: Index, lanes: int, settings: Any, codes: Any, bits: int, counts: Any) -> None:
    """Codes of some values, counted."""
    scale, offset, first, last, scale_32, offset_32 = (code.every(number, lanes) for number in settings)
    saturated, largest, total = counts
    value = code.load(values, k, lanes)
    nearest = ((code.widened(value) - offset) / scale).rounded()
    below, above = nearest < first, nearest > last
    nothing, one = (code.widened(code.constant(number, lanes)) for number in (0, 1))
    saturated.set(saturated.get() + code.select(below, one, code.select(above, one, nothing)))
    kept = code.select(below, first, code.select(above, last, nearest))
    code.store(codes, k, code.as_integers(kept, bits))
    error = code.widened(abs(code.narrowed(kept) * scale_32 + offset_32 - value))
    largest.set(code.select(error > largest.get(), error, largest.get()))
    total.set(total.get() + error)


_KINDS = ("floats", "integer", "double", "double", "double", "double", "number", "number")


@_library.kernel(*_KINDS, "bytes", "doubles")
def _to_bytes(code: Code, *arguments: Any) -> None:
    _emit(code, *arguments, bits=8)


@_library.kernel(*_KINDS, "words", "doubles")
def _to_words(code: Code, *arguments: Any) -> None:
    _emit(code, *arguments, bits=16)


_kernels: tuple[Callable[..., None], Callable[..., None]] = (_to_bytes, _to_words)
