"""Compiled inner loops. Numba keeps the machine code on disk, so only the first use on a machine pays for compiling.

None of them uses ``fastmath``: every result is the same on every processor, whatever the width of its vectors, because
each number is computed by the same roundings in the same order (loops over frames run side by side, sums do not).
"""

from __future__ import annotations

import numba as nb
import numpy as np

__all__ = ["weighted_runs"]

_COLUMNS = 256  # frames at once: a band's sums and the bins it reads stay in the first-level cache


@nb.njit(cache=True, nogil=True)
def weighted_runs(spectrum, first, offsets, weights, bands):  # type: ignore[no-untyped-def]
    """``bands[b, t] = sum over k of weights[offsets[b] + k] * spectrum[first[b] + k, t]``, k upwards."""
    frames = spectrum.shape[1]
    for start in range(0, frames, _COLUMNS):
        stop = min(frames, start + _COLUMNS)
        for band in range(first.shape[0]):
            row = bands[band, start:stop]
            row[:] = np.float32(0)
            for k in range(offsets[band + 1] - offsets[band]):
                weight = weights[offsets[band] + k]
                column = spectrum[first[band] + k, start:stop]
                for t in range(stop - start):
                    row[t] += weight * column[t]
