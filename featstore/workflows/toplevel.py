"""The functions at the top of the package: each takes paths and names as well as objects, and calls one room.

``featstore.load_tracks``, ``plan``, ``extract``, ``train``, ``pretrain``, ``evaluate``, ``tag`` and ``results`` live
here; ``open_store`` and ``torch_dataset`` come from their rooms.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError
from featstore.specs import FeatureRequest, FeatureSpec
from featstore.typed_values import build

if TYPE_CHECKING:
    import pandas as pd

    from featstore.datasets import TrackTable
    from featstore.extract.forecast import Forecast
    from featstore.extract.report import ExtractReport
    from featstore.results import RunRecord, RunSet
    from featstore.store.store import Store
    from featstore.training import TrainConfig
    from featstore.workflows.tag import TagReport

__all__ = ["evaluate", "extract", "load_tracks", "plan", "pretrain", "results", "tag", "train"]

Place = str | os.PathLike[str]
Feature = str | FeatureSpec | FeatureRequest
Features = Feature | Sequence[Feature]


def load_tracks(
    source: Place | TrackTable | pd.DataFrame, kind: str | None = None, *, jobs: int | None = None, **options: Any
) -> TrackTable:
    """Tracks of a table, a folder of audio, a CSV list, or a published data set.

    Parameters
    ----------
    source : path, TrackTable or pandas.DataFrame
        A Parquet file is read; a folder or CSV file is indexed, and the headers of its files are read. A table comes
        back as it is; a frame, or a Parquet file that featstore did not write, needs the columns ``track_id`` (or an
        index of this name) and ``path``.
    kind : str, optional
        Kind of data set (``featstore datasets list``); by default ``folder`` or ``csv``, as the path says.
    jobs : int, optional
        Files looked at at a time.
    **options
        Of the kind, such as ``label_column="genre"`` or ``group_from="artist"``.

    Raises
    ------
    DatasetError
        When there is no such table, folder or list, or it is not what the kind expects.
    ConfigError
        For an unknown kind or option.

    Examples
    --------
    >>> tracks = load_tracks("music")  # doctest: +SKIP
    >>> tracks.frame[["track_id", "labels", "duration_s"]]  # doctest: +SKIP
    """
    from featstore.datasets.frame_facts import frame_facts, with_ids
    from featstore.datasets.table import TrackTable, track_table

    if isinstance(source, TrackTable):
        return source
    if not isinstance(source, str | os.PathLike):
        frame = with_ids(source)
        return track_table(frame, **frame_facts(frame, frame.attrs, "tracks"))
    path = os.fspath(source)
    listed = path.lower().endswith((".csv", ".tsv", ".tab"))
    if kind is None and not listed and not os.path.isdir(os.path.expanduser(path)):
        if options:
            what = f"options of a data set, but {path} is a table"
            raise ConfigError(what, "load_tracks", "Leave them out, or name the kind")
        return TrackTable.read(path)
    from featstore.workflows.indexing import index_tracks

    return index_tracks(kind or ("csv" if listed else "folder"), path, jobs=jobs, **options)


def _listed(features: Features) -> list[Feature]:
    return list(features) if isinstance(features, Iterable) and not isinstance(features, str) else [features]


def plan(
    tracks: Place | TrackTable | pd.DataFrame,
    features: Features,
    *,
    encoding: str | None = None,
    n_tracks: int | None = None,
    sample: int = 8,
    **settings: Any,
) -> Forecast:
    """What an extraction would compute and cost: its graph, bytes, files and seconds. Nothing is written.

    Parameters
    ----------
    tracks
        As for :func:`load_tracks`.
    features : spec, preset, YAML file, or list of them
    encoding : str, optional
        For features that name none: ``float32``, ``float16``, ``uint16`` or ``uint8``.
    n_tracks : int, optional
        Forecast for a collection of this size.
    sample : int
        Tracks to time; 0 forecasts no seconds.
    **settings
        ``jobs``, ``backend``, ``compression``, ``shard_tracks``.
    """
    from featstore.extract import make_plan
    from featstore.extract.forecast import forecast
    from featstore.features import expand_features

    made = make_plan(expand_features(_listed(features), encoding))
    return forecast(load_tracks(tracks), made, n_tracks=n_tracks, sample=sample, **settings)


def extract(
    tracks: Place | TrackTable | pd.DataFrame,
    features: Features,
    store: Place,
    *,
    encoding: str | None = None,
    **options: Any,
) -> ExtractReport:
    """Decode every track once and store all features asked for; called again, it does only what is missing.

    Parameters
    ----------
    tracks
        As for :func:`load_tracks`.
    features : spec, preset, YAML file, or list of them
    store : path or URL
        Of the store, made where there is none.
    encoding : str, optional
        For features that name none.
    **options
        Fields of :class:`featstore.extract.ExtractOptions`, such as ``jobs=4``, ``compression="zstd"`` or
        ``scheduler="sync"``.

    Returns
    -------
    ExtractReport
        Counts of tracks and bytes; failed tracks are rows of the store's ledger, not errors.
    """
    from featstore.extract import ExtractOptions, make_plan
    from featstore.extract.run import extract as run_extraction
    from featstore.features import expand_features

    made = make_plan(expand_features(_listed(features), encoding))
    chosen = build(ExtractOptions, {"progress": "bar"} | options, "options of an extraction")
    return run_extraction(load_tracks(tracks), made, store, chosen)


def train(
    store: Place | Store,
    features: Features,
    model: str,
    out: Place,
    *,
    tracks: Place | TrackTable | pd.DataFrame | None = None,
    settings: Mapping[str, Any] | Iterable[str] | TrainConfig | None = None,
    seed: int | None = None,
) -> RunRecord:
    """Train a model from a store, or go on with a run that was stopped; a finished run comes back as it is.

    Parameters
    ----------
    store : path or Store
    features : spec, or list of specs that become one input
    model : str
        A name of ``featstore models list``.
    out : path
        The run's folder.
    tracks : as for :func:`load_tracks`, optional
        Labels and splits; those of the store by default.
    settings : mapping, list of ``"section.key=value"``, or TrainConfig, optional
        ``{"loop": {"epochs": 20}}``, or ``["loop.epochs=20"]``; ``featstore train --list-settings`` names them all.
    seed : int, optional
        Of weights, order and crops; 0 by default.

    Returns
    -------
    RunRecord
        ``.result`` is what ``result.json`` holds, ``.score("roc_auc")`` a score of the test split.
    """
    from featstore.results import read_results
    from featstore.training import TrainConfig
    from featstore.training import train as run_training

    if isinstance(settings, TrainConfig):
        config = settings if seed is None else replace(settings, seed=seed)
    else:
        config = TrainConfig.resolve(_as_mapping(settings), seed=seed)
    table = None if tracks is None else load_tracks(tracks)
    run_training(store, _listed(features), model, Path(out), tracks=table, config=config)
    return read_results(Path(out))[0]


def pretrain(
    store: Place | Store,
    features: Features,
    model: str,
    out: Place,
    *,
    tracks: Place | TrackTable | pd.DataFrame | None = None,
    settings: Mapping[str, Any] | Iterable[str] | TrainConfig | None = None,
    seed: int | None = None,
) -> RunRecord:
    """Pretrain a model: it learns to fill in hidden stretches of its input, without labels.

    As :func:`train`; start from it with ``settings=["start.run=RUN"]``.
    """
    from featstore.training import TrainConfig
    from featstore.training.settings import merge

    if not isinstance(settings, TrainConfig):
        settings = merge({"objective": {"name": "masked"}}, _as_mapping(settings))
    return train(store, features, model, out, tracks=tracks, settings=settings, seed=seed)


def _as_mapping(settings: Mapping[str, Any] | Iterable[str] | None) -> Mapping[str, Any]:
    """Settings by section, from texts or as they are."""
    from featstore.training.settings import parse_assignments

    if isinstance(settings, Mapping):
        return settings
    return parse_assignments([settings] if isinstance(settings, str) else settings or ())


def evaluate(
    run: Place | RunRecord,
    *,
    store: Place | Store | None = None,
    tracks: Place | TrackTable | pd.DataFrame | None = None,
    splits: str | Iterable[str] = (),
    settings: Mapping[str, Any] | Iterable[str] | None = None,
    predictions: Place | None = None,
) -> dict[str, dict[str, float]]:
    """Score a trained model again, from its checkpoint; metrics by split.

    Parameters
    ----------
    run : path or RunRecord
    store, tracks : optional
        Instead of those that it was trained with.
    splits : str or iterable of str
        Splits to score; those of the run's settings by default.
    settings : mapping or list of ``"section.key=value"``, optional
        Of the sections ``data``, ``evaluate`` and ``device``.
    predictions : path, optional
        File for the predictions; the run's own by default, where its own store and tracks are scored.
    """
    from featstore.training import evaluate as score_again

    return score_again(
        Path(_folder_of(run)),
        store=store,
        tracks=None if tracks is None else load_tracks(tracks),
        splits=[splits] if isinstance(splits, str) else splits,
        settings=_as_mapping(settings),
        predictions=None if predictions is None else Path(predictions),
    )


def tag(model: Place | RunRecord, audio: Place | Iterable[Place], **settings: Any) -> TagReport:
    """Tag audio files with a trained or published model.

    Parameters
    ----------
    model : path, RunRecord or str
        A run, a checkpoint file, or a published name such as ``mtt-musicnn``.
    audio : path or iterable of path
        Files and folders.
    **settings
        As for :func:`featstore.workflows.tag.tag_stream`: ``step_s``, ``store``, ``short`` …

    Returns
    -------
    TagReport
        ``report.files[0].top(report.classes, 5)`` are the five best tags of the first file; a file that cannot be
        tagged has its ``error``.
    """
    from featstore.workflows.tag import tag as tag_files

    places = [audio] if isinstance(audio, str | os.PathLike) else list(audio)
    return tag_files(os.fspath(_folder_of(model)), places, **settings)


def _folder_of(run: Place | RunRecord) -> Place:
    return run if isinstance(run, str | os.PathLike) else run.path


def results(*roots: Place) -> RunSet:
    """All runs below some folders, as a sequence of records; ``.frame`` is the same as a table.

    Raises
    ------
    ConfigError
        When a folder does not exist, or none is given.
    """
    from featstore.results import read_results

    return read_results(*(Path(root) for root in roots))
