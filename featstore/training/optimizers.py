"""Optimizers and learning-rate schedules; the rate is a pure function of progress, with no state to be resumed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

from featstore.training.config import OptimizerConfig, ScheduleConfig

__all__ = ["make_optimizer", "rate_factor", "set_rate"]


def make_optimizer(
    parameters: Iterable[tuple[str, torch.nn.Parameter]],
    config: OptimizerConfig,
    *,
    trunk: Collection[str] = (),
    scales: Mapping[str, float] | None = None,
    rates: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Build the optimizer; parameters with one axis (biases, norms) are spared from weight decay.

    Parameters
    ----------
    parameters : iterable of (name, parameter)
    config : OptimizerConfig
    trunk : collection of str
        Names of parameters that a checkpoint gave: they may have a rate of their own.
    scales : mapping of str to float
        Multiple of the trunk's rate by name; 1 where it says nothing.
    rates : mapping of str to float
        Multiple of the learning rate by name, in the trunk or not; 1 where it says nothing.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            given, decays = name in trunk, parameter.ndim > 1
            scale = (scales or {}).get(name, 1.0) if given else 1.0
            rate = (rates or {}).get(name, 1.0)  # groups with a rate of their own first: reports read the last one's
            decay = config.weight_decay if decays else 0.0
            group = {"params": [], "weight_decay": decay, "trunk": given, "scale": scale, "rate": rate}
            found.setdefault((rate == 1.0, rate, given, decays, scale), group)["params"].append(parameter)
    groups = [found[key] for key in sorted(found)]
    if config.name == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=nesterov)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps)


def rate_factor(config: ScheduleConfig, *, epoch: float, epochs: int, reductions: int = 0) -> float:
    """Multiple of the learning rate at a point of the run.

    Parameters
    ----------
    config : ScheduleConfig
    epoch : float >= 0
        Epochs done, with the part of the present one.
    epochs : int
        Length of the run.
    reductions : int
        How often a plateau was met.

    Examples
    --------
    >>> rate_factor(ScheduleConfig(name="cosine", warmup_epochs=2), epoch=1, epochs=10)
    0.5
    >>> rate_factor(ScheduleConfig(name="step", step_epochs=30), epoch=65.5, epochs=100)
    0.25
    """
    if epoch < config.warmup_epochs:
        return epoch / config.warmup_epochs if config.warmup_factor is None else config.warmup_factor
    if config.name == "step":
        passed = sum(epoch >= at for at in config.milestones) if config.milestones else int(epoch // config.step_epochs)
        factor = config.factor**passed
    elif config.name == "cosine":
        share = (epoch - config.warmup_epochs) / max(1e-9, epochs - config.warmup_epochs)
        return config.minimum + (1 - config.minimum) * (1 + math.cos(math.pi * min(1.0, share))) / 2
    elif config.name == "plateau":
        factor = config.factor**reductions
    else:
        return 1.0
    return max(factor, config.minimum)


def set_rate(optimizer: torch.optim.Optimizer, rate: float, *, trunk_rate: float = 1.0) -> None:
    """Give every group of parameters this learning rate, those of the trunk a multiple of it."""
    for group in optimizer.param_groups:
        own = rate * group.get("rate", 1.0)
        group["lr"] = own * trunk_rate * group.get("scale", 1.0) if group["trunk"] else own
