"""A model as training sees it: batches of features in, logits out, with the input's statistics in its state."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["InputNorm", "Inputs", "Reconstructor", "Tagger", "WeightAverage", "is_finite", "moved"]

Inputs = torch.Tensor | dict[str, torch.Tensor]
"""Features of a batch: of one input, or of several by name."""


def moved(x: Inputs, device: torch.device) -> Inputs:
    """The same on a device."""
    if isinstance(x, dict):
        return {name: each.to(device, non_blocking=True) for name, each in x.items()}
    return x.to(device, non_blocking=True)


def is_finite(x: Inputs) -> bool:
    """Whether all values are."""
    return all(bool(torch.isfinite(each).all()) for each in (x.values() if isinstance(x, dict) else (x,)))


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


class Tagger(nn.Module):
    """A model behind its optional input norm.

    Takes features ``(batch, *bands, frames)``, returns logits ``(batch, classes)``. Several inputs come as a dict: they
    are stacked as channels ``(batch, inputs, *bands, frames)``, or handed on by name, each with a channel axis of its
    own, to a model whose class says ``takes_dict = True``.

    Parameters
    ----------
    model : torch.nn.Module
    norm : InputNorm, torch.nn.ModuleDict of them by input, or None
    channels_last : bool
        Keep images with channels last.
    """

    def __init__(self, model: nn.Module, norm: nn.Module | None = None, *, channels_last: bool = False) -> None:
        super().__init__()
        self.model, self.norm = model, norm
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._takes_dict = bool(getattr(model, "takes_dict", False))
        self._fixed: frozenset[str] = frozenset()
        if channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def normalised(self, x: Inputs) -> Inputs:
        """Inputs with the norm applied."""
        if isinstance(x, dict):
            norms = cast("Mapping[str, nn.Module]", self.norm)
            return x if self.norm is None else {name: norms[name](each) for name, each in x.items()}
        normed: torch.Tensor = x if self.norm is None else self.norm(x)
        return normed

    def arranged(self, x: Inputs) -> Any:
        """Normalised inputs as the model takes them."""
        if not isinstance(x, dict):
            return self._laid_out(x.unsqueeze(1))
        if self._takes_dict:
            return {name: self._laid_out(each.unsqueeze(1)) for name, each in x.items()}
        return self._laid_out(torch.stack(list(x.values()), dim=1))

    def _laid_out(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(memory_format=self._format) if x.ndim == 4 else x

    def forward(self, x: Inputs) -> torch.Tensor:
        """Logits of a batch."""
        logits: torch.Tensor = self.model(self.arranged(self.normalised(x)))
        return logits.float()

    def fix(self, names: Collection[str]) -> None:
        """Freeze parameters of the model by name for good, and what runs beside them: norms and dropout."""
        self._fixed = frozenset(names)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name not in self._fixed)

    def train(self, mode: bool = True) -> Tagger:
        """Switch to training; what was frozen stays in evaluation."""
        super().train(mode)
        if mode and self._fixed:
            self.model.eval()
            for place, module in self.model.named_modules():
                own = [f"{place}.{name}" if place else name for name, _ in module.named_parameters(recurse=False)]
                if any(name not in self._fixed for name in own):
                    module.train()
        return self


class Reconstructor(Tagger):
    """A model's encoder with a linear decoder: predicts the frames of its own input, in normalised units.

    Parameters
    ----------
    model : torch.nn.Module
        With ``encode``, ``width`` and ``frames_per_position``.
    norm : as for Tagger
    n_values : int
        Values of one frame, all inputs together.
    """

    def __init__(
        self, model: Any, norm: nn.Module | None, *, n_values: int, head: str, channels_last: bool = False
    ) -> None:
        super().__init__(model, norm, channels_last=channels_last)
        for name, parameter in model.named_parameters():
            if name.startswith(head):  # no gradient ever reaches the classes
                parameter.requires_grad_(False)
        self._group = int(model.frames_per_position)
        self.decoder = nn.Linear(int(model.width), n_values * self._group)

    def target(self, x: Inputs) -> torch.Tensor:
        """What is to be predicted: normalised values ``(batch, values, frames)``."""
        x = self.normalised(x)
        joined = torch.stack(list(x.values()), dim=1) if isinstance(x, dict) else x
        flat: torch.Tensor = joined.flatten(1, -2)
        return flat

    def forward(self, x: Inputs) -> torch.Tensor:
        """Prediction ``(batch, values, frames)``; the last frames are absent where they fill no position."""
        code = cast("Any", self.model).encode(self.arranged(self.normalised(x)))
        values: torch.Tensor = self.decoder(code.transpose(1, 2))  # (batch, positions, frames of one x values)
        spread = values.reshape(len(values), values.shape[1] * self._group, -1)
        return spread.transpose(1, 2).float()


class WeightAverage:
    """Exponential moving average of the weights; buffers are taken as they are."""

    def __init__(self, tagger: Tagger, decay: float) -> None:
        self.decay = decay
        self.tagger = copy.deepcopy(tagger).requires_grad_(False)

    @torch.no_grad()
    def update(self, source: Tagger) -> None:
        """Move towards the present weights."""
        for weight, new in zip(self.tagger.parameters(), source.parameters(), strict=True):
            weight.lerp_(new, 1 - self.decay)
        for buffer, now in zip(self.tagger.buffers(), source.buffers(), strict=True):
            buffer.copy_(now)
