"""The Zarr v3 codec ``featstore.packed``, found by zarr through its entry point wherever featstore is installed.

No codec of zarr, numcodecs or the Zarr extensions packs 11-bit numbers (the extensions' ``packbits`` is for types of up
to 4 bits, numcodecs' for booleans), so this one option needs featstore to be read with plain zarr.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer

from featstore.errors import StoreError
from featstore.store.packing import pack_chunk, unpack_chunk

__all__ = ["PackedCodec"]


@dataclass(frozen=True)
class PackedCodec(ArrayBytesCodec):
    """Chunks of uint16 numbers with ``bits`` bits each.

    Attributes
    ----------
    bits : int
        9 to 16.
    axis : int
        Slices along it are packed one after the other; those that are missing at its end take nothing.
    """

    is_fixed_size = False
    bits: int = 11
    axis: int = 2

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PackedCodec:
        """Read the codec's metadata."""
        settings = data.get("configuration", {})
        bits, axis = settings.get("bits"), settings.get("axis")
        if not isinstance(bits, int) or not 9 <= bits <= 16:
            raise StoreError(f"featstore.packed with bits={bits!r}", "", "Allowed: 9 to 16")
        if not isinstance(axis, int) or axis < 0:
            raise StoreError(f"featstore.packed with axis={axis!r}", "", "Give the number of an axis")
        return cls(bits, axis)

    def to_dict(self) -> dict[str, Any]:
        """Metadata of the codec."""
        return {"name": "featstore.packed", "configuration": {"bits": self.bits, "axis": self.axis}}

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        values = unpack_chunk(chunk_bytes.to_bytes(), self.bits, chunk_spec.shape, self.axis)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(values)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        packed = pack_chunk(np.asarray(chunk_array.as_numpy_array()), self.bits, self.axis)
        return chunk_spec.prototype.buffer.from_bytes(packed)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before packing."""
        raise NotImplementedError
