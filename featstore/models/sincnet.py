"""SincNet: learned band-pass filters, two convolutions and a large dense part on a short stretch of waveform.

Origin: M. Ravanelli, Y. Bengio, "Speaker recognition from raw waveform with SincNet", SLT 2018, as the baseline of
P.-C. Chang, Y.-S. Chen, C.-H. Lee, ICMR 2021. Written from facts about its settings: the first layer takes the absolute
value of the filters' output, layer norms have the unbiased deviation with 1e-6 added to it, weights are drawn from
U(± sqrt(0.01 / (in + out))).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.model_config import WaveformConfig
from featstore.models.sinc import SincBank, SincModel, mono_signal, odd_length

__all__ = ["SincNet", "SincNetConfig"]

_SLOPE = 0.2  # of the leaky ReLU
_CHANNELS = 60
_KERNEL = 5
_POOL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SincNetConfig(WaveformConfig):
    """Settings of SincNet.

    Parameters
    ----------
    n_samples, n_classes : int > 0
        Length of one input and of the output: 200 ms at 16 kHz are 3200. With clips of 3 s the first dense layer alone
        has 217 million weights.
    filters, length : int > 0
        Number of band-pass filters, and taps of each: 251, 501 or 1001.
    sample_rate : int
        In Hz.
    dense : int > 0
        Size of each of the three dense layers.
    """

    filters: int = 80
    length: int = 251
    sample_rate: int = 16_000
    dense: int = 2048

    place: ClassVar[str] = "sincnet"

    def _resolve(self) -> None:
        if self.times[-1] < 1:
            fix = "Give longer inputs, or a smaller length"
            raise ConfigError(f"n_samples={self.n_samples} leaves nothing after three pools", self.place, fix)

    @property
    def times(self) -> tuple[int, int, int]:
        """Length of the signal after each of the three pools."""
        first = (self.n_samples - odd_length(self.length) + 1) // _POOL
        second = (first - _KERNEL + 1) // _POOL
        return first, second, (second - _KERNEL + 1) // _POOL


class _LayerNorm(nn.Module):
    """Norm over the last axis: unbiased deviation plus 1e-6; gain and bias of the whole shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        spread = x.std(dim=-1, keepdim=True) if x.shape[-1] > 1 else torch.zeros_like(x)
        return self.weight * (x - x.mean(dim=-1, keepdim=True)) / (spread + 1e-6) + self.bias


class _Dense(nn.Module):
    """Linear layer, batch norm, leaky ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear, self.norm = _linear(n_in, n_out), nn.BatchNorm1d(n_out, momentum=0.05)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, n_in)`` to ``(batch, n_out)``."""
        return functional.leaky_relu(self.norm(self.linear(x)), _SLOPE)


def _linear(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    bound = math.sqrt(0.01 / (n_in + n_out))
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer


class SincNet(SincModel):
    """Learned band-pass filters, absolute value, two convolutions, three dense layers, on 200 ms of waveform.

    Input float32 ``(batch, 1, n_samples)``, output logits ``(batch, n_classes)``. With 3200 samples, 80 filters of 251
    taps and 10 classes it has 21,846,450 parameters.
    """

    Config = SincNetConfig
    paper_input: ClassVar[dict[str, int] | None] = {"n_samples": 3200}

    def __init__(self, config: SincNetConfig) -> None:
        super().__init__(config)
        self.input_layer_norm = _LayerNorm(config.n_samples)
        self.bank = SincBank(config.filters, config.length, config.sample_rate)
        self.convs = nn.ModuleList(
            [nn.Conv1d(config.filters, _CHANNELS, _KERNEL), nn.Conv1d(_CHANNELS, _CHANNELS, _KERNEL)]
        )
        channels = (config.filters, _CHANNELS, _CHANNELS)
        self.norms = nn.ModuleList(_LayerNorm(*shape) for shape in zip(channels, config.times, strict=True))
        flat = _CHANNELS * config.times[-1]
        self.flat_norm = _LayerNorm(flat)
        self.dense = nn.Sequential(
            _Dense(flat, config.dense), _Dense(config.dense, config.dense), _Dense(config.dense, config.dense)
        )
        self.output = _linear(config.dense, config.n_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the last dense layer, ``(batch, dense)``."""
        x = self.input_layer_norm(mono_signal(x, self.config.n_samples, "sincnet"))
        x = self._activate(self.bank(x).abs(), 0)
        for k, conv in enumerate(self.convs, start=1):
            x = self._activate(conv(x), k)
        return cast("torch.Tensor", self.dense(self.flat_norm(x.flatten(1))))

    def _activate(self, x: torch.Tensor, k: int) -> torch.Tensor:
        return functional.leaky_relu(self.norms[k](functional.max_pool1d(x, _POOL)), _SLOPE)
