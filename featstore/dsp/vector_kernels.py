"""Inner loops written out in vector instructions, eight frames at a time, one in each lane: spectra and mel bands.

Compilers do not find these by themselves. Lanes never mix once the samples are transposed into them, so a frame's
values do not depend on its neighbours.

Spectra: powers of two from 16 up, some four times as fast as ``scipy.fft`` with the squares taken afterwards. The real
transform of n samples is a complex one of half the length (even samples real, odd ones imaginary), taken apart again at
the end. The complex one works in place, with radix 4 and at most one step of radix 2 at its end; what it leaves in the
order of reversed digits is read in that order.

Bands: a band's sum over 32 frames stays in registers while the bins go by.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from featstore.arrays import FloatArray, IntArray
from featstore.compiling import Floats, Integers, Library, aligned_floats
from featstore.kernel_code import LANES, Code, Index

__all__ = ["LANES", "can_transform", "power_of_groups", "weighted_runs"]

_UNROLLED = 4  # vectors of one band's sums
_APART = 16  # numbers between buffers, so that their rows do not share places of the cache

_library = Library(__file__)


def power_of_groups(
    samples: FloatArray, groups: int, hop: int, window: FloatArray, power: FloatArray, first: int
) -> None:
    """Powers of ``8 * groups`` frames, at 0, hop, 2 hop, … of ``samples``, into columns ``first``, … of ``power``.

    All arrays are contiguous float32; ``power`` is (1 + n_fft // 2, frames), ``window`` (n_fft,).
    """
    n_fft = len(window)
    buffers = aligned_floats(2 * (n_fft // 2 * LANES + _APART))
    fours, twos = divmod((n_fft // 2).bit_length() - 1, 2)
    _power_of_groups(
        samples, groups, hop, window, n_fft, fours, twos, *_tables(n_fft), buffers, power, power.shape[1], first
    )


@_library.kernel
def _power_of_groups(
    code: Code,
    samples: Floats,
    groups: Index,
    hop: Index,
    window: Floats,
    n_fft: Index,
    fours: Index,
    twos: Index,
    inner: Floats,
    outer: Floats,
    rows: Integers,
    buffers: Floats,
    power: Floats,
    frames: Index,
    first: Index,
) -> None:
    half = n_fft >> 1
    real, imag = (code.builder.gep(buffers, [((half * LANES + _APART) * k).value]) for k in range(2))
    with code.loop(groups) as group:
        column = first + group * LANES
        with code.loop(n_fft, step=LANES) as n:
            _load_frames(code, samples, group * LANES * hop + n, hop, window, n, real, imag)
        _complex_transform(code, real, imag, half, fours, twos, inner)
        with code.loop((half >> 1) + 1) as k:
            here, opposite = code.integer(rows, k), code.integer(rows, half - k)
            _two_bins(
                code, real, imag, here, opposite, outer, k * 2,
                power, k * frames + column, (half - k) * frames + column,
            )  # fmt: skip


def _load_frames(code: Code, samples: Any, start: Index, hop: Index, window: Any, n: Index, real: Any, imag: Any):  # type: ignore[no-untyped-def]
    """Samples n … n + 7 of eight frames, weighed, to rows n / 2 … n / 2 + 3 of both buffers."""
    weights = code.load(window, n)
    rows = [code.load(samples, start + hop * lane) * weights for lane in range(LANES)]
    target = n * (LANES // 2)
    for k, row in enumerate(code.transpose(rows)):
        code.store(imag if k % 2 else real, target + k // 2 * LANES, row)


def _complex_transform(code: Code, real: Any, imag: Any, half: Index, fours: Index, twos: Index, weights: Any) -> None:
    """Transform rows of the two buffers in place: parts of a quarter of the length each time."""
    parts, apart = code.variable(code.index(1)), code.variable(half >> 2)
    with code.loop(fours):
        quarter, count = apart.get(), parts.get()
        with code.loop(count) as part, code.loop(quarter) as row:
            _butterfly_4(code, real, imag, part * quarter * 4 + row, quarter, weights, row * count * 6)
        parts.set(count * 4)
        apart.set(quarter >> 2)
    with code.loop(twos), code.loop(half, step=2) as row:
        for buffer in (real, imag):
            first, second = code.load(buffer, row * LANES), code.load(buffer, row * LANES + LANES)
            code.store(buffer, row * LANES, first + second)
            code.store(buffer, row * LANES + LANES, first - second)


def _butterfly_4(code: Code, a: Any, b: Any, row: Index, apart: Index, weights: Any, w: Index) -> None:
    """Radix-4 step on four rows that lie ``apart``, in place."""
    rows = [(row + apart * k) * LANES for k in range(4)]
    r0, r1, r2, r3 = (code.load(a, row) for row in rows)
    i0, i1, i2, i3 = (code.load(b, row) for row in rows)
    even_r, even_i, odd_r, odd_i = r0 + r2, i0 + i2, r0 - r2, i0 - i2
    sum_r, sum_i, dif_r, dif_i = r1 + r3, i1 + i3, r1 - r3, i1 - i3
    code.store(a, rows[0], even_r + sum_r)
    code.store(b, rows[0], even_i + sum_i)
    turned = (odd_r + dif_i, odd_i - dif_r), (even_r - sum_r, even_i - sum_i), (odd_r - dif_i, odd_i + dif_r)
    for k, (real, imag) in enumerate(turned):
        cosine, sine = code.spread(weights, w + 2 * k), code.spread(weights, w + 2 * k + 1)
        code.store(a, rows[k + 1], real * cosine - imag * sine)
        code.store(b, rows[k + 1], real * sine + imag * cosine)


def _two_bins(
    code: Code, a: Any, b: Any, i: Index, j: Index, weights: Any, w: Index, power: Any, low: Index, high: Index
) -> None:
    """Rows k and half - k of the complex transform to the powers of real bins k and half - k."""
    half = code.constant(0.5)
    cosine, sine = code.spread(weights, w), code.spread(weights, w + 1)
    r, s, u, v = code.load(a, i), code.load(b, i), code.load(a, j), code.load(b, j)
    even_r, even_i, odd_r, odd_i = half * (r + u), half * (s - v), half * (s + v), half * (u - r)
    turn_r, turn_i = odd_r * cosine - odd_i * sine, odd_r * sine + odd_i * cosine
    for index, real, imag in (
        (low, even_r + turn_r, even_i + turn_i),
        (high, even_r - turn_r, even_i - turn_i),
    ):
        code.store(power, index, real * real + imag * imag)


def weighted_runs(
    spectrum: FloatArray, first: np.ndarray, offsets: np.ndarray, weights: FloatArray, bands: FloatArray
) -> None:
    """``bands[b, t] = sum over k of weights[offsets[b] + k] * spectrum[first[b] + k, t]``, k upwards from zero."""
    _weighted_runs(spectrum, spectrum.shape[1], first, offsets, weights, len(first), bands)


@_library.kernel
def _weighted_runs(
    code: Code,
    spectrum: Floats,
    frames: Index,
    first: Integers,
    offsets: Integers,
    weights: Floats,
    n_bands: Index,
    bands: Floats,
) -> None:
    width = _UNROLLED * LANES
    whole = frames - (frames & (width - 1))
    with code.loop(n_bands) as band:  # along each bin's row first: measured twice as fast as all bands of 32 frames
        row, w = code.integer(first, band) * frames, code.integer(offsets, band)
        count, target = code.integer(offsets, band + 1) - w, band * frames
        with code.loop(whole, step=width) as t:
            _weighted_sum(code, spectrum, row + t, frames, weights, w, count, bands, target + t, [LANES] * _UNROLLED)
        with code.loop(frames, start=whole) as t:
            _weighted_sum(code, spectrum, row + t, frames, weights, w, count, bands, target + t, [1])


def _weighted_sum(
    code: Code,
    spectrum: Any,
    at: Index,
    stride: Index,
    weights: Any,
    w: Index,
    count: Index,
    target: Any,
    o: Index,
    widths: list[int],
) -> None:
    """Sum over ``count`` bins of weight times some frames: rows ``at``, ``at + stride``, … of the spectrum."""
    sums = [code.variable(code.constant(0, width)) for width in widths]
    places = [sum(widths[:k]) for k in range(len(widths))]
    with code.loop(count) as k:
        for total, place, width in zip(sums, places, widths, strict=True):
            weight = code.spread(weights, w + k, width)
            total.set(total.get() + weight * code.load(spectrum, at + stride * k + place, width))
    for total, place in zip(sums, places, strict=True):
        code.store(target, o + place, total.get())


def can_transform(n_fft: int) -> bool:
    """Whether the kernel serves this length."""
    return n_fft >= 16 and n_fft & (n_fft - 1) == 0


@lru_cache(maxsize=32)
def _tables(n_fft: int) -> tuple[FloatArray, FloatArray, IntArray]:
    """Weights of the complex transform (three for each butterfly) and of its taking apart, as cosine, sine pairs.

    The third says where in the buffers it leaves each bin, and once more the first.
    """
    half = n_fft // 2
    inner = np.exp(-2j * np.pi * np.outer(np.arange(half // 4), [1, 2, 3]) / half)
    outer = np.exp(-2j * np.pi * np.arange(half // 2 + 1) / n_fft)
    a, b = (np.stack([w.real, w.imag], axis=-1).reshape(-1).astype(np.float32) for w in (inner, outer))
    rows, left, size = np.zeros(half + 1, np.int64), np.arange(half + 1) % half, half
    while size > 1:
        radix = min(size, 4)
        size //= radix
        rows += left % radix * size * LANES
        left //= radix
    return a, b, rows
