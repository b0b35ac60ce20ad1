"""A model as training sees it: batches of features in, logits out, with the input's statistics in its state."""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["InputNorm", "Tagger", "WeightAverage"]


class InputNorm(nn.Module):
    """Subtract the mean and divide by the deviation of each band; both are buffers, so they travel with the weights.

    Parameters
    ----------
    mean, std : array (bands,)
        Of the training split. A band that never changes keeps its scale.
    """

    def __init__(self, mean: NDArray[np.floating], std: NDArray[np.floating]) -> None:
        super().__init__()
        std = np.where(std > 1e-6, std, 1.0)
        self.register_buffer("mean", torch.as_tensor(np.asarray(mean), dtype=torch.float32)[:, None])
        self.register_buffer("std", torch.as_tensor(np.asarray(std), dtype=torch.float32)[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``(batch, bands, frames)``."""
        return (x - cast("torch.Tensor", self.mean)) / cast("torch.Tensor", self.std)


class Tagger(nn.Module):
    """A model behind its optional input norm.

    Takes features ``(batch, bands, frames)``, returns logits ``(batch, classes)``.
    """

    def __init__(self, model: nn.Module, norm: InputNorm | None = None, *, channels_last: bool = False) -> None:
        super().__init__()
        self.model, self.norm = model, norm
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        if self.norm is not None:
            x = self.norm(x)
        logits: torch.Tensor = self.model(x.unsqueeze(1).to(memory_format=self._format))
        return logits.float()


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
