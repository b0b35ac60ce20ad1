"""MUSICNN as published in the package ``musicnn``: smaller than the study's, densely connected, with trained weights.

Origin: J. Pons, X. Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", ISMIR 2019
late-breaking; the package ``musicnn`` 0.1.0. Written from facts about its graph; ``musicnn_weights`` brings its trained
weights in, and the test room holds an independent forward pass in float64.

What must not be improved, or the trained weights mean something else: eps 1e-3, ReLU before the norm, the residual
added after the norm, even kernels padded by one more zero on the right, maxima and means of the channels interleaved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn
from torch.nn import functional

from featstore.models.interface import InnerLayer, InputNormalisation, Model
from featstore.models.layers import init_glorot, norm_1d, norm_2d
from featstore.models.model_config import SpectrumConfig
from featstore.models.musicnn import Branch, Convolution

__all__ = ["BigPackagedMusicnn", "BigPackagedMusicnnConfig", "PackagedMusicnn", "PackagedMusicnnConfig"]

TIMBRAL_HEIGHTS = (0.4, 0.7)
TIMBRAL_FILTERS, TIMBRAL_FRAMES = 204, 7
TEMPORAL_FILTERS, TEMPORAL_FRAMES = 51, (128, 64, 32)
MID_FRAMES = 7  # of the convolutions of the mid-end, the first of which is not padded


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedMusicnnConfig(SpectrumConfig):
    """Settings of the packaged MUSICNN.

    Parameters
    ----------
    n_mels, n_frames, n_classes : int > 0
        Size of one input and of the output; the weights were trained on 96 bands and 187 frames. Any number of frames
        works, with the same weights.
    channels, dense : int > 0
        Filters of each convolution of the mid-end, and size of the hidden layer.
    dropout : float in [0, 1)
    norm_momentum : float in (0, 1]
    """

    channels: int = 64
    dense: int = 200
    dropout: float = 0.5
    norm_momentum: float = 0.01

    place: ClassVar[str] = "packaged musicnn"
    least: ClassVar[Mapping[str, int]] = {"n_mels": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class BigPackagedMusicnnConfig(PackagedMusicnnConfig):
    """Settings of the larger published network."""

    channels: int = 512
    dense: int = 500


class PackagedMusicnn(Model):
    """Two timbral and three temporal front ends, three convolutions over time, all of them pooled over time.

    Input float32 ``(batch, 1, n_mels, frames)`` on the scale ``log10_1p``, output logits ``(batch, n_classes)``. At 96
    bands and 50 classes it has 787,159 parameters (the big one 7,980,235).
    """

    Config: ClassVar[type[PackagedMusicnnConfig]] = PackagedMusicnnConfig
    input_norm: ClassVar[InputNormalisation] = "none"  # it brings its own
    any_length: ClassVar[bool] = True
    least_length = MID_FRAMES
    usual_layers: ClassVar[str] = "penultimate"
    paper_input: ClassVar[dict[str, int] | None] = {"n_mels": 96, "n_frames": 187}

    def __init__(self, config: PackagedMusicnnConfig) -> None:
        super().__init__(config)
        momentum = config.norm_momentum
        self.norm = norm_2d(1, momentum)
        self.timbral = nn.ModuleList(
            Branch(int(share * config.n_mels), TIMBRAL_FRAMES, TIMBRAL_FILTERS, momentum) for share in TIMBRAL_HEIGHTS
        )
        self.temporal = nn.ModuleList(Branch(1, frames, TEMPORAL_FILTERS, momentum) for frames in TEMPORAL_FRAMES)
        n_front = len(self.timbral) * TIMBRAL_FILTERS + len(self.temporal) * TEMPORAL_FILTERS
        self.mid = nn.ModuleList(
            Convolution(nn.Conv1d(inputs, config.channels, 7, padding=3), momentum)
            for inputs in (n_front, config.channels, config.channels)
        )
        n_pooled = 2 * (n_front + 3 * config.channels)
        self.dropout = nn.Dropout(config.dropout)
        self.pooled_norm = norm_1d(n_pooled, momentum)
        self.hidden = nn.Linear(n_pooled, config.dense)
        self.hidden_norm = norm_1d(config.dense, momentum)
        self.output = nn.Linear(config.dense, config.n_classes)
        init_glorot(self)

    def activations(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the package calls features, by its names, of each input by itself.

        Parameters
        ----------
        x : float32 (batch, 1, n_mels, frames)

        Returns
        -------
        dict of float32
            ``timbral`` (batch, 408, frames), ``temporal`` (batch, 153, frames), ``cnn1``, ``cnn2``, ``cnn3`` (batch,
            channels, frames), ``max_pool`` and ``mean_pool`` (batch, 561 + 3 channels), ``penultimate`` (batch, dense).
        """
        x = self.norm(x)
        timbral = torch.cat([branch(x) for branch in self.timbral], dim=1)
        temporal = torch.cat([branch(x) for branch in self.temporal], dim=1)
        front = torch.cat([timbral, temporal], dim=1)
        cnn1 = self.mid[0](front)
        cnn2 = self.mid[1](cnn1) + cnn1
        cnn3 = self.mid[2](cnn2) + cnn2
        every = torch.cat([front, cnn1, cnn2, cnn3], dim=1)
        maxima, means = every.amax(dim=2), every.mean(dim=2)
        pooled = torch.stack([maxima, means], dim=2).flatten(1)  # max of channel 0, mean of channel 0, max of 1, …
        hidden = functional.relu(self.hidden(self.dropout(self.pooled_norm(pooled))))
        penultimate = self.hidden_norm(hidden)
        return {
            "timbral": timbral,
            "temporal": temporal,
            "cnn1": cnn1,
            "cnn2": cnn2,
            "cnn3": cnn3,
            "max_pool": maxima,
            "mean_pool": means,
            "penultimate": penultimate,
        }

    def inner_layers(self) -> dict[str, InnerLayer]:
        """Layers by the package's names."""
        front = {"timbral": 2 * TIMBRAL_FILTERS, "temporal": len(self.temporal) * TEMPORAL_FILTERS}
        frames = front | dict.fromkeys(("cnn1", "cnn2", "cnn3"), self.config.channels)
        pooled = sum(frames.values())
        found = {name: InnerLayer(width, 1) for name, width in frames.items()}
        found |= {"max_pool": InnerLayer(pooled), "mean_pool": InnerLayer(pooled)}
        return found | {"penultimate": InnerLayer(self.config.dense)}

    def inner_values(self, x: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the package calls features; see :meth:`activations`."""
        return self.activations(x)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate layer ``(batch, dense)`` of ``(batch, 1, n_mels, frames)``, behind the dropout."""
        return cast("torch.Tensor", self.dropout(self.activations(x)["penultimate"]))


class BigPackagedMusicnn(PackagedMusicnn):
    """The larger published network."""

    Config = BigPackagedMusicnnConfig
