"""Augmentations of a batch of spectrograms or waveforms, for training only.

All chance comes from torch's global generator on the CPU, whose state is kept in checkpoints: a resumed run draws on as
if it had never stopped, on any device. Masks follow SpecAugment (D. S. Park et al., Interspeech 2019, without time
warping); mixup is that of H. Zhang et al., ICLR 2018. Gain and noise on waveforms are those of MS-SincResNet (P.-C.
Chang et al., ICMR 2021): a factor within 0.9 to 1.1, noise of deviation 0.02. The layer norm that follows there almost
undoes a gain; it is kept because the paper has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from featstore.errors import ConfigError
from featstore.specs.scale import Scale
from featstore.training.config import AugmentConfig
from featstore.training.normed_model import Inputs

__all__ = ["Augmentation", "gain", "make_augmentation", "mask", "mixup", "noise"]

Augmentation = Callable[[Inputs, torch.Tensor], tuple[Inputs, torch.Tensor]]


def gain(x: torch.Tensor, decibels: torch.Tensor, *, scale: Scale | None) -> torch.Tensor:
    """Make each example louder or softer.

    Parameters
    ----------
    x : float32 (batch, *bands, frames)
    decibels : float32 (batch,)
    scale : Scale or None
        Of the feature: a change of level is an addition in dB, and a factor on power under any other scale. None is a
        waveform: a factor on amplitude.
    """
    drawn = decibels.to(x.device, non_blocking=True).reshape(-1, *[1] * (x.ndim - 1))
    if scale is None:
        return x * 10 ** (drawn / 20)
    if scale.name == "db":
        return x + drawn * (dict(scale.params)["factor"] / 10)
    louder: torch.Tensor = scale.apply(scale.invert(x, xp=torch) * 10 ** (drawn / 10), xp=torch)
    return louder


def noise(x: torch.Tensor, *, size: float, kind: str) -> torch.Tensor:
    """Add noise: of deviation ``size`` where it is Gaussian, within ± ``size`` where it is uniform."""
    drawn = torch.randn(x.shape) if kind == "gaussian" else torch.rand(x.shape) * 2 - 1
    return x + size * drawn.to(x.device, non_blocking=True)


def mask(x: torch.Tensor, *, axis: int, widest: int, count: int) -> torch.Tensor:
    """Set ``count`` stretches of bands (axis -2) or frames (axis -1) of each example to its mean.

    Each is 0 to ``widest`` wide, uniformly, and lies anywhere; stacked inputs are masked alike.
    """
    size, fill = x.shape[axis], x.mean(dim=(-2, -1), keepdim=True)
    place = torch.arange(size)
    hidden = torch.zeros(len(x), size, dtype=torch.bool)
    for _ in range(count):
        width = (torch.rand(len(x)) * (min(widest, size) + 1)).long()
        start = (torch.rand(len(x)) * (size - width + 1)).long()
        hidden |= (place >= start[:, None]) & (place < (start + width)[:, None])
    hidden = hidden.to(x.device, non_blocking=True)
    spread = hidden[:, :, None] if axis == -2 else hidden[:, None, :]
    return torch.where(spread.reshape(len(x), *[1] * (x.ndim - 3), *spread.shape[1:]), fill, x)


def mixup(x: Inputs, target: torch.Tensor, *, alpha: float, n_classes: int) -> tuple[Inputs, torch.Tensor]:
    """Mix each example with another of the batch, and their targets with the same weights.

    The weight of the first is drawn from Beta(alpha, alpha) once a batch and folded to at least one half. Class numbers
    become soft targets ``(batch, n_classes)``.
    """
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    weight = max(weight, 1 - weight)
    other = torch.randperm(len(target)).to(target.device, non_blocking=True)
    if target.ndim == 1:
        target = torch.nn.functional.one_hot(target, n_classes).float()

    def mixed(values: torch.Tensor) -> torch.Tensor:
        return weight * values + (1 - weight) * values[other]

    blended = {name: mixed(each) for name, each in x.items()} if isinstance(x, dict) else mixed(x)
    return blended, mixed(target)


def _decibels(config: AugmentConfig, n: int) -> torch.Tensor:
    """A change of level for each example: uniform in decibels, or as a factor on the amplitude."""
    drawn = torch.rand(n) * 2 - 1
    return drawn * config.gain_db if config.gain_db else 20 * torch.log10(1 + drawn * config.gain)


def make_augmentation(config: AugmentConfig, specs: Mapping[str, Any], n_classes: int) -> Augmentation | None:
    """Join the augmentations that the settings ask for; None when there are none.

    Parameters
    ----------
    config : AugmentConfig
    specs : mapping of str to FeatureSpec
        Of each input. Several are made louder by the same amount; masks are drawn for each where they differ in shape.
    n_classes : int

    Raises
    ------
    ConfigError
        Something was asked for that a feature cannot have.
    """
    level = bool(config.gain_db or config.gain)
    _check(config, specs, level)
    if not any((level, config.noise, config.band_masks, config.time_masks, config.mixup)):
        return None
    scales = {name: getattr(spec, "scale", None) for name, spec in specs.items()}
    alone = next(iter(specs))

    def vary(x: torch.Tensor, scale: Scale | None, decibels: torch.Tensor | None) -> torch.Tensor:
        if decibels is not None:
            x = gain(x, decibels, scale=scale)
        return noise(x, size=config.noise, kind=config.noise_kind) if config.noise else x

    def masked(x: torch.Tensor) -> torch.Tensor:
        if config.band_masks:
            x = mask(x, axis=-2, widest=config.band_width, count=config.band_masks)
        if config.time_masks:
            x = mask(x, axis=-1, widest=config.time_width, count=config.time_masks)
        return x

    def augment(x: Inputs, target: torch.Tensor) -> tuple[Inputs, torch.Tensor]:
        decibels = _decibels(config, len(target)) if level else None
        named = x if isinstance(x, dict) else {alone: x}
        varied = _masked_alike({name: vary(each, scales[name], decibels) for name, each in named.items()}, masked)
        x = varied if isinstance(x, dict) else varied[alone]
        return mixup(x, target, alpha=config.mixup, n_classes=n_classes) if config.mixup else (x, target)

    return augment


def _masked_alike(
    x: dict[str, torch.Tensor], masked: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Mask inputs of one shape in the same places, others each by itself."""
    if len(x) == 1 or len({tuple(each.shape) for each in x.values()}) > 1:
        return {name: masked(each) for name, each in x.items()}
    joined = masked(torch.stack(list(x.values()), dim=1))
    return dict(zip(x, joined.unbind(dim=1), strict=True))


def _check(config: AugmentConfig, specs: Mapping[str, Any], level: bool) -> None:
    if config.gain_db and config.gain:
        raise ConfigError("gain and gain_db are both set", "augment", "Choose one of them")
    for spec in specs.values():
        waveform = spec.kind == "waveform"
        if level and not waveform and not isinstance(getattr(spec, "scale", None), Scale):
            raise ConfigError("a gain has no meaning for this feature", str(spec.kind), "Leave it at 0")
        if waveform and (config.band_masks or config.time_masks):
            raise ConfigError("masks are for spectra", str(spec.kind), "Leave augment.band_masks and time_masks at 0")
