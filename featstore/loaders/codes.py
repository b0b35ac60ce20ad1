"""From stored codes to values: a table for integer codes, arithmetic for floats; and what no valid code may be."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.specs import Encoding, View

__all__ = ["Decoder", "first_hole", "torch_dtype"]

_UNSIGNED = {1: np.uint8, 2: np.uint16}


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Torch's name for a stored numpy type."""
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype


class Decoder:
    """Codes of one feature to float32 values on its scale.

    An integer type of 8 or 16 bits has so few codes that a table holds the value of each, the view's logarithm
    included: decoding is one look-up, and gives the same bits on every device and in every tier.

    Parameters
    ----------
    encoding : Encoding
        How the base is stored.
    view : View
        Elementwise part of the view on it.

    Attributes
    ----------
    fill : float or int
        Code that stands for *missing*.
    has_table : bool
        Whether codes are looked up, so that host memory can hold values instead of codes at no more work.
    """

    def __init__(self, encoding: Encoding, view: View) -> None:
        self.encoding, self.view = encoding, view
        # read once: every crop needs them, and the encoding takes some microseconds to work each out
        self.dtype: np.dtype[Any] = encoding.dtype
        self.fill = encoding.fill_value
        # tokens are values themselves, or rows of a codebook
        self.has_table = self.dtype.kind in "iu" and self.dtype.itemsize in _UNSIGNED and not encoding.is_tokens
        self.has_table &= not encoding.ranges  # a code means another value in each dimension
        self._device_tables: dict[torch.device, torch.Tensor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Decoder, (self.encoding, self.view)

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """Value of every code, by its bits read as an unsigned number; NaN for the fill code."""
        bits = np.arange(1 << (8 * self.dtype.itemsize), dtype=_UNSIGNED[self.dtype.itemsize])
        with np.errstate(all="ignore"):  # codes that are never stored may have no value on the view's scale
            return np.asarray(self.view.apply(self.encoding.decode(bits.view(self.dtype))), dtype=np.float32)

    @cached_property
    def host_table(self) -> tuple[str, NDArray[np.float32]]:
        """How compiled code gets values, and from which numbers: ``looked_up``; factor and offset where ``scaled``."""
        if self.view.after is not None or not self.encoding.is_affine:
            return "looked_up", self.table
        scale = self.encoding.scale_factor, self.encoding.add_offset  # gives the table's bits, and is faster
        return "scaled_signed" if self.dtype.kind == "i" else "scaled", np.array(scale, dtype=np.float32)

    def values(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode a tensor of codes, any shape, on its device."""
        if not self.has_table:
            decoded: torch.Tensor = self.view.apply(self.encoding.decode(codes, xp=torch), xp=torch)
            return decoded
        table = self._device_tables.get(codes.device)
        if table is None:
            table = self._device_tables[codes.device] = torch.from_numpy(self.table).to(codes.device)
        bits = codes.view(torch.uint16) if codes.dtype == torch.int16 else codes
        return table[bits.to(torch.int32)]


def first_hole(codes: NDArray[Any], fill: float) -> int | None:
    """Frame (last axis) of the first code that stands for *missing*, NaN or ``fill`` in an integer type, or None."""
    holes = np.isnan(codes) if codes.dtype.kind == "f" else codes == fill
    frames = np.flatnonzero(holes.any(axis=tuple(range(codes.ndim - 1))))
    return int(frames[0]) if len(frames) else None
