"""Where a run stands, in plain values that survive a file; and the watch over its losses."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from featstore.errors import FeatstoreError
from featstore.training.normed_model import Inputs, is_finite

__all__ = ["LossWatch", "NonFiniteLoss", "Progress", "ScaleWatch"]

logger = logging.getLogger(__name__)


class NonFiniteLoss(FeatstoreError, ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(slots=True)
class Progress:
    """State of the loop between two steps.

    Attributes
    ----------
    epoch, batch, step : int
        Epoch (from 0), batches of it that are done, optimizer steps of the whole run.
    loss_sum, n_items : float, int
        Over the present epoch.
    best_value, best_epoch : float or None, int
        Of the monitored score.
    bad_validations, reductions : int
        Validations since the best; times a plateau lowered the rate.
    plateau_validations : int
        Validations since the best or the last reduction.
    seconds_train, seconds_wait, seconds_validate : float
        Over the whole run: in training batches, of that waiting for the loader, and in validation.
    n_seen : int
        Items of the whole run.
    finished : bool
        Early stopping has decided.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    n_items: int = 0
    best_value: float | None = None
    best_epoch: int = -1
    bad_validations: int = 0
    reductions: int = 0
    plateau_validations: int = 0
    seconds_train: float = 0.0
    seconds_wait: float = 0.0
    seconds_validate: float = 0.0
    n_seen: int = 0
    finished: bool = False

    @property
    def waiting_share(self) -> float:
        """Part of the training time spent waiting for the loader."""
        return self.seconds_wait / self.seconds_train if self.seconds_train else 0.0

    @property
    def samples_per_s(self) -> float:
        """Items a second of training."""
        return self.n_seen / self.seconds_train if self.seconds_train else 0.0


@dataclass(slots=True)
class LossWatch:
    """Reads losses without making a GPU wait: a loss is looked at when its copy has arrived, a step or two later.

    On the CPU each loss is looked at once. ``drain`` must be called before anything is kept.
    """

    device: torch.device
    where: str
    _waiting: deque[tuple[torch.Tensor, Any, int, int, list[str]]] = field(default_factory=deque)

    def add(self, loss: torch.Tensor, *, epoch: int, batch: int, track_ids: list[str], x: Inputs) -> float:
        """Note a loss; return the sum over items of the losses that have arrived meanwhile.

        Raises
        ------
        NonFiniteLoss
            When one of them is not finite, naming its batch and tracks.
        """
        value, event = loss.detach(), None
        if self.device.type == "cuda":
            value = torch.empty((), dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        elif not math.isfinite(float(value)):
            raise self._error(float(value), epoch, batch, track_ids, is_finite(x))
        self._waiting.append((value, event, epoch, batch, track_ids))
        return self._read(keep=2 if event is not None else 0)

    def drain(self) -> float:
        """Look at all that are left."""
        return self._read(keep=0)

    def _read(self, keep: int) -> float:
        total = 0.0
        while len(self._waiting) > keep:
            copied, event, epoch, batch, track_ids = self._waiting.popleft()
            if event is not None:
                event.synchronize()
            value = float(copied)
            if not math.isfinite(value):
                raise self._error(value, epoch, batch, track_ids, None)
            total += value * len(track_ids)
        return total

    def _kept(self) -> str:
        """Say what is left to go on from."""
        if not any((Path(self.where) / "checkpoints").glob("*.safetensors")):
            return "No state was kept before it"
        return f"The checkpoints are those of before: start another run from them with start.run={self.where}"

    def _error(
        self, value: float, epoch: int, batch: int, track_ids: list[str], finite_input: bool | None
    ) -> NonFiniteLoss:
        shown = ", ".join(track_ids[:8]) + (f" and {len(track_ids) - 8} more" if len(track_ids) > 8 else "")
        cause = {
            None: "Lower optimizer.learning_rate, or set loop.clip_norm",
            True: "The input is finite: lower optimizer.learning_rate, or set loop.clip_norm",
            False: "The input itself is not finite: check the store with featstore store verify",
        }[finite_input]
        return NonFiniteLoss(
            f"the loss is {value} in epoch {epoch}, batch {batch}, tracks {shown}",
            self.where,
            f"{cause}. {self._kept()}",
        )


@dataclass(slots=True)
class ScaleWatch:
    """Says when gradients overflowed in 16-bit precision, which leaves steps out: their scale falls then."""

    where: str
    _last: float | None = None

    def note(self, state: Mapping[str, Any], *, epoch: int) -> dict[str, float]:
        """Take what the precision keeps after an epoch; what an epoch's metrics say of it, nothing without a scale."""
        if "scale" not in state:
            return {}
        scale, before = float(state["scale"]), self._last
        self._last = scale
        if before is not None and scale < before:
            logger.warning(
                "%s: gradients overflowed in epoch %d and their steps were left out; the scale went from %g to %g. "
                "device.precision=bf16-mixed has the range of float32",
                self.where,
                epoch,
                before,
                scale,
            )
        return {"gradient_scale": scale}
