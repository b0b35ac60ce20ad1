"""Compiled inner loops. Numba keeps the machine code on disk, so only the first use on a machine pays for compiling.

None of them uses ``fastmath``: every result is the same on every processor, whatever the width of its vectors, because
each number is computed by the same roundings in the same order (loops over frames run side by side, sums do not).
"""

from __future__ import annotations

import numpy as np

from featstore.dsp.compiling import compiled

__all__ = ["running_median", "soft_mask_2"]

_COLUMNS = 256  # side by side: a window of 31 values each stays in the cache


@compiled
def running_median(rows, kernel, medians):  # type: ignore[no-untyped-def]
    """``medians[i] = median of rows[i] … rows[i + kernel - 1]``, column by column, for odd kernels.

    Each column keeps its window sorted. The new value enters and the oldest leaves in one walk of comparisons that is
    the same for all columns, so that they run side by side.
    """
    count, width = rows.shape
    window = np.empty((kernel + 1, _COLUMNS), np.float32)  # sorted; the row after the last stays infinite
    entering = np.empty(_COLUMNS, np.float32)
    for first in range(0, width, _COLUMNS):
        columns = min(_COLUMNS, width - first)
        window[:] = np.float32(np.inf)
        for i in range(count):
            row = rows[i, first : first + columns]
            for c in range(columns):
                entering[c] = row[c]
            if i < kernel:
                for k in range(i + 1):
                    level = window[k]
                    for c in range(columns):
                        a, b = level[c], entering[c]
                        level[c] = a if a < b else b
                        entering[c] = b if a < b else a
            else:
                leaving = rows[i - kernel, first : first + columns]
                for k in range(kernel):
                    level, above = window[k], window[k + 1]
                    for c in range(columns):
                        a = level[c] if level[c] < leaving[c] else above[c]  # the window without its oldest value
                        b = entering[c]
                        level[c] = a if a < b else b
                        entering[c] = b if a < b else a
            if i >= kernel - 1:
                middle = window[kernel // 2]
                target = medians[i - kernel + 1, first : first + columns]
                for c in range(columns):
                    target[c] = middle[c]


@compiled
def soft_mask_2(own, other, undecided, mask):  # type: ignore[no-untyped-def]
    """``own^2 / (own^2 + other^2)``, both divided by the larger one first; ``undecided`` where both are nothing."""
    tiny, one = np.float32(1.1754944e-38), np.float32(1)
    for i in range(own.shape[0]):
        mine, theirs, row = own[i], other[i], mask[i]
        for t in range(own.shape[1]):
            a, b = mine[t], theirs[t]
            largest = b if a < b else a
            nothing = largest < tiny
            scale = one if nothing else largest
            a, b = a / scale, b / scale
            a, b = a * a, b * b
            share = a / (one if nothing else a + b)
            row[t] = undecided if nothing else share
