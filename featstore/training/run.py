"""``train`` and ``evaluate``: one run from a store and a model's name to a folder that says everything."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featstore.errors import CheckpointError, ConfigError, check_known
from featstore.loaders.stored_feature import FeatureStore, StoredFeature
from featstore.models import check_installed, setting_names
from featstore.results import write_result
from featstore.specs import FeatureRequest, FeatureSpec
from featstore.training import OBJECTIVES
from featstore.training.config import TrainConfig
from featstore.training.engines import launch, make_fabric, process_settings
from featstore.training.folders import RunFolder
from featstore.training.input_shape import InputShape, Readers, input_names, input_shape
from featstore.training.job import HEADER_KEYS, Job
from featstore.training.labels import LabelledTracks, label_tracks, read_labels, write_labels
from featstore.training.outcome import describe_run, result_of
from featstore.training.scoring import write_predictions
from featstore.training.seen_data import check_encoders, check_start
from featstore.training.settings import merge, read_yaml
from featstore.training.shares import with_train_share
from featstore.training.work import score_splits, work

__all__ = ["check_model_settings", "evaluate", "prepare", "train"]

logger = logging.getLogger(__name__)

Feature = str | FeatureSpec | FeatureRequest

_TO_EVALUATE = (*(key for key in HEADER_KEYS if key != "objective"), "store", "macs")  # older runs name no objective


def train(
    store: FeatureStore | str | os.PathLike[str],
    feature: Feature | Sequence[Feature],
    model: str,
    out: str | Path,
    *,
    tracks: Any = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a model on features of a store, or go on with a run that was stopped.

    What is minimised says ``config.objective``: labels, or what was hidden of the input (pretraining).

    Parameters
    ----------
    store : Store or path
    feature : str, FeatureSpec or FeatureRequest; or list of them
        Spec or canonical name; stored or derived. Several become one input: stacked, or by name where the model takes
        them so.
    model : str
        An entry of ``featstore.models.MODELS``.
    out : path
        The run's folder. A finished run in it is returned as it is; a stopped one goes on with its next batch.
    tracks : TrackTable or pandas.DataFrame, optional
        Labels and splits, joined on ``track_id``; by default those that the store was made with.
    config : TrainConfig or mapping, optional

    Returns
    -------
    dict
        What ``result.json`` holds.

    Raises
    ------
    ConfigError
        Unknown or contradictory settings, or a folder that holds another run.
    MissingFeature
        The store has no such feature; the message names near ones and the command that makes it.
    DatasetError
        Labels or splits that training cannot work with.
    NonFiniteLoss
        The loss became NaN; the last good checkpoint stays.
    CheckpointError
        The folder's checkpoint is damaged or foreign.

    See Also
    --------
    evaluate : Scores a run again.
    featstore.training.TrainConfig : All settings.
    featstore.workflows.tag.tag : Applies a run to new files.
    """
    opened, job = prepare(store, feature, model, out, tracks=tracks, config=config)
    folder, labelled = job.folder, job.labelled
    _check_folder(folder, job.run)
    finished = folder.read_result()
    if finished is not None:
        logger.info("%s is finished already", folder.path)
        return finished
    check_installed(model)
    with folder.lock():
        folder.write_run(job.run, job.config.as_mapping())
        write_labels(folder.labels, labelled)
        fabric = make_fabric(job.config.device)
        outcome = launch(fabric, work, job, processes=job.config.device.devices)
        if job.objective.needs_labels:
            write_predictions(folder.predictions, outcome.parts, classes=labelled.classes, task=labelled.task)
        write_result(folder.path, result_of(opened, job, outcome))
    return folder.read_result() or {}


def prepare(
    store: FeatureStore | str | os.PathLike[str],
    feature: Feature | Sequence[Feature],
    model: str,
    out: str | Path,
    *,
    tracks: Any = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
) -> tuple[FeatureStore, Job]:
    """Check all that a run needs, and put it together; nothing is written.

    Parameters
    ----------
    store, feature, model, out, tracks, config
        As for :func:`train`, which raises the same errors.
    """
    resolved = config if isinstance(config, TrainConfig) else TrainConfig.resolve(config)
    objective = OBJECTIVES.load(resolved.objective.name)
    objective.check(model, resolved)
    check_model_settings(model, resolved.model)
    opened = _opened(store)
    readers = _readers(opened, [feature] if isinstance(feature, str | FeatureSpec | FeatureRequest) else feature)
    resolved = objective.resolve(model, resolved, readers, opened)
    labelled = _labels(opened, readers, tracks, resolved, needed=objective.needs_labels)
    probe = _labels(opened, readers, tracks, resolved, needed=True) if resolved.loop.probe_every else None
    labelled = with_train_share(labelled, resolved.data.train_share, seed=resolved.data.split_seed)
    if not any(name in labelled.splits for name in resolved.evaluate.splits):
        listing = ", ".join(labelled.splits)
        raise ConfigError(
            f"no track in {', '.join(resolved.evaluate.splits)}", "evaluate.splits", f"There are: {listing}"
        )
    check_encoders(opened, readers, labelled)
    for place in resolved.start.places:
        check_start(place, labelled)
    shape = input_shape(readers, labelled, resolved.data)
    run = describe_run(opened, readers, model, labelled, shape, resolved)
    beside = {name: opened[name] for name in objective.beside(resolved)}
    return opened, Job(readers, labelled, shape, resolved, RunFolder(out), run, beside, probe)


def evaluate(
    run_dir: str | Path,
    *,
    store: FeatureStore | str | os.PathLike[str] | None = None,
    tracks: Any = None,
    splits: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    predictions: str | Path | None = None,
) -> dict[str, dict[str, float]]:
    """Score a trained model again, from its checkpoint and the store.

    Parameters
    ----------
    run_dir : path
        A run that has at least one checkpoint.
    store : Store or path, optional
        By default the one it was trained from. Another one, such as that of altered copies, may hold some of the tracks
        only: those are scored.
    tracks : TrackTable or pandas.DataFrame, optional
        By default the labels and splits that it was trained with.
    splits : iterable of str
        By default those of the run's settings.
    settings : mapping, optional
        Settings of the sections ``device``, ``evaluate`` and ``data`` to put over the run's.
    predictions : path, optional
        File for the predictions. By default the run's ``predictions.parquet``, which reports read, where the run is
        scored as it was trained: no other store, tracks, splits or settings.

    Returns
    -------
    dict of str to dict of str to float
        Metrics by split.

    Raises
    ------
    CheckpointError
        There is no run or no checkpoint, or it is damaged or of another model or feature.
    ConfigError
        A split that the run does not have, or a store with none of its tracks.

    See Also
    --------
    featstore.results.read_predictions : Reads what it wrote.
    """
    folder = RunFolder(run_dir)
    run = folder.read_run(needed=_TO_EVALUATE)
    if run is None:
        raise CheckpointError("there is no run in this folder", str(run_dir), "Train first: featstore train … -o RUN")
    own = merge(read_yaml(folder.path / "config.yaml"), {"device": {"devices": 1}})
    config = TrainConfig.resolve(merge(own, settings or {}))
    opened = _opened(run["store"]["path"] if store is None else store)
    readers = _readers(opened, run["feature"].split(" + "))
    if tracks is None:
        labelled = read_labels(folder.labels)
    else:
        own_data = replace(config.data, classes=tuple(run["classes"]), task=run["task"])
        needed = OBJECTIVES.load(config.objective.name).needs_labels
        labelled = _labels(opened, readers, tracks, replace(config, data=own_data), needed=needed)
    splits = tuple(splits)
    names = splits or tuple(name for name in config.evaluate.splits if name in labelled.splits)
    for name in names:
        if name not in labelled.splits:
            raise ConfigError(f"no split {name!r}", str(folder.path), f"There are: {', '.join(labelled.splits)}")
    if store is not None and tracks is None:
        labelled, names = _stored_labels(labelled, names, readers, opened)
    if opened.fingerprint != run["store"]["fingerprint"]:
        logger.info("the store has changed since %s was trained", folder.path)
    beside = {name: opened[name] for name in OBJECTIVES.load(config.objective.name).beside(config)}
    job = Job(readers, labelled, InputShape.from_mapping(run["input"]), config, folder, run, beside)
    fabric = make_fabric(config.device)
    with process_settings(config.device, macs_per_batch=job.macs_per_batch, fabric=fabric) as engine:
        parts = score_splits(job, names, engine)
    as_trained = store is None and tracks is None and not splits and not settings
    target = predictions or (folder.predictions if as_trained else None)
    if job.objective.needs_labels and target is not None:
        write_predictions(Path(target), parts, classes=labelled.classes, task=labelled.task)
    return {part.split: part.values for part in parts}


def _stored_labels(
    labelled: LabelledTracks, names: Sequence[str], readers: Readers, store: FeatureStore
) -> tuple[LabelledTracks, tuple[str, ...]]:
    """Labels of a run with the tracks of some splits that another store holds, and those splits that have any."""
    there = set.intersection(*(set(reader.track_ids) for reader in readers.values()))
    splits = dict(labelled.splits)
    for name in names:
        part = labelled.splits[name]
        splits[name] = part.take(row for row, track in enumerate(part.track_ids) if track in there)
        if len(splits[name]) < len(part):
            held = len(splits[name])
            logger.info("%s holds %d of the %d %s tracks of the run", store.location, held, len(part), name)
    kept = tuple(name for name in names if len(splits[name]))
    if not kept:
        what = f"the store holds none of the run's tracks in {', '.join(names)}"
        raise ConfigError(what, str(store.location), "Choose another --split, or give --tracks")
    return replace(labelled, splits={name: part for name, part in splits.items() if len(part)}), kept


def _readers(store: FeatureStore, features: Sequence[Feature]) -> dict[str, StoredFeature]:
    """Features by the names that they have in batches."""
    found = [store[feature] for feature in features]
    names = [reader.name for reader in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"the same feature twice: {names[0]}", "training", "Name each once")
    return dict(zip(input_names([reader.spec.kind for reader in found]), found, strict=True))


def _opened(store: FeatureStore | str | os.PathLike[str]) -> FeatureStore:
    """Open a store given by its path, through the package's front door: this room does not know the stores."""
    if not isinstance(store, str | os.PathLike):
        return store
    import featstore

    return featstore.open_store(store)


def check_model_settings(model: str, settings: Mapping[str, Any]) -> None:
    """Check the names of a model's settings, before any work."""
    known = setting_names(model)
    for name in settings:
        check_known(name, known, f"unknown setting 'model.{name}'", f"model {model}")


def _labels(store: FeatureStore, readers: Readers, tracks: Any, config: TrainConfig, *, needed: bool) -> LabelledTracks:
    """Tracks and splits of a run, with their labels where they are ``needed``."""
    place = str(store.location)
    info = store.table.facts if tracks is None else None
    name = str(getattr(info, "name", "")) or Path(place).stem
    there = set.intersection(*(set(reader.track_ids) for reader in readers.values()))
    stored = [track for track in next(iter(readers.values())).track_ids if track in there]
    table = store.tracks if tracks is None else tracks
    return label_tracks(table, stored, config.data, info=info, name=name, where=place, needed=needed)


def _check_folder(folder: RunFolder, run: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another run, naming what differs; one that was never trained a batch holds nothing."""
    there = folder.read_run(needed=("run_id", "identity"))
    if there is None or there["run_id"] == run["run_id"] or not folder.has_weights:
        return
    found = _differences(there["identity"], run["identity"])
    shown = "; ".join(f"{key} {old!r}, here {new!r}" for key, (old, new) in list(found.items())[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise ConfigError(
        f"the folder holds another run: {shown}{more}", str(folder.path), "Choose another --out, or delete it"
    )


def _differences(old: Any, new: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted({*old, *new}):
            found |= _differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
        return found
    return {} if old == new else {place: (old, new)}
