"""TokenFormer: the transformer of Kamuni et al. 2024 on the tokens of a neural codec.

Origin: S. P. Kamuni et al., arXiv 2404.01058. A hidden position shows the id MASK, as in BERT. The tokens of a position
(``group`` of them, of one or several codebooks) have a table each, whose rows are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import nn

from featstore.models.transformer_trunk import Former, FormerConfig, FrontEnd, grouped

__all__ = ["TokenFormer", "TokenFormerConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFormerConfig(FormerConfig):
    """Settings of the TokenFormer: those of the trunk, and what the codec gives.

    Parameters
    ----------
    n_codes : int > 0
        Codes of a codebook: ids run from 0 to ``n_codes - 1``; two more stand for padding and for what is hidden.
    n_codebooks : int > 0
        Tokens of one frame.
    """

    n_codes: int
    n_codebooks: int = 1

    place: ClassVar[str] = "tokenformer"


class _Ids(FrontEnd):
    """Tokens through one table per place in the group and codebook; the rows of a position are added."""

    def __init__(self, config: TokenFormerConfig) -> None:
        super().__init__(config)
        self.pad_id, self.mask_id, self.n_rows = config.n_codes, config.n_codes + 1, config.n_codes + 2
        self.tables = nn.Embedding(config.group * config.n_codebooks * self.n_rows, self.width)

    def embed(self, x: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        ids = grouped(x, self.group).flatten(2).long()  # (batch, positions, group x codebooks)
        ids = torch.where(ids < 0, self.pad_id, ids)  # missing in a store
        if hidden is not None:
            ids = torch.where(hidden[..., None], self.mask_id, ids)
        first_row = torch.arange(ids.shape[-1], device=ids.device) * self.n_rows
        return cast("torch.Tensor", self.tables(ids + first_row).sum(dim=2))


class TokenFormer(Former):
    """A transformer over a codec's tokens, joined in groups.

    Input whole numbers ``(batch, n_codebooks, tokens)``; output logits ``(batch, n_classes)``.
    """

    Config: ClassVar[type[TokenFormerConfig]] = TokenFormerConfig
    takes: ClassVar[str] = "tokens"
    input_norm: ClassVar[Literal["band", "global", "none"]] = "none"
    paper_input: ClassVar[dict[str, int] | None] = {"n_codebooks": 1, "n_frames": 2048}

    config: TokenFormerConfig

    def __init__(self, config: TokenFormerConfig) -> None:
        super().__init__(config, _Ids(config))

    def tables(self) -> torch.Tensor:
        """All tables as ``(group, n_codebooks, n_codes + 2, width)``: a view of the weights."""
        rows = cast("_Ids", self.front).tables.weight
        return rows.reshape(self.config.group, self.config.n_codebooks, -1, self.width)
