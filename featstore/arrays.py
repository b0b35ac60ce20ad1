"""Names for the plain arrays that rooms exchange. Time is the last axis of every one of them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["AnyArray", "FloatArray", "IntArray"]

FloatArray: TypeAlias = npt.NDArray[np.float32]  # audio (channels, n_samples), spectra (..., bands, frames)
IntArray: TypeAlias = npt.NDArray[np.int64]  # lengths, rows
AnyArray: TypeAlias = npt.NDArray[Any]  # stored values in their encoding
