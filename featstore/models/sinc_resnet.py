"""MS-SincResNet: three banks of learned filters draw a picture with three channels, which a ResNet-18 classifies.

Origin: P.-C. Chang, Y.-S. Chen, C.-H. Lee, "MS-SincResNet: Joint learning of 1D and 2D kernels using multi-scale
SincNet and ResNet for music genre classification", ICMR 2021. Written from facts about the paper and its published
code, which has neither the spatial pyramid nor the hidden layer (``head=gap``). The size of the hidden layer is ours:
the paper gives none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.model_config import WaveformConfig
from featstore.models.resnet import ResnetTrunk, scaled_widths, spatial_pyramid
from featstore.models.sinc import Normalise, SincMap, SincModel, mono_signal, odd_length

__all__ = ["MsSincResnet", "MsSincResnetConfig", "SincResnet", "SincResnetConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MsSincResnetConfig(WaveformConfig):
    """Settings of MS-SincResNet.

    Parameters
    ----------
    n_samples, n_classes : int > 0
        Length of one input and of the output; the paper's clips of 3 s have 48,000 samples.
    filters : int > 0
        Filters of each bank: 160 or 80.
    lengths : three int > 0
        Taps of the filters of each bank, in the order of the channels: 15.7, 31.3 and 62.6 ms.
    head : {"spp", "gap"}
        ``spp`` is the paper's spatial pyramid; ``gap``, the mean over the last maps and one linear layer, is what its
        authors published.
    fc_hidden : int or None
        Hidden layer behind the pyramid; None has none, and neither has ``gap``.
    sample_rate : int
        In Hz.
    columns : int > 0
        Width of the picture.
    signal_gain : bool
        A gain and a bias for every sample of the clip in the norm of the waveform.
    normalise : {"peak", "none"}
        Scale of the filters (``featstore.models.sinc.sinc_taps``).
    width : float > 0
        Factor on the channels of the ResNet, for runs on small machines.
    """

    filters: int = 160
    lengths: tuple[int, ...] = (251, 501, 1001)
    head: Literal["spp", "gap"] = "spp"
    fc_hidden: int | None = 512
    sample_rate: int = 16_000
    columns: int = 1024
    signal_gain: bool = True
    normalise: Normalise = "peak"
    width: float = 1.0

    place: ClassVar[str] = "ms-sinc-resnet"

    def _resolve(self) -> None:
        if len(self.lengths) != 3:
            raise ConfigError(
                f"lengths={self.lengths} are not three", self.place, "Give one for each channel of the picture"
            )
        object.__setattr__(self, "lengths", tuple(odd_length(length) for length in self.lengths))
        if max(self.lengths) > self.n_samples:
            fix = "Give longer inputs, or shorter filters"
            raise ConfigError(f"filters of {max(self.lengths)} taps on {self.n_samples} samples", self.place, fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class SincResnetConfig(MsSincResnetConfig):
    """Settings of SincResNet: as those of MS-SincResNet, with three banks of one length."""

    lengths: tuple[int, ...] = (251, 251, 251)


class MsSincResnet(SincModel):
    """Banks of learned band-pass filters of three lengths, a ResNet-18, a spatial pyramid, on 3 s of waveform.

    Input float32 ``(batch, 1, n_samples)``, output logits ``(batch, n_classes)``. With 160 filters and 10 classes it
    has 12,590,794 parameters.
    """

    package = "transformers"
    Config = MsSincResnetConfig
    paper_input: ClassVar[dict[str, int] | None] = {"n_samples": 48_000}
    published: ClassVar[Mapping[str, str]] = {"trunk": "featstore.models.resnet:imagenet_trunk"}

    config: MsSincResnetConfig

    def __init__(self, config: MsSincResnetConfig) -> None:
        super().__init__(config)
        shape = [1, config.n_samples]
        self.signal_norm = nn.LayerNorm(shape, eps=1e-5, elementwise_affine=config.signal_gain)
        self.maps = nn.ModuleList(
            SincMap(config.filters, length, config.sample_rate, columns=config.columns, normalise=config.normalise)
            for length in config.lengths
        )
        widths = scaled_widths(config.width)
        self.trunk = ResnetTrunk(widths)
        last = widths[-1] if config.head == "gap" else 5 * widths[-1]
        self.hidden = None
        if config.head == "spp" and config.fc_hidden is not None:
            self.hidden = nn.Linear(last, config.fc_hidden)
            last = config.fc_hidden
        self.output = nn.Linear(last, config.n_classes)

    def front(self, x: torch.Tensor) -> torch.Tensor:
        """Learned picture ``(batch, 3, filters, columns)`` of ``(batch, 1, n_samples)``, one channel a bank."""
        x = self.signal_norm(mono_signal(x, self.config.n_samples, "ms-sinc-resnet"))
        return torch.stack([each(x) for each in self.maps], dim=1)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """What the last layer reads: the hidden layer where there is one, else the pooled maps."""
        found = self.trunk(self.front(x))
        if self.config.head == "gap":
            return cast("torch.Tensor", found.mean(dim=(2, 3)))
        pyramid = spatial_pyramid(found)
        return pyramid if self.hidden is None else functional.relu(self.hidden(pyramid))


class SincResnet(MsSincResnet):
    """MS-SincResNet with three banks of one length, which start equal and part through the rest of the network."""

    Config = SincResnetConfig
