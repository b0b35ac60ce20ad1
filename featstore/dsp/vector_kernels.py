"""Inner loops written out in vector instructions, eight frames at a time, one in each lane: spectra and mel bands.

Compilers do not find these by themselves. Lanes never mix once the samples are transposed into them, so a frame's
values do not depend on its neighbours; and nothing is contracted or reordered, so they do not depend on the processor
either (it needs no particular vector width: LLVM cuts the eight lanes to what there is).

Spectra: powers of two from 16 up, some four times as fast as ``scipy.fft`` with the squares taken afterwards. The real
transform of n samples is a complex one of half the length (even samples real, odd ones imaginary), taken apart again at
the end. The complex one is Stockham's: it writes from one buffer into another, in order, with radix 4 and at most one
step of radix 2.

Bands: a band's sum over 32 frames stays in registers while the bins go by.

All code that goes into one compiled function must stay in this file: numba's cache looks at no other for changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _intrinsic

from featstore.arrays import FloatArray
from featstore.dsp.compiling import compiled

__all__ = ["LANES", "can_transform", "power_of_groups", "twiddles", "weighted_runs"]

LANES = 8  # frames side by side; the buffers of a 512-point transform then fill the first-level cache and no more

intrinsic: Any = _intrinsic  # its declared type counts the context among a call's arguments
_UNROLLED = 4  # vectors of one band's sums

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDICES = ir.VectorType(ir.IntType(32), LANES)


class _Lanes:
    """Eight float32 values in the code being generated."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: _Lanes) -> _Lanes:
        return _Lanes(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: _Lanes) -> _Lanes:
        return _Lanes(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: _Lanes) -> _Lanes:
        return _Lanes(self.builder, self.builder.fmul(self.value, other.value))


class _Code:
    """The vector instructions that the steps below are made of."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def at(self, index: Any, offset: int) -> Any:
        return self.builder.add(index, ir.Constant(index.type, offset))

    def load(self, array: Any, index: Any) -> _Lanes:
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), _VECTOR.as_pointer())
        return _Lanes(self.builder, self.builder.load(pointer, align=4))

    def store(self, array: Any, index: Any, lanes: _Lanes) -> None:
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), _VECTOR.as_pointer())
        self.builder.store(lanes.value, pointer, align=4)

    def spread(self, array: Any, index: Any) -> _Lanes:
        """One number of an array in every lane."""
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        number = self.builder.load(self.builder.gep(array, [index]))
        first = self.builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(_Lanes(self.builder, first), _Lanes(self.builder, nothing), [0] * LANES)

    def constant(self, number: float) -> _Lanes:
        return _Lanes(self.builder, ir.Constant(_VECTOR, [number] * LANES))

    def shuffle(self, a: _Lanes, b: _Lanes, order: list[int]) -> _Lanes:
        return _Lanes(self.builder, self.builder.shuffle_vector(a.value, b.value, ir.Constant(_INDICES, order)))

    def transpose(self, rows: list[_Lanes]) -> list[_Lanes]:
        """Eight vectors as rows of a matrix, to its columns: blocks of 4, then 2, then 1 change places."""
        width = LANES // 2
        while width:
            low = [lane if lane // width % 2 == 0 else LANES + lane - width for lane in range(LANES)]
            high = [lane + width if lane // width % 2 == 0 else LANES + lane for lane in range(LANES)]
            for row in range(LANES):
                if row // width % 2 == 0:
                    a, b = rows[row], rows[row + width]
                    rows[row], rows[row + width] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            width //= 2
        return rows


def _step(emit: Callable[..., None]) -> Any:
    """Make a numba intrinsic of a function ``emit(code, *arguments)``; arrays arrive as pointers to their data."""

    def build(typing_context: Any, *argument_types: Any) -> Any:
        signature = types.void(*[types.int64 if isinstance(t, types.Integer) else t for t in argument_types])

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            plain = [
                context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            emit(_Code(builder), *plain)
            return context.get_dummy_value()

        return signature, generate

    return build


@intrinsic
def _load_frames(context, samples, start, hop, window, n, real, imag):  # type: ignore[no-untyped-def]
    """Samples n … n + 7 of eight frames, weighed, to rows n / 2 … n / 2 + 3 of both buffers."""

    def emit(code: _Code, samples: Any, start: Any, hop: Any, window: Any, n: Any, real: Any, imag: Any) -> None:
        weights = code.load(window, n)
        position, rows = code.builder.add(start, n), []
        for _ in range(LANES):
            rows.append(code.load(samples, position) * weights)
            position = code.builder.add(position, hop)
        target = code.builder.mul(n, ir.Constant(n.type, LANES // 2))
        for k, row in enumerate(code.transpose(rows)):
            code.store(imag if k % 2 else real, code.at(target, k // 2 * LANES), row)

    return _step(emit)(context, samples, start, hop, window, n, real, imag)


@intrinsic
def _butterfly_4(context, a, b, i, i_step, c, d, o, o_step, weights, w):  # type: ignore[no-untyped-def]
    """Radix-4 step: rows i, i + i_step, … of (a, b) to rows o, o + o_step, … of (c, d)."""

    def emit(
        code: _Code, a: Any, b: Any, i: Any, i_step: Any, c: Any, d: Any, o: Any, o_step: Any, weights: Any, w: Any
    ) -> None:
        add = code.builder.add
        rows = [i]
        for _ in range(3):
            rows.append(add(rows[-1], i_step))
        r0, r1, r2, r3 = (code.load(a, row) for row in rows)
        i0, i1, i2, i3 = (code.load(b, row) for row in rows)
        even_r, even_i, odd_r, odd_i = r0 + r2, i0 + i2, r0 - r2, i0 - i2
        sum_r, sum_i, dif_r, dif_i = r1 + r3, i1 + i3, r1 - r3, i1 - i3
        code.store(c, o, even_r + sum_r)
        code.store(d, o, even_i + sum_i)
        turned = (odd_r + dif_i, odd_i - dif_r), (even_r - sum_r, even_i - sum_i), (odd_r - dif_i, odd_i + dif_r)
        w = code.builder.mul(w, ir.Constant(w.type, 6))
        for k, (real, imag) in enumerate(turned):
            o = add(o, o_step)
            cosine, sine = code.spread(weights, code.at(w, 2 * k)), code.spread(weights, code.at(w, 2 * k + 1))
            code.store(c, o, real * cosine - imag * sine)
            code.store(d, o, real * sine + imag * cosine)

    return _step(emit)(context, a, b, i, i_step, c, d, o, o_step, weights, w)


@intrinsic
def _butterfly_2(context, a, b, i, i_step, c, d):  # type: ignore[no-untyped-def]
    """Last radix-2 step: rows i and i + i_step of (a, b) to the same rows of (c, d)."""

    def emit(code: _Code, a: Any, b: Any, i: Any, i_step: Any, c: Any, d: Any) -> None:
        j = code.builder.add(i, i_step)
        for source, target in ((a, c), (b, d)):
            first, second = code.load(source, i), code.load(source, j)
            code.store(target, i, first + second)
            code.store(target, j, first - second)

    return _step(emit)(context, a, b, i, i_step, c, d)


@intrinsic
def _two_bins(context, a, b, i, j, weights, w, power, low, high):  # type: ignore[no-untyped-def]
    """Rows k and half - k of the complex transform to the powers of real bins k and half - k."""

    def emit(
        code: _Code, a: Any, b: Any, i: Any, j: Any, weights: Any, w: Any, power: Any, low: Any, high: Any
    ) -> None:
        half, w = code.constant(0.5), code.builder.mul(w, ir.Constant(w.type, 2))
        cosine, sine = code.spread(weights, w), code.spread(weights, code.at(w, 1))
        r, s, u, v = code.load(a, i), code.load(b, i), code.load(a, j), code.load(b, j)
        even_r, even_i, odd_r, odd_i = half * (r + u), half * (s - v), half * (s + v), half * (u - r)
        turn_r, turn_i = odd_r * cosine - odd_i * sine, odd_r * sine + odd_i * cosine
        for index, real, imag in (
            (low, even_r + turn_r, even_i + turn_i),
            (high, even_r - turn_r, even_i - turn_i),
        ):
            code.store(power, index, real * real + imag * imag)

    return _step(emit)(context, a, b, i, j, weights, w, power, low, high)


@compiled
def _complex_transform(a, b, c, d, half, weights):  # type: ignore[no-untyped-def]
    """Transform rows of (a, b), to and fro with (c, d); return whether the result lies in (c, d)."""
    done, away = 1, False
    while 4 * done <= half:
        quarter = half // 4
        for p in range(quarter // done):
            for q in range(done):
                _butterfly_4(
                    a, b, (p * done + q) * LANES, quarter * LANES,
                    c, d, (4 * p * done + q) * LANES, done * LANES, weights, p * done,
                )  # fmt: skip
        a, b, c, d = c, d, a, b
        done, away = 4 * done, not away
    if done < half:
        for q in range(done):
            _butterfly_2(a, b, q * LANES, done * LANES, c, d)
        away = not away
    return away


@compiled
def power_of_groups(samples, groups, hop, window, inner, outer, power, first):  # type: ignore[no-untyped-def]
    """Powers of ``8 * groups`` frames, at 0, hop, 2 hop, … of ``samples``, into columns ``first``, … of ``power``.

    ``inner`` and ``outer`` are the :func:`twiddles` of the window's length; ``power`` is (1 + n_fft // 2, frames).
    """
    n_fft, frames = window.shape[0], power.shape[1]
    half = n_fft // 2
    flat = power.reshape(-1)
    a, b, c, d = (
        np.empty(half * LANES, np.float32),
        np.empty(half * LANES, np.float32),
        np.empty(half * LANES, np.float32),
        np.empty(half * LANES, np.float32),
    )
    for group in range(groups):
        for n in range(0, n_fft, LANES):
            _load_frames(samples, group * LANES * hop, hop, window, n, a, b)
        away = _complex_transform(a, b, c, d, half, inner)
        real, imag = (c, d) if away else (a, b)
        column = first + group * LANES
        for k in range(half // 2 + 1):
            opposite = (half - k) % half
            _two_bins(
                real, imag, k * LANES, opposite * LANES, outer, k,
                flat, k * frames + column, (half - k) * frames + column,
            )  # fmt: skip


@intrinsic
def _weighted_sum(context, spectrum, at, stride, weights, w, count, target, o):  # type: ignore[no-untyped-def]
    """Sum over ``count`` bins of weight times 32 frames: rows ``at``, ``at + stride``, … of the spectrum."""

    def emit(
        code: _Code, spectrum: Any, at: Any, stride: Any, weights: Any, w: Any, count: Any, target: Any, o: Any
    ) -> None:
        builder = code.builder
        sums: list[Any] = [cgutils.alloca_once(builder, _VECTOR) for _ in range(_UNROLLED)]  # type: ignore[no-untyped-call]
        for total in sums:
            builder.store(ir.Constant(_VECTOR, [0.0] * LANES), total)
        with cgutils.for_range(builder, count, intp=count.type) as loop:
            weight = code.spread(weights, builder.add(w, loop.index))
            row = builder.add(at, builder.mul(stride, loop.index))
            for k, total in enumerate(sums):
                product = weight * code.load(spectrum, code.at(row, k * LANES))
                builder.store((_Lanes(builder, builder.load(total)) + product).value, total)
        for k, total in enumerate(sums):
            code.store(target, code.at(o, k * LANES), _Lanes(builder, builder.load(total)))

    return _step(emit)(context, spectrum, at, stride, weights, w, count, target, o)


@compiled
def weighted_runs(spectrum, first, offsets, weights, bands):  # type: ignore[no-untyped-def]
    """``bands[b, t] = sum over k of weights[offsets[b] + k] * spectrum[first[b] + k, t]``, k upwards from zero."""
    frames = spectrum.shape[1]
    bins, values = spectrum.reshape(-1), bands.reshape(-1)
    whole = frames - frames % (_UNROLLED * LANES)
    for band in range(first.shape[0]):  # along each bin's row first: measured twice as fast as all bands of 32 frames
        count = offsets[band + 1] - offsets[band]
        for t in range(0, whole, _UNROLLED * LANES):
            _weighted_sum(
                bins, first[band] * frames + t, frames, weights, offsets[band], count, values, band * frames + t
            )  # fmt: skip
        for t in range(whole, frames):
            total = np.float32(0)
            for k in range(count):
                total += weights[offsets[band] + k] * spectrum[first[band] + k, t]
            bands[band, t] = total


def can_transform(n_fft: int) -> bool:
    """Whether the kernel serves this length."""
    return n_fft >= 16 and n_fft & (n_fft - 1) == 0


@lru_cache(maxsize=32)
def twiddles(n_fft: int) -> tuple[FloatArray, FloatArray]:
    """Weights of the complex transform (three for each butterfly) and of its taking apart, as cosine, sine pairs."""
    half = n_fft // 2
    inner = np.exp(-2j * np.pi * np.outer(np.arange(half // 4), [1, 2, 3]) / half)
    outer = np.exp(-2j * np.pi * np.arange(half // 2 + 1) / n_fft)
    return tuple(np.stack([w.real, w.imag], axis=-1).reshape(-1).astype(np.float32) for w in (inner, outer))  # type: ignore[return-value]
