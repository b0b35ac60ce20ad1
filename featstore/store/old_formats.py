"""Arrays in formats that are no longer written. Only ``featstore store convert`` reads them.

``packed11`` stored tokens in 11 bits each. Token k of a chunk takes the bits from ``11 * k`` on, least significant bit
first. Frames (or excerpts) missing at the end of a chunk take no bytes. It is converted to ``uint16``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from featstore.arrays import AnyArray
from featstore.store.layout import StoredArray

__all__ = ["PACKED11", "OldArray", "read_stored_array", "unpack_tokens"]

PACKED11 = "packed11"
_BITS, _MISSING = 11, 65535


@dataclass(frozen=True, slots=True)
class OldArray(StoredArray):
    """An array of an old encoding; its header has the encoding that replaces it.

    Attributes
    ----------
    folder : str
        Key under which the store has it.
    """

    folder: str

    @property
    def key(self) -> str:
        """Name of the array's folder."""
        return self.folder


def read_stored_array(attributes: dict[str, Any]) -> StoredArray:
    """Read the attributes of an array of any format."""
    if attributes["encoding"] != PACKED11:
        return StoredArray.from_attributes(attributes)
    new = StoredArray.from_attributes(attributes | {"encoding": "uint16"})
    return OldArray(new.header, new.layout, new.spec.key(PACKED11))


def unpack_tokens(data: Any, shape: tuple[int, ...]) -> AnyArray:
    """Decode a ``packed11`` chunk of ``shape`` (codebooks, frames) or (excerpts, codebooks, frames) to uint16.

    Raises
    ------
    ValueError
        When the number of bytes does not fit the shape.
    """
    axis = len(shape) - 1 if len(shape) <= 2 else 0  # the axis along which the array grows
    items = math.prod(shape) // shape[axis]
    count = 8 * len(data) // _BITS
    if count > math.prod(shape) or count % items or -(-count * _BITS // 8) != len(data):
        raise ValueError(f"{len(data)} bytes are no chunk of shape {shape}")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")[: count * _BITS].reshape(count, _BITS)
    tokens = np.packbits(np.pad(bits, ((0, 0), (0, 16 - _BITS))), axis=1, bitorder="little").view("<u2")
    chunk = np.full(shape, _MISSING, dtype="<u2")
    grown = np.moveaxis(chunk, axis, 0)
    grown[: count // items] = tokens.reshape(count // items, *grown.shape[1:])
    return chunk
