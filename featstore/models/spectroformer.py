"""SpectroFormer: the transformer of Kamuni et al. 2024 on spectrogram frames; CodebookFormer: on code vectors.

Origin: S. P. Kamuni et al., arXiv 2404.01058. Both embed vectors of numbers with one linear map; a hidden position
shows a learned vector in place of its own (in Mockingjay, zeros of the input).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

from featstore.models.transformer_trunk import Former, FormerConfig, FrontEnd, grouped

__all__ = ["CodebookFormer", "CodebookFormerConfig", "SpectroFormer", "SpectroFormerConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectroFormerConfig(FormerConfig):
    """Settings of the SpectroFormer: those of the trunk, and the size of a frame.

    Parameters
    ----------
    n_mels : int > 0
        Values of a frame.
    in_channels : int > 0
        Spectra of one input, stacked: a mel-spectrogram, or with it the phase in the same bands.
    """

    n_mels: int
    in_channels: int = 1

    place: ClassVar[str] = "spectroformer"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodebookFormerConfig(FormerConfig):
    """Settings of the CodebookFormer: those of the trunk, and the values of a code vector.

    Parameters
    ----------
    n_dims : int > 0
        Values of one frame, all codebooks together.
    """

    n_dims: int

    place: ClassVar[str] = "codebookformer"


class _Vectors(FrontEnd):
    """Frames of numbers ``(batch, ..., frames)``, ``group`` of them side by side, through one linear map."""

    def __init__(self, config: FormerConfig, n_values: int) -> None:
        super().__init__(config)
        self.map = nn.Linear(config.group * n_values, self.width)
        self.mask = nn.Parameter(torch.empty(self.width))
        nn.init.normal_(self.mask, std=0.02)

    def embed(self, x: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        vectors = self.map(grouped(x.flatten(1, -2), self.group).flatten(2))
        if hidden is not None:
            vectors = torch.where(hidden[..., None], self.mask.to(vectors.dtype), vectors)
        return cast("torch.Tensor", vectors)


class SpectroFormer(Former):
    """A transformer over spectrogram frames, joined in groups.

    Input float32 ``(batch, in_channels, n_mels, frames)``; output logits ``(batch, n_classes)``.
    """

    Config: ClassVar[type[SpectroFormerConfig]] = SpectroFormerConfig
    paper_input: ClassVar[dict[str, int] | None] = {"n_mels": 64, "n_frames": 2048}  # 5.94 s of a frame per token

    def __init__(self, config: SpectroFormerConfig) -> None:
        super().__init__(config, _Vectors(config, config.in_channels * config.n_mels))


class CodebookFormer(Former):
    """The same transformer on the code vectors of a codec's tokens, standardised by dimension.

    Input float32 ``(batch, n_dims, tokens)``: the feature ``vq_codes``; vectors of several codebooks are added or put
    one after the other, as the feature says. Output logits ``(batch, n_classes)``.
    """

    Config: ClassVar[type[CodebookFormerConfig]] = CodebookFormerConfig
    takes: ClassVar[str] = "vectors"
    paper_input: ClassVar[dict[str, int] | None] = {"n_dims": 64, "n_frames": 2048}

    def __init__(self, config: CodebookFormerConfig) -> None:
        super().__init__(config, _Vectors(config, config.n_dims))
