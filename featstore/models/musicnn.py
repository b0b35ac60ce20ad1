"""MUSICNN as the resolution study describes it: filters shaped after timbre and rhythm, then convolutions over time.

Origin: J. Pons, O. Nieto, M. Prockup, E. Schmidt, A. Ehmann, X. Serra, "End-to-end learning for music audio tagging at
scale", ISMIR 2018; A. Ferraro et al., EUSIPCO 2020, who changed the numbers of filters. Written from those facts.

The scripts that were released with the 2020 study have the two axes of the input swapped (its long kernels span time,
its "temporal" ones slide over bands, its last pool reduces channels). This is the network that both papers describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.interface import InputNormalisation, Model
from featstore.models.layers import SameConv1d, init_fan_in, norm_1d, norm_2d, pad_time
from featstore.models.model_config import SpectrumConfig

__all__ = [
    "AtScaleMusicnn",
    "AtScaleMusicnnConfig",
    "Branch",
    "Convolution",
    "Musicnn",
    "MusicnnConfig",
    "SixteenMusicnn",
    "SixteenMusicnnConfig",
]

TIMBRAL_HEIGHTS = (0.9, 0.4)  # of all bands
TIMBRAL_FRAMES = (7, 3, 1)
TEMPORAL_FRAMES = (165, 128, 64, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class MusicnnConfig(SpectrumConfig):
    """Settings of MUSICNN; the defaults are those of the study on MagnaTagATune.

    Parameters
    ----------
    n_mels, n_frames, n_classes : int > 0
        Size of one input and of the output. The study means 3 s: 187 frames at 16 kHz, 140 at 12 kHz, hop 256 (its
        scripts took 128 frames). Any number from 8 on works, with the same weights.
    filters : int > 0
        The unit F of the front end: 32 for MagnaTagATune, 16 for the Million Song Dataset.
    timbral : three int > 0
        Filters of 7, 3 and 1 frames in units of F, at each of two heights (0.9 and 0.4 of the bands).
    temporal : four int > 0
        Filters of 165, 128, 64 and 32 frames in units of F, on the mean over bands.
    channels, dense : int > 0
        Filters of the three convolutions behind, and size of the hidden layer.
    width : float > 0
        Factor on filters, channels and hidden layer, for runs on small machines.
    dropout : float in [0, 1)
    norm_momentum : float in (0, 1]
        Share of the newest batch in the running statistics of the batch norms.
    """

    filters: int = 32
    timbral: tuple[int, ...] = (2, 4, 8)
    temporal: tuple[int, ...] = (1, 1, 1, 1)
    channels: int = 512
    dense: int = 500
    width: float = 1.0
    dropout: float = 0.5
    norm_momentum: float = 0.01

    place: ClassVar[str] = "musicnn"
    # 0.4 of two bands is none; the first convolution of the back end takes 6 frames, its pool halves the rest
    least: ClassVar[Mapping[str, int]] = {"n_mels": 3, "n_frames": 8}

    def _resolve(self) -> None:
        for name, kernels in (("timbral", TIMBRAL_FRAMES), ("temporal", TEMPORAL_FRAMES)):
            units = getattr(self, name)
            if len(units) != len(kernels) or min(units) < 1:
                raise ConfigError(f"{name}={units} are not {len(kernels)} positive whole numbers", self.place)

    def scaled(self, size: int) -> int:
        """``size`` filters at this width, at least one."""
        return max(1, round(size * self.width))


@dataclass(frozen=True, slots=True, kw_only=True)
class SixteenMusicnnConfig(MusicnnConfig):
    """The study's settings for the Million Song Dataset: half the filters in the front end."""

    filters: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AtScaleMusicnnConfig(MusicnnConfig):
    """Settings of Pons et al. 2018: fewer timbral and more temporal filters."""

    filters: int = 16
    timbral: tuple[int, ...] = (1, 2, 4)
    temporal: tuple[int, ...] = (1, 2, 4, 8)


class Branch(nn.Module):
    """Kernels of ``height`` bands and ``frames`` frames; the largest response over all positions along the bands."""

    def __init__(self, height: int, frames: int, filters: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, filters, (height, frames))
        self.norm = norm_2d(filters, momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, 1, bands, frames)`` to ``(batch, filters, frames)``."""
        found: torch.Tensor = self.norm(functional.relu(self.conv(pad_time(x, self.conv.kernel_size[1]))))
        return found.amax(dim=2)


class Convolution(nn.Module):
    """Convolution over time, ReLU, batch norm."""

    def __init__(self, conv: nn.Conv1d, momentum: float) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm_1d(conv.out_channels, momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in, frames)`` to ``(batch, out, frames)``."""
        return cast("torch.Tensor", self.norm(functional.relu(self.conv(x))))


class Musicnn(Model):
    """Timbral and temporal filters side by side, three convolutions with two residual links, two dense layers.

    Input float32 ``(batch, 1, n_mels, frames)``, output logits ``(batch, n_classes)``. At 96 bands and 50 classes it
    has 8,033,622 parameters (6,123,398 with 16 filters; 5,926,198 as of 2018).
    """

    Config: ClassVar[type[MusicnnConfig]] = MusicnnConfig
    input_norm: ClassVar[InputNormalisation] = "none"  # the study feeds features as they are
    any_length: ClassVar[bool] = True
    least_length = 7  # frames of the first convolution, which is not padded
    paper_input: ClassVar[dict[str, int] | None] = {"n_mels": 96, "n_frames": 187}

    def __init__(self, config: MusicnnConfig) -> None:
        super().__init__(config)
        momentum, unit = config.norm_momentum, config.filters
        self.timbral = nn.ModuleList(
            Branch(int(share * config.n_mels), frames, config.scaled(unit * units), momentum)
            for share in TIMBRAL_HEIGHTS
            for frames, units in zip(TIMBRAL_FRAMES, config.timbral, strict=True)
        )
        self.temporal = nn.ModuleList(
            Convolution(SameConv1d(1, config.scaled(unit * units), frames), momentum)
            for frames, units in zip(TEMPORAL_FRAMES, config.temporal, strict=True)
        )
        front = [*self.timbral, *self.temporal]
        n_front = sum(branch.conv.out_channels for branch in front)
        channels, dense = config.scaled(config.channels), config.scaled(config.dense)
        self.first = Convolution(nn.Conv1d(n_front, channels, 7), momentum)  # not padded: 6 frames fewer
        self.second = Convolution(nn.Conv1d(channels, channels, 7, padding=3), momentum)
        self.third = Convolution(nn.Conv1d(channels, channels, 7, padding=3), momentum)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(2 * channels, dense)
        self.hidden_norm = norm_1d(dense, momentum)
        self.output = nn.Linear(dense, config.n_classes)
        init_fan_in(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden layer ``(batch, dense)`` of ``(batch, 1, n_mels, frames)``, behind the dropout."""
        return self._hidden(x, x.mean(dim=2), pooled=2)

    def _hidden(self, x: torch.Tensor, envelope: torch.Tensor, *, pooled: int) -> torch.Tensor:
        """Hidden layer of an input and its mean over bands; maxima and means are taken over the axis ``pooled``."""
        x = torch.cat([*(branch(x) for branch in self.timbral), *(branch(envelope) for branch in self.temporal)], dim=1)
        x = self.first(x)
        x = functional.max_pool1d(self.second(x) + x, 2)
        x = self.third(x) + x
        both = torch.cat([x.amax(dim=pooled), x.mean(dim=pooled)], dim=1)
        hidden = self.hidden_norm(functional.relu(self.hidden(self.dropout(both))))
        return cast("torch.Tensor", self.dropout(hidden))


class SixteenMusicnn(Musicnn):
    """The study's network for the Million Song Dataset."""

    Config = SixteenMusicnnConfig


class AtScaleMusicnn(Musicnn):
    """The network of Pons et al. 2018."""

    Config = AtScaleMusicnnConfig
