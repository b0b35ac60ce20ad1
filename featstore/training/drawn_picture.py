"""A spectrogram that a learned front end has to draw: the other reading of how GAFX was pretrained.

Z. Bu, H. Zhang, X. Zhu, "GAFX: A general audio feature extractor", 2022, train extractors on AudioSet with a binary
cross-entropy and speak of a spectrogram as the output. Tags are the reading that their results make likely; this is the
other one. The target is a stored log-mel picture between two fixed values. An extractor that ends in a ReLU cannot draw
what lies below one half, so a linear layer between the bands follows it, which exists only here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.loaders.stored_feature import FeatureStore
from featstore.models.interface import Model
from featstore.training.config import ObjectiveConfig, TrainConfig
from featstore.training.engines import Engine
from featstore.training.input_shape import InputShape, Readers
from featstore.training.job import Job
from featstore.training.normed_model import Inputs, ModelBatch, NormedModel
from featstore.training.objectives import Forward, Measured
from featstore.training.settings import require

__all__ = ["Picture", "PictureConfig", "PictureDrawer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureConfig(ObjectiveConfig):
    """Settings of drawing a spectrogram.

    Parameters
    ----------
    target : str
        Stored feature with as many bands as the extractor draws and a frame for each of its frames.
    low, high : float
        What becomes 0 and 1: two deviations of AudioSet's natural-log mel energies below and above their mean.
    """

    name: str = "picture"
    target: str = "ast-128"
    low: float = -13.4057
    high: float = 4.8703

    def check(self) -> None:
        """Refuse bounds without values between them."""
        require(self.low < self.high, f"low={self.low} and high={self.high} are no range", "objective")


class PictureDrawer(NormedModel):
    """The extractor of a model with a linear layer between its bands; the rest of the model is not trained."""

    def __init__(self, model: Model, norm: nn.Module | None = None, *, bands: int, **settings: Any) -> None:
        super().__init__(model, norm, **settings)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("extractor."))  # no gradient ever reaches the others
        self.decoder = nn.Linear(bands, bands)

    def forward(self, x: Inputs, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Logits ``(batch, bands, frames)`` of the picture."""
        model: Any = self.model
        drawn: torch.Tensor = model.draw(self.arranged(self.normalised(x)))
        logits: torch.Tensor = self.decoder(drawn.transpose(1, 2)).transpose(1, 2)
        return logits.float()


class Picture(Measured):
    """Binary cross-entropy of a picture whose values are shares of a fixed range."""

    Config: ClassVar[type[ObjectiveConfig]] = PictureConfig
    config: PictureConfig

    def __init__(self, job: Job, engine: Engine, normed: NormedModel) -> None:
        super().__init__(job, engine, normed)
        self.reader = job.beside[self.config.target]
        self.step = int(self.reader.spec.frame_step)
        sample_rate, target_rate = int(self.spec.sample_rate), int(self.reader.spec.sample_rate)
        if target_rate != sample_rate:
            found = f"the target is at {target_rate} Hz, the input at {sample_rate}"
            raise ConfigError(found, "objective.target", "Choose one of the same rate")
        if job.shape.grid % self.step or job.shape.stride % self.step:
            places = f"crops start at multiples of {job.shape.grid} samples, windows at those of {job.shape.stride}"
            found = f"{places}; the target has a frame each {self.step}"
            fix = f"Set data.crop_grid_s={self.step / sample_rate!r}, and data.window_stride_s to a multiple of it"
            raise ConfigError(found, "objective.target", fix)

    @classmethod
    def check(cls, model: str, config: TrainConfig) -> None:
        """Refuse a model that does not draw one picture."""
        super().check(model, config)
        what = "the model has no learned front end that draws a picture"
        cls.check_model(model, lambda kind: kind.usual_layers == "picture", what)

    @classmethod
    def resolve(cls, model: str, config: TrainConfig, readers: Readers, store: FeatureStore) -> TrainConfig:
        """Settings with the target's full name."""
        settings = cast("PictureConfig", config.objective)
        return replace(config, objective=replace(settings, target=store[settings.target].name))

    @classmethod
    def beside(cls, config: TrainConfig) -> tuple[str, ...]:
        """Feature that is to be drawn."""
        return (cast("PictureConfig", config.objective).target,)

    @classmethod
    def wrap(cls, model: Model, shape: InputShape, settings: ObjectiveConfig, **normed: Any) -> PictureDrawer:
        """Extractor of the model with a linear layer."""
        return PictureDrawer(model, bands=int(cast("Any", model).trunk.grid[0]) * 16, **normed)

    def _wanted(self, batch: ModelBatch, n_frames: int, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares of the range ``(batch, bands, frames)``, and which frames there are ``(batch, 1, frames)``."""
        ids = self.job.labelled.splits[split].track_ids
        found = np.zeros((len(batch), self.reader.shape_of_item[0], n_frames), np.float32)
        there = np.zeros((len(batch), 1, n_frames), np.float32)
        for place, (track, start) in enumerate(zip(batch.index.tolist(), batch.start.tolist(), strict=True)):
            row, first = self.reader.row_of(ids[track]), start // self.step
            stop = min(first + n_frames, int(self.reader.lengths[row]))
            found[place, :, : stop - first] = self.reader.read_row(row, first, stop)
            there[place, :, : stop - first] = 1
        shares = (found - self.config.low) / (self.config.high - self.config.low)
        device = batch.first.device
        return torch.from_numpy(shares.clip(0, 1)).to(device), torch.from_numpy(there).to(device)

    def loss(self, forward: Forward, batch: ModelBatch, *, epoch: int) -> torch.Tensor:
        """Mean over bands and frames."""
        logits = forward(batch.x, batch.lengths)
        wanted, there = self._wanted(batch, logits.shape[-1], "train")
        each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return (each * there).sum() / (there.sum() * logits.shape[1]).clamp(min=1)

    def figures(self, normed: NormedModel | None, batch: ModelBatch, split: str) -> dict[str, torch.Tensor]:
        """Sums over the bands and frames of each crop."""
        logits = (normed or self.normed)(batch.x, batch.lengths)
        wanted, there = self._wanted(batch, logits.shape[-1], split)
        mean = (wanted * there).sum(dim=2, keepdim=True) / there.sum(dim=2, keepdim=True).clamp(min=1)
        safe = wanted.clamp(1e-7, 1 - 1e-7)
        parts = {
            "loss": functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none"),
            "entropy": functional.binary_cross_entropy(safe, wanted, reduction="none"),
            "error": (logits.sigmoid() - wanted).abs(),
            "mean_baseline": (mean - wanted).abs(),
            "cells": torch.ones_like(wanted),
        }
        return {name: (part * there).sum(dim=(1, 2), dtype=torch.float64) for name, part in parts.items()}

    def values(self, total: dict[str, NDArray[np.float64]]) -> dict[str, float]:
        """Scores of a split.

        ``loss``; ``entropy``, the loss of a picture without error; ``error``, the mean distance of a value from what is
        wanted, in shares of the range; ``mean_baseline``, that distance for the mean of each band of each clip.
        """
        cells = max(1.0, float(total["cells"].sum()))
        return {name: float(each.sum()) / cells for name, each in total.items() if name != "cells"}
