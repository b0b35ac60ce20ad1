"""A small encoder of time: one vector a frame, for pretraining and as a plain classifier.

Not from a paper: a baseline with the interface of models that can be pretrained. Residual blocks of dilated
convolutions over time see the bands as channels; every frame keeps its place, so that hidden frames can be predicted
where they were. The classes are read from the mean over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.interface import FEATURES, InnerLayer, SequenceModel
from featstore.models.model_config import SpectrumConfig

__all__ = ["ConvEncoder", "ConvEncoderConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvEncoderConfig(SpectrumConfig):
    """Settings of the encoder.

    Parameters
    ----------
    n_mels, n_frames, n_classes : int > 0
        Size of one input and of the output; any number of frames works with the same weights.
    in_channels : int > 0
        Spectra of one input, stacked.
    width : int > 0
        Length of the vector of a frame.
    blocks : int > 0
        Residual blocks; the dilation doubles from each to the next.
    kernel : odd int
        Frames of one convolution.
    dropout : float in [0, 1)
        Before the classes.
    """

    in_channels: int = 1
    width: int = 64
    blocks: int = 4
    kernel: int = 5
    dropout: float = 0.1

    place: ClassVar[str] = "conv-encoder"

    def _resolve(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel} is even", self.place, "Use an odd number: it has a middle")


class _Block(nn.Module):
    """Norm over the vector of each frame, dilated convolution, GELU, convolution of one frame; added to the input."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, width, frames)`` to the same."""
        normed = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return cast("torch.Tensor", x + self.mix(functional.gelu(self.spread(normed))))


class ConvEncoder(SequenceModel):
    """A vector a frame from residual blocks of dilated convolutions over time; mean over time, one linear layer.

    Attributes
    ----------
    config : ConvEncoderConfig
    width : int
        Length of the vector of a position.
    frames_per_position : int
        Frames of the input that one position stands for.
    """

    Config: ClassVar[type[ConvEncoderConfig]] = ConvEncoderConfig
    any_length: ClassVar[bool] = True
    least_length = 1
    frames_per_position = 1

    def __init__(self, config: ConvEncoderConfig) -> None:
        super().__init__(config)
        self.width = config.width
        self.stem = nn.Conv1d(config.in_channels * config.n_mels, config.width, 1)
        self.blocks = nn.Sequential(*(_Block(config.width, config.kernel, 2**k) for k in range(config.blocks)))
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.width, config.n_classes)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors ``(batch, width, n_frames)`` of an input ``(batch, in_channels, n_mels, n_frames)``."""
        return cast("torch.Tensor", self.blocks(self.stem(x.flatten(1, 2))))

    def inner_layers(self) -> dict[str, InnerLayer]:
        """Vectors of frames (``frames``), and their mean."""
        return {"frames": InnerLayer(self.width, 1)} | super().inner_layers()

    def inner_values(self, x: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Vectors ``(batch, width, frames)``, and their mean ``(batch, width)``."""
        frames = self.encode(x)
        return {"frames": frames, FEATURES: self.dropout(frames.mean(dim=2))}

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Mean over time ``(batch, width)``, behind the dropout."""
        return cast("torch.Tensor", self.dropout(self.encode(x).mean(dim=2)))
