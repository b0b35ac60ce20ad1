"""Ranges of an encoding by dimension, for vectors whose dimensions differ in scale by orders of magnitude."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import SpecError

__all__ = ["Ranges"]


class Ranges:
    """Lowest and highest value of each place of an item, as a calibration sample had them.

    Parameters
    ----------
    low, high : float32 (*item_shape,)
        Values of the first and the last code; equal where a place never changes.
    """

    def __init__(self, low: FloatArray | Sequence[Any], high: FloatArray | Sequence[Any]) -> None:
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        if self.low.shape != self.high.shape or not bool((self.low <= self.high).all()):
            raise SpecError("the ranges of an encoding are not low <= high everywhere", "", "Measure them again")
        self.low.flags.writeable = self.high.flags.writeable = False

    @property
    def digest(self) -> str:
        """12 hexadecimal digits over the values: the name of the ranges in an encoding."""
        whole = hashlib.sha256(repr(self.low.shape).encode())
        whole.update(self.low.astype("<f4").tobytes() + self.high.astype("<f4").tobytes())
        return whole.hexdigest()[:12]

    def step(self, last: int) -> FloatArray:
        """Value between neighbouring codes of each place, float32, where ``last`` is the last valid code."""
        width = self.high.astype(np.float64) - self.low.astype(np.float64)
        step: FloatArray = (width / last).astype(np.float32)
        return step

    def encode(self, x: FloatArray, last: int) -> tuple[FloatArray, int]:
        """Codes, still float64, of values (..., *item_shape, n), and how many lay outside."""
        step = self.step(last)[..., None].astype(np.float64)
        codes = np.rint((x.astype(np.float64) - self.low[..., None]) / np.where(step > 0, step, 1.0))
        outside = int(np.count_nonzero((codes < 0) | (codes > last)))
        return np.clip(codes, 0, last), outside

    def decode(self, codes: Any, last: int, xp: Any = np) -> Any:
        """Values float32 of codes (..., *item_shape, n), numpy or torch."""
        step, low = self.step(last)[..., None], self.low[..., None]
        if xp is np:
            return codes.astype(np.float32) * step + low
        steps, lows = (xp.from_numpy(each.copy()).to(codes.device) for each in (step, low))
        return codes.to(xp.float32) * steps + lows
