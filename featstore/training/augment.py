"""Augmentations of a batch of spectrograms, for training only.

All chance comes from torch's global generator on the CPU, whose state is kept in checkpoints: a resumed run draws on as
if it had never stopped, on any device. Masks follow SpecAugment (D. S. Park et al., Interspeech 2019, without time
warping); mixup is that of H. Zhang et al., ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from featstore.errors import ConfigError
from featstore.specs.scale import Scale
from featstore.training.config import AugmentConfig

__all__ = ["Augmentation", "gain", "make_augmentation", "mask", "mixup"]

Augmentation = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def gain(x: torch.Tensor, *, decibels: float, scale: Scale) -> torch.Tensor:
    """Make each example louder or softer by a uniform number of decibels within ± ``decibels``.

    Parameters
    ----------
    x : float32 (batch, bands, frames)
    decibels : float > 0
    scale : Scale
        Of the feature: a change of level is an addition in dB, and a factor on power under any other scale.
    """
    drawn = ((torch.rand(len(x)) * 2 - 1) * decibels).to(x.device, non_blocking=True)[:, None, None]
    if scale.name == "db":
        return x + drawn * (dict(scale.params)["factor"] / 10)
    louder: torch.Tensor = scale.apply(scale.invert(x, xp=torch) * 10 ** (drawn / 10), xp=torch)
    return louder


def mask(x: torch.Tensor, *, axis: int, widest: int, count: int) -> torch.Tensor:
    """Set ``count`` stretches of bands (axis 1) or frames (axis 2) of each example to its mean.

    Each is 0 to ``widest`` wide, uniformly, and lies anywhere.
    """
    size, fill = x.shape[axis], x.mean(dim=(1, 2), keepdim=True)
    place = torch.arange(size)
    hidden = torch.zeros(len(x), size, dtype=torch.bool)
    for _ in range(count):
        width = (torch.rand(len(x)) * (min(widest, size) + 1)).long()
        start = (torch.rand(len(x)) * (size - width + 1)).long()
        hidden |= (place >= start[:, None]) & (place < (start + width)[:, None])
    hidden = hidden.to(x.device, non_blocking=True)
    return torch.where(hidden[:, :, None] if axis == 1 else hidden[:, None, :], fill, x)


def mixup(x: torch.Tensor, target: torch.Tensor, *, alpha: float, n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each example with another of the batch, and their targets with the same weights.

    The weight of the first is drawn from Beta(alpha, alpha) once a batch and folded to at least one half. Class numbers
    become soft targets ``(batch, n_classes)``.
    """
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    weight = max(weight, 1 - weight)
    other = torch.randperm(len(x)).to(x.device, non_blocking=True)
    if target.ndim == 1:
        target = torch.nn.functional.one_hot(target, n_classes).float()
    return weight * x + (1 - weight) * x[other], weight * target + (1 - weight) * target[other]


def make_augmentation(config: AugmentConfig, spec: Any, n_classes: int) -> Augmentation | None:
    """Join the augmentations that the settings ask for; None when there are none.

    Raises
    ------
    ConfigError
        A gain was asked for, and the feature has no scale.
    """
    scale = getattr(spec, "scale", None)
    if config.gain_db and not isinstance(scale, Scale):
        raise ConfigError(
            f"augment.gain_db={config.gain_db} has no meaning for this feature", str(spec.kind), "Leave it at 0"
        )
    if not any((config.gain_db, config.noise, config.band_masks, config.time_masks, config.mixup)):
        return None

    def augment(x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if config.gain_db and isinstance(scale, Scale):
            x = gain(x, decibels=config.gain_db, scale=scale)
        if config.noise:
            x = x + config.noise * torch.randn(x.shape).to(x.device, non_blocking=True)
        if config.band_masks:
            x = mask(x, axis=1, widest=config.band_width, count=config.band_masks)
        if config.time_masks:
            x = mask(x, axis=2, widest=config.time_width, count=config.time_masks)
        return mixup(x, target, alpha=config.mixup, n_classes=n_classes) if config.mixup else (x, target)

    return augment
