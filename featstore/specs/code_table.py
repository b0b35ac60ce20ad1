"""Code vectors by token: a gather, in numpy or on whatever device the tokens are."""

from __future__ import annotations

from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import StoreError

__all__ = ["CodeTable"]


class CodeTable:
    """Code vectors of all codebooks of a codec.

    Parameters
    ----------
    vectors : float32 (codebooks, codes, width)
    """

    def __init__(self, vectors: FloatArray) -> None:
        vectors = np.asarray(vectors, dtype=np.float32)
        if vectors.ndim != 3:
            raise StoreError(f"code vectors of shape {vectors.shape} are not (codebooks, codes, width)", "", "")
        self.vectors: FloatArray = vectors
        missing = np.full((vectors.shape[0], 1, vectors.shape[2]), np.nan, np.float32)
        self._padded: FloatArray = np.concatenate([vectors, missing], axis=1)
        self._on_device: dict[Any, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return CodeTable, (self.vectors,)

    def look_up(self, tokens: Any, combine: str, xp: Any = np) -> Any:
        """Vectors float32 (…, width, frames) of tokens (…, codebooks, frames); NaN where a token is -1 (missing).

        Parameters
        ----------
        tokens : array or tensor of whole numbers
        combine : str
            ``sum`` adds the codebooks' vectors, ``concat`` puts them one after the other.
        """
        books, codes = self.vectors.shape[:2]
        if tokens.shape[-2] > books:
            raise StoreError(f"tokens of {tokens.shape[-2]} codebooks, but code vectors of {books}", "", "")
        used = tokens.shape[-2]
        if xp is np:
            tokens = np.where(tokens < 0, codes, tokens)
            parts = [np.moveaxis(self._padded[book][tokens[..., book, :]], -1, -2) for book in range(used)]
            return np.ascontiguousarray(
                sum(parts[1:], parts[0]) if combine == "sum" else np.concatenate(parts, axis=-2)
            )
        table = self._tensor(tokens.device, xp)
        index = xp.where(tokens < 0, codes, tokens).long()
        parts = [xp.nn.functional.embedding(index[..., book, :], table[book]).movedim(-1, -2) for book in range(used)]
        return sum(parts[1:], parts[0]).contiguous() if combine == "sum" else xp.cat(parts, dim=-2)

    def _tensor(self, device: Any, torch: Any) -> Any:
        if device not in self._on_device:
            self._on_device[device] = torch.from_numpy(self._padded).to(device)
        return self._on_device[device]
