"""Pieces that several models share: norms, padding, initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

__all__ = [
    "NORM_EPS",
    "STD_FLOOR",
    "InputNorm",
    "SameConv1d",
    "full_precision",
    "init_fan_in",
    "init_glorot",
    "norm_1d",
    "norm_2d",
    "pad_time",
    "real_frames",
    "recomputed",
    "standardised",
]

_TRUNCATED = 0.8796256610342398  # deviation of a standard normal cut at two deviations

NORM_EPS = 1e-3
"""What TensorFlow's batch norms have; torch's own 1e-5 changes single tags of converted weights by up to 0.9."""


STD_FLOOR = 1e-5
"""Least deviation of a clip: a silent one has none."""


def norm_1d(channels: int, momentum: float) -> nn.BatchNorm1d:
    """Batch norm of ``(batch, channels)`` or ``(batch, channels, frames)``."""
    return nn.BatchNorm1d(channels, eps=NORM_EPS, momentum=momentum)


def norm_2d(channels: int, momentum: float) -> nn.BatchNorm2d:
    """Batch norm of ``(batch, channels, bands, frames)``."""
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=momentum)


def pad_time(x: torch.Tensor, kernel: int) -> torch.Tensor:
    """Zeros on both sides of the last axis, so that a kernel of this length keeps it; the odd one goes to the right.

    Examples
    --------
    >>> pad_time(torch.ones(1, 3), 4).tolist()
    [[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]]
    """
    return functional.pad(x, ((kernel - 1) // 2, kernel // 2))


def full_precision(x: torch.Tensor) -> AbstractContextManager[Any]:
    """Context in which mixed precision is off for the device of ``x``: for norms and filters with large gains."""
    if x.device.type == "meta":  # shapes only, and torch has no mixed precision for it
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def recomputed(module: nn.Module, function: Callable[..., Any], *inputs: Any) -> Any:
    """Call a function; where its module is trained, keep the inputs only and compute the rest again going backwards."""
    if module.training and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False)
    return function(*inputs)


def real_frames(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Which frames of ``(batch, ..., frames)`` are real, bool ``(batch, frames)``: the first of each, or all."""
    place = torch.arange(x.shape[-1], device=x.device).expand(len(x), -1)
    return torch.ones_like(place, dtype=torch.bool) if lengths is None else place < lengths.to(x.device)[:, None]


def standardised(x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """Each example with mean 0 and deviation 1, over all its axes; a constant one becomes zeros.

    Parameters
    ----------
    x : (batch, ..., frames)
    lengths : int64 (batch,), optional
        Real frames of each example ``(bands, frames)``, which alone count; those behind them become zeros.
    """
    real = None if lengths is None else real_frames(x, lengths)[:, None]

    def mean(values: torch.Tensor) -> torch.Tensor:
        axes = tuple(range(1, values.ndim))
        if real is None:
            return values.mean(dim=axes, keepdim=True)
        n_values = values.shape[1] * real.sum(dim=2, keepdim=True)
        return values.where(real, 0).sum(dim=axes, keepdim=True) / n_values.clamp(min=1)

    x = x - mean(x)
    x = x if real is None else x.where(real, 0)
    return x / mean(x.square()).clamp(min=STD_FLOOR**2).sqrt()


class InputNorm(nn.Module):
    """Subtract the mean and divide by the deviation of each band; both are buffers, so they travel with the weights.

    Parameters
    ----------
    mean, std : array (*bands,)
        Of the training split. A band that never changes keeps its scale.
    """

    def __init__(self, mean: NDArray[np.floating], std: NDArray[np.floating]) -> None:
        super().__init__()
        std = np.where(std > 1e-6, std, 1.0)
        self.register_buffer("mean", torch.as_tensor(np.asarray(mean), dtype=torch.float32)[..., None])
        self.register_buffer("std", torch.as_tensor(np.asarray(std), dtype=torch.float32)[..., None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``(batch, *bands, frames)``."""
        return (x - cast("torch.Tensor", self.mean)) / cast("torch.Tensor", self.std)


class SameConv1d(nn.Conv1d):
    """Convolution over time that keeps the number of frames, kernels of even length included."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in, frames)`` to ``(batch, out, frames)``."""
        return super().forward(pad_time(x, self.kernel_size[0]))


def init_fan_in(model: nn.Module) -> None:
    """Truncated normal weights of variance 1 / fan-in, zero biases (Keras' ``VarianceScaling``)."""

    def draw(weight: torch.Tensor) -> None:
        deviation = math.sqrt(1 / weight[0].numel()) / _TRUNCATED
        nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)

    _init(model, draw)


def init_glorot(model: nn.Module) -> None:
    """Glorot uniform weights, zero biases (what TensorFlow's layers have when nothing is said)."""
    _init(model, nn.init.xavier_uniform_)


def _init(model: nn.Module, draw: Callable[[torch.Tensor], Any]) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
