"""The VGG-like network of the package ``musicnn``: five blocks of 128 filters. It is not the study's VGG-CNN.

Origin: the package ``musicnn`` 0.1.0 (J. Pons, X. Serra, 2019), after K. Choi et al. 2016. Written from facts about its
graph; ``musicnn_weights`` brings its trained weights in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

from featstore.models.interface import InputNormalisation, Model
from featstore.models.layers import init_glorot, norm_2d
from featstore.models.model_config import SpectrumConfig

__all__ = ["PackagedVgg", "PackagedVggConfig"]

N_BLOCKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedVggConfig(SpectrumConfig):
    """Settings of the packaged VGG.

    Parameters
    ----------
    n_mels, n_frames, n_classes : int > 0
        Size of one input and of the output; the weights were trained on 96 bands and 187 frames, and fit only those.
        On smaller inputs the last pool, 4 x 4, shrinks to what is left.
    filters : int > 0
        Of every block.
    dropout : float in [0, 1)
        Before the output layer; behind the first four pools it is half of that.
    norm_momentum : float in (0, 1]
    """

    filters: int = 128
    dropout: float = 0.5
    norm_momentum: float = 0.01

    place: ClassVar[str] = "packaged vgg"
    least: ClassVar[Mapping[str, int]] = {"n_mels": 16, "n_frames": 18}

    @property
    def last_map(self) -> tuple[int, int]:
        """Bands and frames that reach the last pool."""
        bands, frames = (self.n_mels - 1) // 2 + 1, (self.n_frames - 4) // 2 + 1
        return bands // 8, frames // 8


class PackagedVgg(Model):
    """Batch norm, five blocks [convolution 3 x 3, ReLU, batch norm, max pool], one linear layer.

    Input float32 ``(batch, 1, n_mels, n_frames)`` on the scale ``log10_1p``, output logits ``(batch, n_classes)``. At
    96 bands, 187 frames and 50 classes it has 605,748 parameters.
    """

    Config: ClassVar[type[PackagedVggConfig]] = PackagedVggConfig
    input_norm: ClassVar[InputNormalisation] = "none"  # it brings its own
    paper_input: ClassVar[dict[str, int] | None] = {"n_mels": 96, "n_frames": 187}

    def __init__(self, config: PackagedVggConfig) -> None:
        super().__init__(config)
        bands, frames = config.last_map
        last = (min(4, bands), min(4, frames))
        pools = [nn.MaxPool2d((1, 4), stride=2), *(nn.MaxPool2d(2) for _ in range(3)), nn.MaxPool2d(last)]
        self.norm = norm_2d(1, config.norm_momentum)
        self.blocks = nn.Sequential()
        for i, pool in enumerate(pools):
            block = nn.Sequential(
                nn.Conv2d(config.filters if i else 1, config.filters, 3, padding=1),
                nn.ReLU(),
                norm_2d(config.filters, config.norm_momentum),
                pool,
                nn.Dropout(config.dropout if i == N_BLOCKS - 1 else config.dropout / 2),
            )
            self.blocks.append(block)
        self.output = nn.Linear((bands // last[0]) * (frames // last[1]) * config.filters, config.n_classes)
        init_glorot(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Last map, flat, of ``(batch, 1, n_mels, n_frames)``."""
        # the published weights count frames first, then bands, then filters
        return cast("torch.Tensor", self.blocks(self.norm(x)).permute(0, 3, 2, 1).flatten(1))
