"""What a stage of training minimises, and how it is judged; the loop and the models know nothing of it.

An objective turns a batch into a loss (:class:`Objective`), and a split into scores (:class:`Scored`). ``supervised``
learns labels; ``masked`` learns to fill in what was hidden of the input, and needs none. A further objective is a class
with these methods and a line in :data:`OBJECTIVES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from featstore.registry import Registry
from featstore.training.augment import Augmentation
from featstore.training.losses import Loss
from featstore.training.tagger import Inputs, Tagger

__all__ = ["OBJECTIVES", "Forward", "Objective", "Scored", "Supervised"]

Forward = Callable[[Inputs], torch.Tensor]
Batch = Mapping[str, torch.Tensor]

OBJECTIVES = Registry(
    "objective",
    {
        "supervised": "featstore.training.objectives:Supervised",
        "masked": "featstore.training.reconstruction:Masked",
    },
)


class Scored(Protocol):
    """What is known of one split after its windows were scored."""

    @property
    def split(self) -> str:
        """Name of the split."""

    @property
    def values(self) -> dict[str, float]:
        """Scores by name, ``loss`` among them."""


class Objective(Protocol):
    """What the loop asks of an objective."""

    def loss(self, forward: Forward, x: Inputs, batch: Batch, *, epoch: int) -> torch.Tensor:
        """Loss of a training batch, mean over its items; ``forward`` is the model with its norm."""

    def score(self, tagger: Tagger, loader: Iterable[dict[str, torch.Tensor]], split: str) -> Scored:
        """Scores of a split."""

    def opening(self) -> str:
        """What people should know before the first batch; may be empty."""


@dataclass(frozen=True, slots=True)
class Supervised:
    """Labels of the track table.

    Attributes
    ----------
    criterion : Loss
        Of training.
    scorer : callable
        Predictions of a split by (tagger, loader, split).
    augment : Augmentation or None
        Varies each batch.
    """

    criterion: Loss
    scorer: Callable[[Tagger, Iterable[dict[str, torch.Tensor]], str], Scored]
    augment: Augmentation | None = None

    def loss(self, forward: Forward, x: Inputs, batch: Batch, *, epoch: int) -> torch.Tensor:
        """Loss of a training batch."""
        first: Any = next(iter(x.values())) if isinstance(x, dict) else x
        target = batch["target"].to(first.device, non_blocking=True)
        if self.augment is not None:
            x, target = self.augment(x, target)
        return self.criterion(forward(x), target)

    def score(self, tagger: Tagger, loader: Iterable[dict[str, torch.Tensor]], split: str) -> Scored:
        """Predictions of a split."""
        return self.scorer(tagger, loader, split)

    def opening(self) -> str:
        """Nothing to say."""
        return ""
