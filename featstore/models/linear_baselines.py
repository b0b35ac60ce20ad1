"""Logistic regression on what a clip holds on average: what a sequence model has to beat.

Not from a paper. A transformer on tokens that scores below their histogram has not been trained well, whatever the
tokens are worth; so the comparison of Kamuni et al. 2024 is run beside these. Order in time plays no part, but for
pairs of neighbouring tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import nn

from featstore.models.interface import Model
from featstore.models.layers import real_frames
from featstore.models.model_config import ModelConfig, SpectrumConfig

__all__ = [
    "CodeStatistics",
    "CodeStatisticsConfig",
    "FrameStatistics",
    "FrameStatisticsConfig",
    "TokenHistogram",
    "TokenHistogramConfig",
]

_FACTOR = 2_654_435_761  # Knuth's multiplier for hashing by multiplication


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHistogramConfig(ModelConfig):
    """Settings of the regression on histograms.

    Parameters
    ----------
    n_codebooks, n_frames, n_codes, n_classes : int > 0
        Size of one input (any number of frames works) and of the output.
    neighbours : {1, 2}
        Count tokens, or pairs of neighbouring ones.
    buckets : int > 0
        Pairs are hashed into as many counters, for each codebook.
    """

    n_codebooks: int
    n_frames: int
    n_codes: int
    neighbours: Literal[1, 2] = 1
    buckets: int = 4096

    place: ClassVar[str] = "token-histogram"


class _Linear(Model):
    """Features of a clip, standardised over the training clips, and one linear layer."""

    any_length: ClassVar[bool] = True
    takes_lengths: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, n_features: int) -> None:
        super().__init__(config)
        # momentum None: the plain mean over all batches so far, as a regression on stored features would standardise
        self.standard = nn.BatchNorm1d(n_features, affine=False, momentum=None, eps=1e-8)
        self.output = nn.Linear(n_features, config.n_classes)


class TokenHistogram(_Linear):
    """Logistic regression on how often a clip has each token, or each pair of neighbouring ones.

    Input int64 ``(batch, n_codebooks, tokens)``; output logits ``(batch, n_classes)``.
    """

    Config: ClassVar[type[TokenHistogramConfig]] = TokenHistogramConfig
    takes: ClassVar[str] = "tokens"
    input_norm: ClassVar[Literal["band", "global", "none"]] = "none"

    config: TokenHistogramConfig

    def __init__(self, config: TokenHistogramConfig) -> None:
        self.width = config.n_codes if config.neighbours == 1 else config.buckets
        super().__init__(config, config.n_codebooks * self.width)

    def forward_features(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Square roots of the shares of each token: distances between them are Hellinger's."""
        weights = real_frames(x, lengths)
        if self.config.neighbours == 2:
            mixed = (x[..., :-1] * self.config.n_codes + x[..., 1:]) * _FACTOR % 2**32
            x, weights = mixed * self.width // 2**32, weights[:, 1:]
        weights = weights[:, None].expand(x.shape).to(torch.float32)
        counts = torch.zeros(*x.shape[:2], self.width, device=x.device).scatter_add(-1, x, weights)
        shares = counts / weights.sum(dim=-1, keepdim=True).clamp(min=1)
        return cast("torch.Tensor", self.standard(shares.sqrt().flatten(1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStatisticsConfig(SpectrumConfig):
    """Sizes of the regression on statistics of spectra.

    Parameters
    ----------
    n_mels, n_frames, n_classes, in_channels : int > 0
        Size of one input (any number of frames works) and of the output.
    """

    in_channels: int = 1

    place: ClassVar[str] = "frame-statistics"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeStatisticsConfig(ModelConfig):
    """Sizes of the regression on statistics of code vectors.

    Parameters
    ----------
    n_dims, n_frames, n_classes : int > 0
        Size of one input (any number of frames works) and of the output.
    """

    n_dims: int
    n_frames: int

    place: ClassVar[str] = "code-statistics"


class _Statistics(_Linear):
    def forward_features(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean and deviation of each value over time."""
        frames = x.flatten(1, -2)
        weights = real_frames(frames, lengths)[:, None].to(frames.dtype)
        count = weights.sum(dim=-1).clamp(min=1)
        mean = (frames * weights).sum(dim=-1) / count
        variance = ((frames - mean[..., None]).square() * weights).sum(dim=-1) / count
        return cast("torch.Tensor", self.standard(torch.cat([mean, (variance + 1e-8).sqrt()], dim=1)))


class FrameStatistics(_Statistics):
    """Logistic regression on mean and deviation of each band.

    Input float32 ``(batch, in_channels, n_mels, frames)``; output logits ``(batch, n_classes)``.
    """

    Config: ClassVar[type[FrameStatisticsConfig]] = FrameStatisticsConfig

    def __init__(self, config: FrameStatisticsConfig) -> None:
        super().__init__(config, 2 * config.in_channels * config.n_mels)


class CodeStatistics(_Statistics):
    """Logistic regression on mean and deviation of each value of a code vector.

    Input float32 ``(batch, n_dims, tokens)``; output logits ``(batch, n_classes)``.
    """

    Config: ClassVar[type[CodeStatisticsConfig]] = CodeStatisticsConfig
    takes: ClassVar[str] = "vectors"

    def __init__(self, config: CodeStatisticsConfig) -> None:
        super().__init__(config, 2 * config.n_dims)
