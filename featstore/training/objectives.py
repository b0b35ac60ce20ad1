"""What a stage of training minimises, and how it is judged; the loop and the models know nothing of it.

An objective says what is trained (the model, with whatever it needs besides), turns a batch into a loss, and a split
into scores. A further one is a subclass of :class:`Objective` in a file of its own and a line in
:data:`featstore.training.OBJECTIVES`; settings of its own are fields of its ``Config``.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.errors import ConfigError
from featstore.loaders.stored_feature import FeatureStore
from featstore.models import MODELS
from featstore.models.interface import Model
from featstore.training.augment import make_augmentation
from featstore.training.config import ObjectiveConfig, TrainConfig
from featstore.training.engines import Engine
from featstore.training.input_shape import InputShape, Readers
from featstore.training.job import Job
from featstore.training.losses import class_weighting, make_loss
from featstore.training.normed_model import ModelBatch, NormedModel
from featstore.training.scoring import Predictions, track_scores, track_sums, window_shares, window_weights

__all__ = ["Batches", "Forward", "Measured", "Objective", "Scored", "SplitScores", "Supervised"]

Forward = Callable[..., torch.Tensor]
"""The module that is trained, maybe wrapped or compiled: takes inputs and their lengths (or None)."""

Batches = Iterable[dict[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class SplitScores:
    """Scores of one split for an objective without labels; of labels there are :class:`Predictions`."""

    split: str
    values: dict[str, float]
    n_tracks: int
    n_windows: int
    seconds: float


Scored: TypeAlias = SplitScores | Predictions
"""What is known of one split after its windows were scored."""


class Objective(abc.ABC):
    """What the loop asks of an objective, bound to a run's data and device.

    Attributes
    ----------
    Config : type
        Its settings, with ``name``.
    needs_labels : bool
        Whether tracks have targets; otherwise every track of a split takes part.
    monitor : str
        The score that chooses the best weights where the settings leave it open.
    config : Config
        The run's settings of it.
    spec : FeatureSpec
        Of the first input.
    """

    Config: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    needs_labels: ClassVar[bool] = False
    monitor: ClassVar[str] = "loss"
    config: Any

    def __init__(self, job: Job, engine: Engine, normed: NormedModel) -> None:
        self.job, self.engine, self.normed = job, engine, normed
        self.config, self.seed = job.config.objective, job.config.seed
        self.spec = next(iter(job.readers.values())).spec

    @classmethod
    def check(cls, model: str, config: TrainConfig) -> None:
        """Refuse a model that cannot be trained like this, or settings that have no meaning, before any work.

        Raises
        ------
        ConfigError
        """
        if not cls.needs_labels and config.loop.monitor not in ("auto", "loss"):
            found = f"this run has no score {config.loop.monitor!r}"
            raise ConfigError(found, "loop.monitor", "It has loss: no labels are learnt")

    @staticmethod
    def check_model(name: str, fits: Callable[[type[Model]], bool], what: str, otherwise: str = "") -> None:
        """Refuse a model that does not fit, saying ``what`` is wrong with it and which ones do."""
        if not fits(MODELS.load(name)):
            able = ", ".join(each for each in MODELS if fits(MODELS.load(each)))
            raise ConfigError(what, f"model {name}", f"Choose {able}{otherwise}")

    @classmethod
    def resolve(cls, model: str, config: TrainConfig, readers: Readers, store: FeatureStore) -> TrainConfig:
        """Settings with what follows from the features of the run."""
        return config

    @classmethod
    def beside(cls, config: TrainConfig) -> tuple[str, ...]:
        """Features that are read besides the model's inputs."""
        return ()

    @classmethod
    def wrap(cls, model: Model, shape: InputShape, settings: ObjectiveConfig, **normed: Any) -> NormedModel:
        """Put the model behind its norm, with the layers that only this objective needs.

        ``normed`` are the further arguments of :class:`NormedModel`.
        """
        return NormedModel(model, **normed)

    @abc.abstractmethod
    def loss(self, forward: Forward, batch: ModelBatch, *, epoch: int) -> torch.Tensor:
        """Loss of a training batch, mean over its items; ``forward`` is what ``wrap`` returned."""

    @abc.abstractmethod
    def score(self, normed: NormedModel, loader: Batches, split: str) -> Scored:
        """Scores of a split."""

    def opening(self, loader: Batches) -> str:
        """What people should know before the first batch, from the validation split; may be empty."""
        return ""


class Measured(Objective):
    """An objective without labels, whose scores are made of sums over tracks."""

    @abc.abstractmethod
    def figures(self, normed: NormedModel | None, batch: ModelBatch, split: str) -> dict[str, torch.Tensor]:
        """Sums over each crop of a batch ``(batch,)``, by name; without a model, those of what needs none count."""

    @abc.abstractmethod
    def values(self, total: dict[str, NDArray[np.float64]]) -> dict[str, float]:
        """Scores of a split from the sums over each of its tracks ``(tracks,)``."""

    @torch.no_grad()
    def score(self, normed: NormedModel | None, loader: Batches, split: str) -> SplitScores:
        """Scores of a split: see the objective's ``values``."""
        began = time.perf_counter()
        n_tracks = len(self.job.labelled.splits[split])
        total = track_sums(
            loader, self.normed.names, n_tracks, self.engine, lambda batch: self.figures(normed, batch, split)
        )
        scored = total.pop("windows")
        seconds = time.perf_counter() - began
        return SplitScores(split, self.values(total), int(np.count_nonzero(scored)), int(scored.sum()), seconds)


class Supervised(Objective):
    """Labels of the track table."""

    needs_labels = True
    monitor = "roc_auc"

    def __init__(self, job: Job, engine: Engine, normed: NormedModel) -> None:
        super().__init__(job, engine, normed)
        config, labelled = job.config, job.labelled
        train = labelled.splits["train"].targets
        weights, added = (
            None if each is None else torch.from_numpy(each).to(engine.device)
            for each in class_weighting(config.loop.class_weights, train, len(labelled.classes))
        )
        specs = {name: reader.spec for name, reader in job.readers.items()}
        self.labelled, self.evaluation = labelled, config.evaluate
        smoothing = config.loop.label_smoothing
        self.criterion = make_loss(labelled.task, weights=weights, added=added, label_smoothing=smoothing)
        self.augment = make_augmentation(config.augment, specs, len(labelled.classes))

    def loss(self, forward: Forward, batch: ModelBatch, *, epoch: int) -> torch.Tensor:
        """Loss of a training batch."""
        x, target = batch.x, batch.target
        if self.augment is not None:
            x, target = self.augment(x, target)
        return self.criterion(forward(x, batch.lengths), target)

    @torch.no_grad()
    def score(self, normed: NormedModel, loader: Batches, split: str) -> Scored:
        """Predictions of a split: all windows, pooled by track as ``evaluate.pool`` and ``evaluate.weigh`` say.

        Sums are float64 and the windows of a track come in one order, so the result does not depend on the batches.
        """
        started, tracks, task = time.perf_counter(), self.labelled.splits[split], self.labelled.task
        evaluation, loss = self.evaluation, make_loss(task)

        def figures(batch: ModelBatch) -> dict[str, torch.Tensor]:
            logits = normed(batch.x, batch.lengths)
            weights = torch.from_numpy(window_weights(batch.fresh, len(batch), evaluation.weigh))
            shares = weights[:, None] * window_shares(logits, task, evaluation.pool).cpu()
            return {"shares": shares, "weights": weights, "loss": loss(logits, batch.target).expand(len(batch))}

        total = track_sums(loader, normed.names, len(tracks), self.engine, figures)
        means = torch.from_numpy(total["shares"] / np.maximum(total["weights"], 1)[:, None])
        scores = track_scores(means, task, evaluation.pool).numpy().astype(np.float32)
        scored = total["windows"] > 0  # tracks that the loader skipped have no score
        if not scored.all():
            tracks, scores = tracks.take(np.flatnonzero(scored)), scores[scored]
        n_windows = int(total["windows"].sum())
        mean_loss = float(total["loss"].sum()) / max(1, n_windows)
        return Predictions(split, tracks, scores, mean_loss, n_windows, time.perf_counter() - started)
