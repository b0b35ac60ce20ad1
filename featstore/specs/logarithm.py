"""Decimal logarithm of many values in one pass, the same bits on every machine.

numpy takes ``log10`` of float32 from the C library, one value at a time, or from a vector library where the processor
has AVX-512: the last bits depend on the machine. Here it is computed as the GNU C library has done it from version 2.27
to 2.40, on eight values at a time, and equals it bit for bit for every float32. The natural logarithm is that of ARM's
Optimized Routines (``logf``: a table of 16 intervals and a polynomial of degree 3 in float64), the step to base 10 that
of Sun's fdlibm, in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.compiling import Doubles, Floats, Library, Number
from featstore.kernel_code import LANES, Code, Index, Lanes

__all__ = ["log10"]

# Intervals of the significand: 1 / c, log(c), for a c near the middle of each, in order of the four leading bits.
_TABLE = np.array(
    [
        ["0x1.661ec79f8f3bep+0", "-0x1.57bf7808caadep-2"],
        ["0x1.571ed4aaf883dp+0", "-0x1.2bef0a7c06ddbp-2"],
        ["0x1.49539f0f010bp+0", "-0x1.01eae7f513a67p-2"],
        ["0x1.3c995b0b80385p+0", "-0x1.b31d8a68224e9p-3"],
        ["0x1.30d190c8864a5p+0", "-0x1.6574f0ac07758p-3"],
        ["0x1.25e227b0b8eap+0", "-0x1.1aa2bc79c81p-3"],
        ["0x1.1bb4a4a1a343fp+0", "-0x1.a4e76ce8c0e5ep-4"],
        ["0x1.12358f08ae5bap+0", "-0x1.1973c5a611cccp-4"],
        ["0x1.0953f419900a7p+0", "-0x1.252f438e10c1ep-5"],
        ["0x1p+0", "0x0p+0"],
        ["0x1.e608cfd9a47acp-1", "0x1.aa5aa5df25984p-5"],
        ["0x1.ca4b31f026aap-1", "0x1.c5e53aa362eb4p-4"],
        ["0x1.b2036576afce6p-1", "0x1.526e57720db08p-3"],
        ["0x1.9c2d163a1aa2dp-1", "0x1.bc2860d22477p-3"],
        ["0x1.886e6037841edp-1", "0x1.1058bc8a07ee1p-2"],
        ["0x1.767dcf5534862p-1", "0x1.4043057b6ee09p-2"],
    ]
)
_INVERSE, _LOG = np.array([[float.fromhex(text) for text in pair] for pair in _TABLE]).T.copy()
_LN_2 = float.fromhex("0x1.62e42fefa39efp-1")
_POLYNOMIAL = [
    float.fromhex(text) for text in ("-0x1.00ea348b88334p-2", "0x1.5575b0be00b6ap-2", "-0x1.ffffef20a4123p-2")
]
_FIRST = 0x3F330000  # bits of the float32 where the first interval begins
_ONE_BY_LN_10, _LOG10_2_HIGH, _LOG10_2_LOW = 4.3429449201e-01, 3.0102920532e-01, 7.9034151668e-07

_library = Library(__file__)


def log10(
    values: FloatArray, *, gain: float = 1.0, offset: float = 0.0, floor: float = -math.inf, factor: float = 1.0
) -> FloatArray:
    """``factor * log10(max(gain * values + offset, floor))``, each step rounded to float32.

    Parameters
    ----------
    values : float32, of any shape
        Where the logarithm would be taken of anything but positive, finite numbers, numpy takes it of those.

    Returns
    -------
    float32
        Of the shape of ``values``.
    """
    values = np.asarray(values, np.float32, order="C")
    out, odd = np.empty(values.shape, np.float32), np.empty(1, np.float32)
    is_plain = int(gain == 1 and offset == 0)
    _log10(values, values.size, is_plain, gain, offset, floor, factor, _INVERSE, _LOG, out, odd)
    if odd[0]:
        linear = np.maximum(values * np.float32(gain) + np.float32(offset), np.float32(floor))
        strange = ~((linear > np.float32(1.1754942e-38)) & (linear < np.inf))
        out[strange] = np.log10(linear[strange]) * np.float32(factor)
    return out


@_library.kernel
def _log10(
    code: Code,
    values: Floats,
    count: Index,
    is_plain: Index,
    gain: Number,
    offset: Number,
    floor: Number,
    factor: Number,
    inverse: Doubles,
    log: Doubles,
    out: Floats,
    odd: Floats,
) -> None:
    whole = count - (count & (LANES - 1))
    plain, found = whole * is_plain, code.constant(0, 1)
    for lanes, start, stop in ((LANES, code.index(0), plain), (LANES, plain, whole), (1, whole, count)):
        nothing, one = code.constant(0, lanes), code.constant(1, lanes)
        subnormal, infinite = code.constant(1.1754942e-38, lanes), code.constant(float("inf"), lanes)
        strange = code.variable(nothing)
        with code.loop(stop, start=start, step=lanes) as k:
            value = code.load(values, k, lanes)
            if stop is not plain:
                value = value * code.every(gain, lanes) + code.every(offset, lanes)
            value = code.select(value < code.every(floor, lanes), code.every(floor, lanes), value)
            good = code.select(value > subnormal, code.select(value < infinite, one, nothing), nothing)
            strange.set(code.select(good > nothing, strange.get(), one))
            code.store(out, k, _decimal(code, value, inverse, log) * code.every(factor, lanes))
        found = found + code.total(strange.get())
    code.store(odd, 0, found)


def _decimal(code: Code, value: Lanes, inverse: Any, log: Any) -> Lanes:
    """Decimal logarithm of normal, positive float32.

    fdlibm's ``log10f`` is a power of two, and the rest's natural logarithm; that rest lies between 0.5 and 1 for values
    below 1, and between 1 and 2 for others. Optimized Routines' ``logf`` takes it to 0.7 … 1.4, as it does the value.
    """
    lanes, bits = value.value.type.count, code.bits(value)
    exponent = (bits >> 23) - 127
    power = exponent - (exponent >> 31)  # one more where the value is below 1
    beyond = bits - _FIRST
    interval, whole = (beyond >> 19) & 15, beyond >> 23
    significand = code.widened(code.from_bits(bits - (whole << 23)))
    one, ln_2, a, b, c = (code.double(n, lanes) for n in (1.0, _LN_2, *_POLYNOMIAL))
    rest = significand * code.picked(inverse, interval) - one
    start = code.picked(log, interval) + code.widened(code.as_numbers(whole - power)) * ln_2
    square = rest * rest
    natural = code.narrowed((a * square + (b * rest + c)) * square + (start + rest))
    high, low, one_by_ln_10 = (code.constant(n, lanes) for n in (_LOG10_2_HIGH, _LOG10_2_LOW, _ONE_BY_LN_10))
    return code.as_numbers(power) * low + one_by_ln_10 * natural + code.as_numbers(power) * high
