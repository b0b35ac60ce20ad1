"""Runs of models that are fitted to whole splits in memory instead of being trained batch by batch."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from featstore.errors import ConfigError, CorruptFeature
from featstore.models.checkpoint_file import save_checkpoint
from featstore.models.interface import Model
from featstore.registry import load_attribute
from featstore.training.job import Job
from featstore.training.labels import SplitTracks
from featstore.training.normed_model import NormedModel
from featstore.training.probe_fit import Vectors
from featstore.training.progress import Progress

__all__ = ["fit_run"]

logger = logging.getLogger(__name__)


def fit_run(job: Job, normed: NormedModel) -> tuple[Progress, dict[str, Any]]:
    """Fit a model to the splits of a job and keep its weights as the run's checkpoint.

    Parameters
    ----------
    job : Job
    normed : NormedModel
        With fresh weights; changed in place.

    Returns
    -------
    progress : Progress
        One epoch, finished.
    found : dict
        What was chosen, and what everything that was tried scores on the validation split.

    Raises
    ------
    ConfigError
        More than one input, or an objective without labels.
    CorruptFeature
        A stored value is not finite; the track is named.
    """
    model: Model = normed.model
    if len(job.readers) != 1 or not job.objective.needs_labels:
        raise ConfigError(
            f"{job.run['model']} is fitted to labels on one feature", "training", "Give it one embedding, and labels"
        )
    began = time.perf_counter()
    (reader,) = job.readers.values()
    parts = {name: _vectors(reader, part) for name, part in job.labelled.splits.items()}
    read = time.perf_counter()
    found: dict[str, Any] = load_attribute(model.fitter)(model, parts, job.monitor, job.config)
    progress = Progress(epoch=1, step=1, best_epoch=0, finished=True, n_seen=len(parts["train"].values))
    progress.best_value = float(found[f"valid_{job.monitor}"])
    progress.seconds_wait, progress.seconds_train = read - began, time.perf_counter() - began
    state = {**job.header(), "epoch": 1, "scores": {job.monitor: progress.best_value}}
    for path in (job.folder.best, job.folder.last):
        save_checkpoint(path, normed.state_dict(prefix="model."), state)
    line = {"epoch": 0, "step": 1, "time": time.time(), "valid": {job.monitor: progress.best_value}}
    job.folder.cut_metrics(0)
    job.folder.append_metrics(line)
    logger.info("%s: %s", job.folder.path, {key: value for key, value in found.items() if key != "tried"})
    return progress, found


def _vectors(reader: Any, part: SplitTracks) -> Vectors:
    """Vectors of a split's tracks, averaged over windows."""
    values = np.empty((len(part), *reader.shape_of_item), np.float32)
    for row, track in enumerate(part.track_ids):
        values[row] = np.asarray(reader[track], np.float32).mean(axis=-1)
        if not np.isfinite(values[row]).all():
            raise CorruptFeature(
                f"track {track} holds values that are not finite", str(reader.name), "Run: featstore store verify"
            )
    return Vectors(values, part.targets)
