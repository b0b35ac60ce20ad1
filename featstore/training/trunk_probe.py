"""A linear probe of the trunk while it is pretrained: shows whether a falling loss means better vectors.

Kamuni et al. 2024 (arXiv 2404.01058) report that the pretraining loss does not predict the score. Every
``loop.probe_every`` steps the pooled vectors of a fixed part of the labelled training tracks are fitted by logistic
regression, and the validation tracks are scored. Nothing of it reaches the weights or the random numbers of training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.metrics import METRICS
from featstore.training.engines import Engine
from featstore.training.feeding import evaluation_loader
from featstore.training.job import Job
from featstore.training.labels import LabelledTracks
from featstore.training.losses import probabilities
from featstore.training.normed_model import ModelBatch, NormedModel
from featstore.training.probe_fit import solve_logistic
from featstore.training.scoring import track_sums
from featstore.training.shares import with_train_share

__all__ = ["TrunkProbe"]

_WINDOWS = 2  # of each track, spread over it
_STRENGTH = 1.0  # inverse L2 penalty, on standardised vectors; one for all checkpoints, so that they compare


class TrunkProbe:
    """Scores of logistic regression on the pooled vectors of a model.

    Parameters
    ----------
    job : Job
        With labels for the probe; ``loop.probe_tracks`` of the training tracks are taken, by class and whole groups.
    engine : Engine
    """

    def __init__(self, job: Job, engine: Engine) -> None:
        labelled = cast("LabelledTracks", job.probe)
        share = min(1.0, job.config.loop.probe_tracks / len(labelled.splits["train"]))
        kept = with_train_share(labelled, share, seed=job.config.data.split_seed)
        self.engine, self.task, self.n_classes = engine, labelled.task, len(labelled.classes)
        self.parts = {name: kept.splits[name] for name in ("train", "valid")}
        self.loaders = {
            name: evaluation_loader(job, part, engine, windows=_WINDOWS) for name, part in self.parts.items()
        }

    @torch.no_grad()
    def scores(self, normed: NormedModel) -> dict[str, float]:
        """Every metric on the validation tracks, by name; the model is left in evaluation mode."""
        normed.eval()
        with self.engine.autocast():
            vectors = {name: self._vectors(normed, loader, name) for name, loader in self.loaders.items()}
        mean, std = vectors["train"].mean(axis=0), vectors["train"].std(axis=0)
        train, valid = ((vectors[name] - mean) / np.where(std > 1e-6, std, 1.0) for name in ("train", "valid"))
        weights, bias = solve_logistic(train, self.parts["train"].targets, self.n_classes, _STRENGTH)
        logits = torch.from_numpy(valid @ weights.T + bias)
        found = probabilities(logits, self.task).numpy()
        targets = self.parts["valid"].targets
        return {name: float(METRICS.load(name)(targets, found).value) for name in METRICS}

    def _vectors(
        self, normed: NormedModel, loader: Iterable[dict[str, torch.Tensor]], split: str
    ) -> NDArray[np.float64]:
        """Pooled vectors (tracks, dimensions), mean over the windows of each track."""

        def pooled(batch: ModelBatch) -> dict[str, torch.Tensor]:
            x, lengths = normed.arranged(normed.normalised(batch.x)), normed.lengths_for(batch.lengths)
            return {"vectors": normed.model.forward_features(x, *lengths)}

        total = track_sums(loader, normed.names, len(self.parts[split]), self.engine, pooled)
        return total["vectors"] / np.maximum(total["windows"], 1)[:, None]
