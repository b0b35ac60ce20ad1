"""Masked prediction: fill in what was hidden of a spectrogram, judged against what needs no learning."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch

from featstore.errors import ConfigError
from featstore.models import MODELS
from featstore.training.config import ObjectiveConfig, TrainConfig
from featstore.training.engines import Engine
from featstore.training.masking import apply_spans, draw_spans, frames_of, interpolated
from featstore.training.objectives import Forward
from featstore.training.tagger import InputNorm, Inputs, Reconstructor, Tagger

__all__ = ["Masked", "Reconstruction", "check_masked"]

_PURPOSES = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """How well the hidden parts of one split were filled in.

    Attributes
    ----------
    split : str
    values : dict of str to float
        ``loss``: mean error over chosen frames and bands, in units of each band's deviation. ``mean_baseline`` and
        ``line_baseline``: what the mean of each band, and a line across each span, would give. ``skill``: 1 - loss
        / the better of the two; not above 0, and the model has learnt nothing. ``chosen_share``: of
        the frames.
    n_tracks, n_windows : int
    seconds : float
    """

    split: str
    values: dict[str, float]
    n_tracks: int
    n_windows: int
    seconds: float


def check_masked(name: str, config: TrainConfig) -> None:
    """Refuse a model that cannot be pretrained by masking, and settings that are about labels.

    Raises
    ------
    ConfigError
        With the models that can.
    """
    if config.loop.monitor not in ("auto", "loss"):
        found = f"this run has no score {config.loop.monitor!r}"
        raise ConfigError(found, "loop.monitor", "It has loss: no labels are learnt")
    if not hasattr(MODELS.load(name), "encode"):
        able = [other for other in MODELS if hasattr(MODELS.load(other), "encode")]
        raise ConfigError(
            "the model gives no vector for each stretch of time, which filling in needs",
            f"model {name}",
            f"Choose {', '.join(able)}, or pretrain on labels: --set objective.name=supervised --tracks T.parquet",
        )


@dataclass(slots=True)
class Masked:
    """Error at chosen frames of a crop, of which most are hidden from the model.

    Attributes
    ----------
    config : ObjectiveConfig
    hop_ms : float
        Milliseconds between frames.
    seed : int
    engine : Engine
    tagger : Reconstructor
        Whose norm defines values and means.
    """

    config: ObjectiveConfig
    hop_ms: float
    seed: int
    engine: Engine
    tagger: Reconstructor
    baselines: dict[str, float] = field(default_factory=dict)

    def _spans(
        self, x: Inputs, batch: Mapping[str, torch.Tensor], *, epoch: int, split: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        first = next(iter(x.values())) if isinstance(x, dict) else x
        n_frames = first.shape[-1]
        masks = [values for name, values in batch.items() if name.endswith("_mask")]
        real = masks[0].sum(dim=1).cpu().numpy() if masks else np.full(len(first), n_frames)
        spans = draw_spans(
            batch["index"].numpy(),
            batch["start"].numpy() * self.hop_ms,
            real * self.hop_ms,
            share=self.config.share,
            span_ms=self.config.span_ms,
            hidden=self.config.hidden,
            swapped=self.config.swapped,
            seed=self.seed,
            epoch=epoch,
            purpose=_PURPOSES[split],
        )
        chosen, source = frames_of(spans, hop_ms=self.hop_ms, n_frames=n_frames)
        if masks:
            chosen &= masks[0].cpu()
        return chosen.to(first.device, non_blocking=True), source.to(first.device, non_blocking=True)

    def _shown(self, x: Inputs, source: torch.Tensor) -> Inputs:
        """Input as the model sees it; the mean of a band becomes zero behind the norm."""
        norm: Any = self.tagger.norm
        if isinstance(x, dict):
            return {name: apply_spans(each, source, _mean_of(norm and norm[name])) for name, each in x.items()}
        return apply_spans(x, source, _mean_of(norm))

    def _errors(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean error over the bands, ``(batch, frames)``."""
        distance = (prediction - target).abs()
        return (distance if self.config.distance == "l1" else distance**2).mean(dim=1)

    def loss(self, forward: Forward, x: Inputs, batch: Mapping[str, torch.Tensor], *, epoch: int) -> torch.Tensor:
        """Mean error over the chosen frames of a batch (or all that are real)."""
        chosen, source = self._spans(x, batch, epoch=epoch, split="train")
        prediction, target = forward(self._shown(x, source)), self.tagger.target(x)
        frames = min(prediction.shape[-1], target.shape[-1])
        weights = chosen[:, :frames].to(target.dtype)
        if self.config.positions == "all":
            masks = [values for name, values in batch.items() if name.endswith("_mask")]
            weights = masks[0][:, :frames].to(target) if masks else torch.ones_like(weights)
        errors = self._errors(prediction[..., :frames], target[..., :frames])
        return (errors * weights).sum() / weights.sum().clamp(min=1)

    @torch.no_grad()
    def score(self, tagger: Tagger | None, loader: Iterable[dict[str, torch.Tensor]], split: str) -> Reconstruction:
        """Errors of a split, hidden in the same places every time; without a model the baselines alone."""
        from featstore.training.feeding import inputs_of

        began = time.perf_counter()
        sums, windows, tracks = np.zeros(5), 0, set()
        for batch in loader:
            x = inputs_of(batch, self.engine.device)
            if not len(batch["index"]):
                continue
            chosen, source = self._spans(x, batch, epoch=0, split=split)
            target = self.tagger.target(x)
            prediction = target if tagger is None else cast("Any", tagger)(self._shown(x, source))
            frames = min(prediction.shape[-1], target.shape[-1])
            line = interpolated(target, chosen)
            weights = chosen[:, :frames].double()
            parts = [self._errors(each[..., :frames], target[..., :frames]) for each in (prediction, line)]
            parts.insert(1, self._errors(torch.zeros_like(target[..., :frames]), target[..., :frames]))
            sums[:3] += [float((part.double() * weights).sum()) for part in parts]
            sums[3:] += float(weights.sum()), weights.numel()
            windows += len(chosen)
            tracks |= set(batch["index"].tolist())
        found = self.engine.gather((sums, windows, len(tracks)))
        total = sum(each[0] for each in found)
        loss, mean, line_error = (float(value) for value in total[:3] / max(1.0, total[3]))
        values = {
            "loss": loss,
            "mean_baseline": mean,
            "line_baseline": line_error,
            "skill": 1 - loss / better if (better := min(mean, line_error)) else float("nan"),
            "chosen_share": float(total[3] / max(1.0, total[4])),
        }
        n_windows, n_tracks = sum(each[1] for each in found), sum(each[2] for each in found)
        return Reconstruction(split, values, n_tracks, n_windows, time.perf_counter() - began)

    def opening(self) -> str:
        """Say what has to be beaten."""
        if not self.baselines:
            return ""
        return (
            f"to beat on the validation split: {self.baselines['line_baseline']:.4f} (a line across each hidden span), "
            f"{self.baselines['mean_baseline']:.4f} (the mean of each band)"
        )


def _mean_of(norm: InputNorm | None) -> torch.Tensor | float:
    return 0.0 if norm is None else cast("torch.Tensor", norm.mean)
