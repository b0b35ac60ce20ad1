"""What a run is, before it starts, and what came of it: the contents of ``run.json`` and ``result.json``."""

from __future__ import annotations

import copy
import dataclasses
import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featstore.errors import ConfigError, check_known
from featstore.loaders.stored_feature import FeatureStore, StoredFeature
from featstore.metrics.chance import chance_levels
from featstore.models import MODELS, create
from featstore.models.cost import count_macs, count_parameters
from featstore.results.frames import spec_fields
from featstore.training.config import TrainConfig
from featstore.training.engines import peak_memory
from featstore.training.folders import RunFolder
from featstore.training.input_shape import InputShape, Readers
from featstore.training.job import Job, Outcome
from featstore.training.labels import LabelledTracks
from featstore.training.scoring import confusion_of, intervals_of, per_class_of
from featstore.training.seen_data import outside_data
from featstore.training.starting import checkpoint_of, file_digest
from featstore.version import __version__

__all__ = ["describe_run", "result_of"]

logger = logging.getLogger(__name__)

_REPEATED = ("run_id", "config_hash", "model", "feature", "dataset", "seed", "fold", "task", "input", "store")
"""What a result says of its run as the run's description has it."""


def describe_run(
    store: FeatureStore,
    readers: Readers,
    model: str,
    labelled: LabelledTracks,
    shape: InputShape,
    config: TrainConfig,
) -> dict[str, Any]:
    """Everything that says what is trained on what.

    ``run_id`` is a digest of all that decides the outcome; ``config_hash`` leaves seed and fold out, so that runs which
    repeat one another share it.
    """
    feature = " + ".join(reader.name for reader in readers.values())
    settings = config.identity()
    identity = {"model": model, "feature": feature, "dataset": labelled.dataset, "settings": settings}
    if config.start.run:  # what is in the file decides, not where it lies
        settings["start"]["run"] = file_digest(checkpoint_of(config.start.run))
    settings["start"]["weights"] = {
        part: file_digest(checkpoint_of(path), f"start.weights.{part}") for part, path in config.start.weights.items()
    }
    repeatable = copy.deepcopy(settings)
    del repeatable["seed"], repeatable["data"]["fold"]
    tracks = labelled.digest()
    kind = MODELS.load(model)
    sizes = {"n_classes": max(1, len(labelled.classes)), **shape.sizes(kind)}
    with torch.device("meta"):  # sizes alone: no memory, and no numbers drawn
        built = create(model, **sizes, **config.model)
    parameters, trainable = count_parameters(built)
    _check_batch(built, shape, labelled, config)
    if kind.takes_lengths and shape.is_picture(kind) and config.data.ragged == "pad":
        raise ConfigError(
            f"{model} cannot tell padding in a picture of several layers", "data.ragged=pad", "Set data.ragged=skip"
        )
    for part in config.start.weights:
        check_known(part, kind.published, f"{model} has no part {part!r} for weights from elsewhere", "start")
    return {
        "run_id": TrainConfig.digest(identity, tracks),
        "config_hash": TrainConfig.digest(identity | {"settings": repeatable}),
        "identity": identity | {"tracks": tracks},
        "model": model,
        "model_settings": config.as_mapping()["model"],
        "feature": feature,
        "dataset": labelled.dataset,
        "task": labelled.task,
        "classes": list(labelled.classes),
        "tracks": tracks,
        "objective": config.as_mapping()["objective"],
        "input": shape.as_mapping(),
        "parameters": parameters,
        "parameters_trainable": trainable,
        "macs": count_macs(built, shape.example(kind)),
        "outside_data": outside_data(store, readers, labelled, config.start.places),
        "seed": config.seed,
        "fold": config.data.fold if config.data.split == "folds" else None,
        "store": {"path": _absolute(str(store.location)), "fingerprint": store.fingerprint},
    }


def _check_batch(model: Any, shape: InputShape, labelled: LabelledTracks, config: TrainConfig) -> None:
    """Refuse batches of one example where a batch norm of the model has one value for each channel of it.

    Raises
    ------
    ConfigError
    """
    crops = len(labelled.splits["train"]) * config.data.crops_per_track
    if min(config.data.batch_size, crops) // config.device.devices != 1:
        return
    try:
        model.train()(shape.example(type(model)))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "a batch of one example leaves the model's batch norm nothing to average over",
            f"data.batch_size={config.data.batch_size}, {crops} crops in an epoch",
            "Set data.batch_size to 2 or more for each device, or data.crops_per_track higher",
        ) from error


def result_of(store: FeatureStore, job: Job, outcome: Outcome) -> dict[str, Any]:
    """Collect the result: scores, costs and provenance of a run."""
    readers, labelled, config, run = list(job.readers.values()), job.labelled, job.config, job.run
    reader = readers[0]
    parts, progress, last = outcome.parts, outcome.progress, outcome.parts[-1]
    stored = store.tracks[store.tracks.index.isin(set(reader.track_ids))]
    return {
        **{name: run[name] for name in _REPEATED},
        "parameters": run["parameters"],
        "parameters_trainable": run["parameters_trainable"],
        "outside_data": run.get("outside_data", ""),
        "classes": list(labelled.classes),
        "n_classes": len(labelled.classes),
        "objective": config.objective.name,
        "scores": {part.split: part.values for part in parts},
        **(_details(parts, labelled, config) if job.objective.needs_labels else {"intervals": {}, "per_class": {}}),
        "classes_without_both": labelled.one_sided,
        **({"fit": outcome.fit} if outcome.fit else {}),
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        **({"probes": found} if (found := job.folder.read_probes()) else {}),
        "n_tracks": {split: len(part) for split, part in labelled.splits.items()},
        "gmacs": run["macs"] / 1e9,
        "bytes": {
            "alone": sum(each.bytes_alone for each in readers),
            "added": sum(each.bytes_added for each in readers),
            "audio": _sum_of(stored, "size_bytes"),
        },
        "seconds": {
            "extract": _extract_seconds(store, readers),
            "train": progress.seconds_train,
            "validate": progress.seconds_validate,
            "waiting": progress.seconds_wait,
            "inference": last.seconds,
        },
        "rates": {
            "train_samples_per_s": progress.samples_per_s,
            "waiting_share": progress.waiting_share,
            "train_seconds_per_epoch": progress.seconds_train / max(1, progress.epoch),
            "inference_tracks_per_s": last.n_tracks / max(1e-9, last.seconds),
            "inference_windows_per_s": last.n_windows / max(1e-9, last.seconds),
        },
        "peak_memory_bytes": peak_memory(outcome.device),
        "device": _device_name(outcome.device),
        "duration_s": _sum_of(stored, "duration_s"),
        **_start_and_audio(reader, job, progress.n_seen),
        "n_stored": len(reader),
        "feature_fields": spec_fields(reader.spec, reader.encoding),
        "hop_multiple": reader.view.stride,
        "config": config.as_mapping(),
        "versions": _versions(),
    }


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).absolute())


def _start_and_audio(reader: StoredFeature, job: Job, n_seen: int) -> dict[str, Any]:
    """What the run starts from, and seconds of audio that the optimizer was shown, crop by crop: here, and there."""
    spec = reader.spec
    seen = {"run": n_seen * job.shape.n_frames * spec.frame_step / spec.sample_rate, "start": 0.0}
    place = job.config.start.run
    before = RunFolder(place).read_result() if place and Path(place).is_dir() else None
    if before is None:
        return {"audio_seen_s": seen}
    seen["start"] = sum(before.get("audio_seen_s", {}).values())
    start = {name: before.get(name) for name in ("model", "objective", "config_hash")}
    return {"audio_seen_s": seen, "start": start}


def _sum_of(frame: Any, column: str) -> float | None:
    """Sum over the tracks; None where it is not known for all."""
    if column not in frame or frame[column].isna().any():
        return None
    return float(frame[column].sum())


def _details(parts: Sequence[Any], labelled: LabelledTracks, config: TrainConfig) -> dict[str, Any]:
    """Intervals, scores by class and confusion of predictions."""
    drawn, seed = config.evaluate.bootstrap, config.seed
    intervals = {part.split: intervals_of(part, n_resamples=drawn, seed=seed) for part in parts} if drawn else {}
    return {
        **_chance_and_gap(parts, labelled),
        "intervals": intervals,
        "per_class": {part.split: per_class_of(part.tracks.targets, part.scores, labelled.classes) for part in parts},
        "confusion": {part.split: found for part in parts if (found := confusion_of(part)) is not None},
    }


def _chance_and_gap(parts: Sequence[Any], labelled: LabelledTracks) -> dict[str, Any]:
    """What guessing would score, of single labels; and how much better the training split scores, where it was."""
    if labelled.task != "single_label":
        return {}
    known, n_classes = labelled.splits["train"].targets, len(labelled.classes)
    chance = {
        part.split: {
            name: dataclasses.asdict(each)
            for name, each in chance_levels(part.tracks.targets, n_classes, train_targets=known).items()
        }
        for part in parts
    }
    scores = {part.split: part.values["macro_f1_all"] for part in parts}
    gap = {"overfitting": scores["train"] - scores["valid"]} if {"train", "valid"} <= set(scores) else {}
    return {"chance": chance, **gap}


def _extract_seconds(store: FeatureStore, readers: Sequence[StoredFeature]) -> float | None:
    """Worker seconds that the store's log has for the features' bases; None where it lacks one of them."""
    found = [store.extract_seconds(key) for key in sorted({reader.base.key for reader in readers})]
    return sum(each for each in found if each is not None) if None not in found else None


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    return {
        "featstore": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
