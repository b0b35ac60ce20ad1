"""From a store's readers to batches: the loaders of each split, and the statistics of the training split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from featstore.errors import ConfigError, DatasetError
from featstore.loaders import BatchLoader, band_statistics
from featstore.loaders.crops import Tail
from featstore.loaders.stored_feature import StoredFeature
from featstore.models.layers import InputNorm
from featstore.training.engines import Engine
from featstore.training.input_shape import INPUT, Readers, lengths_of
from featstore.training.job import Job
from featstore.training.labels import LabelledTracks, SplitTracks
from featstore.training.losses import crops_by_class

__all__ = ["TAILS", "evaluation_loader", "input_norm", "training_loader"]

TAILS: dict[str, Tail] = {"cover": "align", "whole": "drop", "published_code": "overhang"}
"""What the policies of clips mean to a loader."""


def _loader(job: Job, part: SplitTracks, engine: Engine, **settings: Any) -> BatchLoader:
    config = job.config.data
    return BatchLoader(
        job.readers,
        part.track_ids,
        targets=part.targets,
        batch_size=config.batch_size,
        crop_frames=job.shape.n_frames,
        ragged=config.ragged,
        tier=config.tier,
        threads=config.threads,
        device=engine.device,
        rank=engine.rank,
        world_size=engine.world_size,
        **{"tail": TAILS[config.clip_policy]} | settings,
    )


def training_loader(job: Job, engine: Engine, *, balanced: bool = False) -> BatchLoader:
    """Random crops of the training split, full batches only (unless there is not even one).

    ``balanced`` takes more crops of the tracks of rare classes: see ``losses.crops_by_class``.

    Raises
    ------
    ConfigError
        When the batch cannot be shared out evenly among the processes.
    """
    config, labelled = job.config.data, job.labelled
    if config.batch_size % engine.world_size:
        raise ConfigError(
            f"data.batch_size={config.batch_size} cannot be shared by {engine.world_size} processes",
            "training",
            "Choose a multiple of device.devices",
        )
    part = labelled.splits["train"]
    repeats = crops_by_class(part.targets, len(labelled.classes))[part.targets] if balanced else None
    if engine.world_size > 1 and len(part) * config.crops_per_track < config.batch_size:
        raise DatasetError(f"{len(part)} tracks make no full batch of {config.batch_size}", "training", "Lower it")
    return _loader(
        job,
        part,
        engine,
        mode="random",
        shuffle=True,
        seed=job.config.seed,
        crops_per_track=config.crops_per_track,
        distinct=config.distinct_crops,
        repeats=repeats,
        start_grid=job.shape.grid,
        drop_last=len(part) * config.crops_per_track >= config.batch_size,
    )


def evaluation_loader(job: Job, part: SplitTracks, engine: Engine, *, windows: int = 0) -> BatchLoader:
    """Windows of each track of a split, in the table's order: all that cover it, or about ``windows`` of them."""
    shape, settings = job.shape, dict[str, Any](window_stride=job.shape.stride)
    if windows:
        first = next(iter(job.readers.values()))
        excerpt = 1 if first.clip_frames is None else shape.n_frames  # lengths are counted in excerpts
        room = int(lengths_of(first, part.track_ids).max()) * excerpt - shape.n_frames
        apart = max(room // (windows - 1), 1) if windows > 1 else room + 1
        apart = -(-apart // excerpt) * excerpt
        settings |= {"window_stride": max(shape.stride, apart), "tail": "drop"}
    return _loader(job, part, engine, mode="windows", shuffle=False, **settings)


def input_norm(readers: Readers, labelled: LabelledTracks, how: str) -> torch.nn.Module | None:
    """Statistics of the training split as a module (one for each of several inputs); None where none are wanted."""
    if how == "none":
        return None
    norms = {name: _norm_of(reader, labelled, how) for name, reader in readers.items()}
    return norms[INPUT] if INPUT in norms else torch.nn.ModuleDict(norms)


def _norm_of(reader: StoredFeature, labelled: LabelledTracks, how: str) -> InputNorm:
    statistics = band_statistics(reader, labelled.splits["train"].track_ids)
    mean, std = statistics.mean, statistics.std
    if how == "global":
        variance = float(np.mean(std**2 + mean**2) - np.mean(mean) ** 2)
        mean, std = np.full_like(mean, mean.mean()), np.full_like(std, variance**0.5)
    return InputNorm(mean, std)
