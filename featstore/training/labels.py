"""Tracks, labels and splits of a run: joined on the track id, checked, turned into targets."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from featstore.errors import CheckpointError, ConfigError, DatasetError, check_known
from featstore.grouping import assign_rows
from featstore.metrics import one_hot
from featstore.models.trained_on import members_of
from featstore.plain import is_missing
from featstore.results.details import array_of
from featstore.training.columns import column_of, write_columns
from featstore.training.config import DataConfig

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LabelledTracks",
    "SplitTracks",
    "groups_of",
    "label_tracks",
    "read_labels",
    "write_labels",
]

logger = logging.getLogger(__name__)

Task = Literal["multi_label", "single_label", "none"]
SPLITS = ("train", "valid", "test")
_NOTHING_KNOWN = SimpleNamespace(name="", task="none", classes=(), label_column="labels")  # of a bare frame
_LEARNT = "labels that are learnt"  # name of a column: a list of text in each row


@dataclass(frozen=True, slots=True)
class SplitTracks:
    """Tracks of one split, sorted by id.

    Attributes
    ----------
    track_ids : list of str
    targets : float32 (n, classes) of 0 and 1, or int64 (n,)
    groups : list of str
        Group of each track; its own id where it has none.
    """

    track_ids: list[str]
    targets: NDArray[Any]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.track_ids)

    def take(self, rows: Iterable[int]) -> SplitTracks:
        """Return some of the tracks, in the order of ``rows``."""
        rows = list(rows)
        return SplitTracks(
            [self.track_ids[row] for row in rows], self.targets[rows], [self.groups[row] for row in rows]
        )

    def counts(self, n_classes: int) -> NDArray[np.int64]:
        """Tracks of each class, int64 ``(n_classes,)``."""
        return np.asarray(one_hot(self.targets, n_classes).sum(axis=0))


@dataclass(frozen=True, slots=True)
class LabelledTracks:
    """What a run learns from.

    Attributes
    ----------
    dataset : str
        Name of the data set.
    task : "multi_label", "single_label", or "none" where no labels are learnt
    classes : tuple of str
        In the order of the model's outputs.
    splits : dict of str to SplitTracks
    """

    dataset: str
    task: Task
    classes: tuple[str, ...]
    splits: dict[str, SplitTracks]

    @property
    def one_sided(self) -> dict[str, list[str]]:
        """Per split, classes that are always or never true in it: ranking metrics leave them out."""
        found = {}
        for split, part in self.splits.items() if self.classes else ():
            counts = zip(self.classes, part.counts(len(self.classes)), strict=True)
            found[split] = [name for name, count in counts if count in (0, len(part))]
        return found

    def members(self, split: str) -> set[str]:
        """Tracks of a split and their groups, each with its data set; none of a split that is not there."""
        part = self.splits.get(split)
        return set() if part is None else members_of(self.dataset, part.track_ids, part.groups)

    def digest(self) -> str:
        """Digest over classes, splits, tracks and targets."""
        digest = hashlib.sha256(repr((self.task, self.classes)).encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(repr((name, split.track_ids)).encode())
            digest.update(np.ascontiguousarray(split.targets, dtype="<f8").tobytes())
        return digest.hexdigest()[:16]


def label_tracks(
    tracks: Any,
    stored: Sequence[str],
    config: DataConfig,
    *,
    info: Any = None,
    name: str = "",
    where: str = "",
    needed: bool = True,
) -> LabelledTracks:
    """Join a track table with what the store holds.

    Parameters
    ----------
    tracks : TrackTable or pandas.DataFrame
        A table (``.frame`` and ``.info``), or a frame with ``track_id`` as a column or index, labels and splits.
    stored : sequence of str
        Tracks for which the feature is there.
    config : DataConfig
    info : TableInfo, optional
        Of a bare frame: its task, class list, label column and name.
    name : str
        Of the data set, where the table has none.
    where : str
        For messages.
    needed : bool
        False passes over all labels: the task is ``none`` then, without classes, and targets are zero.

    Raises
    ------
    DatasetError
        No such label column, no labels in a split, no splits, no track of the table in the store, nothing to train on
        or to validate with.
    ConfigError
        Settings that contradict the table.
    """
    frame, info = (tracks.frame, tracks.info) if hasattr(tracks, "frame") else (tracks, info or _NOTHING_KNOWN)
    dataset = str(info.name or name)
    where = where or f"data set {dataset}"
    frame = frame if "track_id" in frame.columns else frame.rename_axis("track_id").reset_index()
    frame = _stored_part(frame, stored, config, where)
    task: Task = "none"
    classes: tuple[str, ...] = ()
    column = config.label_column or info.label_column
    labels: Any = _labels_of(frame, column, where) if needed else [[]] * len(frame)
    frame = frame.assign(**{_LEARNT: labels})
    if needed:
        facts = info if column == info.label_column else _NOTHING_KNOWN
        task, classes = _task_and_classes(frame[_LEARNT], config, facts, where)
        if task == "single_label":
            frame = _only_labelled(frame, config.classes, where)
    targets = _targets(frame, task, classes, where)
    whole = SplitTracks(list(map(str, frame["track_id"])), targets, groups_of(frame))
    labelled = LabelledTracks(dataset, task, classes, _by_split(whole, _assigned(frame, config, where), SPLITS))
    _check_splits(labelled, where)
    return labelled


def _by_split(tracks: SplitTracks, assigned: NDArray[Any], names: Iterable[str]) -> dict[str, SplitTracks]:
    """Tracks by the split of each row, without splits that have none."""
    parts = {name: tracks.take(np.flatnonzero(assigned == name)) for name in names}
    return {name: part for name, part in parts.items() if len(part)}


def _stored_part(frame: pd.DataFrame, stored: Sequence[str], config: DataConfig, where: str) -> pd.DataFrame:
    """Rows of the table whose feature is in the store, by track id: no run depends on the order of a table."""
    frame = frame.sort_values("track_id", ignore_index=True)
    twice = frame["track_id"][frame["track_id"].duplicated()]
    if len(twice):
        raise DatasetError(f"track {twice.iloc[0]} is listed twice", where, "List every track once")
    here = frame["track_id"].isin(set(stored))
    if not here.any():
        raise DatasetError(
            f"none of the table's {len(frame)} tracks has this feature in the store",
            where,
            "Check that table and store belong together; see featstore status",
        )
    lost = list(frame["track_id"][~here])
    if lost:
        shown = ", ".join(map(str, lost[:3])) + (" …" if len(lost) > 3 else "")
        found = f"{len(lost)} of {len(frame)} tracks have no stored feature: {shown}"
        if config.missing == "error":
            raise DatasetError(found, where, "Extract them (featstore status tells why), or set data.missing=skip")
        logger.warning("%s [%s]; they are left out", found, where)
    return frame[here].reset_index(drop=True)


def _labels_of(frame: pd.DataFrame, column: str, where: str) -> list[list[str]]:
    """Labels of each row as a list of text: a column of lists, or of single values."""
    check_known(column, [*map(str, frame.columns)], f"there is no label column {column!r}", where, error=DatasetError)
    return [_label_list(value) for value in frame[column]]


def _label_list(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list | tuple | np.ndarray):
        return [str(label) for label in value]
    return [] if is_missing(value) else [str(value)]


def _task_and_classes(
    labels: Iterable[list[str]], config: DataConfig, info: Any, where: str
) -> tuple[Task, tuple[str, ...]]:
    """Task and class list: the settings', else the table's, else what occurs."""
    known = sorted({label for row in labels for label in row})
    if not known:
        raise DatasetError(
            "no track has a label",
            where,
            "Index the data set with labels, pass --tracks with a labelled table, or set data.label_column",
        )
    classes = config.classes or tuple(info.classes) or tuple(known)
    for name in config.classes:
        check_known(name, known, f"no track has the label {name!r}", "data.classes")
    if len(set(classes)) != len(classes):
        raise ConfigError(f"data.classes={list(classes)} lists a class twice", "data", "List each once")
    task: Any = config.task
    if task == "auto":
        single = all(len(row) <= 1 for row in labels)
        task = info.task if info.task != "none" else ("single_label" if single else "multi_label")
    if task == "single_label" and len(classes) < 2:
        raise DatasetError(f"only one class: {classes[0]}", where, "A classifier needs at least two")
    return task, classes


def _only_labelled(frame: pd.DataFrame, chosen: Sequence[str], where: str) -> pd.DataFrame:
    """Leave out tracks without a label, and those of classes that were not chosen: a single label cannot say "none"."""
    kept = np.array([bool(each) and (not chosen or any(name in chosen for name in each)) for each in frame[_LEARNT]])
    for split in SPLITS if "split" in frame.columns else ():
        given = (frame["split"] == split).to_numpy(dtype=bool, na_value=False)
        if given.any() and not (given & kept).any():
            raise _labels_missing(int(given.sum()), split, where)
    if not kept.all():
        kind = "label among data.classes" if chosen else "label"
        logger.warning("%d of %d tracks have no %s and are left out [%s]", (~kept).sum(), len(kept), kind, where)
    return frame[kept].reset_index(drop=True)


def _targets(frame: pd.DataFrame, task: Task, classes: tuple[str, ...], where: str) -> NDArray[Any]:
    """Targets of all tracks, zero without a task; labels outside the class list are left out of a multi-label one."""
    from featstore.loaders import class_index, multi_hot

    labels = frame[_LEARNT].tolist()
    if task == "none":
        return np.zeros(len(frame), dtype=np.int64)
    if task == "multi_label":
        return np.asarray(multi_hot(labels, classes))
    try:
        return np.asarray(class_index(labels, classes, list(frame["track_id"])))
    except DatasetError as error:
        fix = error.fix or "Mend the table, or set data.task=multi_label"
        raise DatasetError(error.what, f"{where}, {error.where}", fix) from error


def groups_of(frame: pd.DataFrame) -> list[str]:
    """Group of each row, as ``group NAME``; a track without one is alone, as ``track ID``."""
    if "group" not in frame.columns:
        return [f"track {track}" for track in frame["track_id"]]
    pairs = zip(frame["group"], frame["track_id"], strict=True)
    return [f"group {group}" if _label_list(group) else f"track {track}" for group, track in pairs]


def _assigned(frame: pd.DataFrame, config: DataConfig, where: str) -> NDArray[Any]:
    """Split of each row, None for tracks that take no part."""
    if config.split != "given":
        groups, names = groups_of(frame), [row or [""] for row in frame[_LEARNT]]
        if config.split == "folds":
            return _fold_splits(groups, names, config)
        part = assign_rows(groups, names, shares=config.fractions, seed=config.split_seed)
        return np.array([SPLITS[number] for number in part], dtype=object)
    given = [value if isinstance(value, str) else None for value in frame.get("split", [None] * len(frame))]
    if not any(given):
        raise DatasetError(
            "the tracks have no splits",
            where,
            "Make them with: featstore datasets split TRACKS -o TRACKS; or draw them here: --set data.split=random",
        )
    return np.array(given, dtype=object)


def _fold_splits(groups: list[str], names: list[list[str]], config: DataConfig) -> NDArray[Any]:
    """Split of each row in a cross-validation: one fold tests, the next one or a share of all others validates."""
    part = assign_rows(groups, names, shares=[1 / config.folds] * config.folds, seed=config.split_seed)
    if config.valid_share is None:
        held = {config.fold: "test", (config.fold + 1) % config.folds: "valid"}
        return np.array([held.get(number, "train") for number in part], dtype=object)
    found = np.full(len(part), "test", dtype=object)
    rest = [row for row, number in enumerate(part) if number != config.fold]
    shares = (1 - config.valid_share, config.valid_share)
    chosen = assign_rows(
        [groups[row] for row in rest], [names[row] for row in rest], shares=shares, seed=config.split_seed
    )
    found[rest] = [("train", "valid")[number] for number in chosen]
    return found


def _labels_missing(n: int, split: Any, where: str) -> DatasetError:
    found = f"labels are missing: none of the {n} tracks of the split {split!r} has one of the classes"
    return DatasetError(found, where, "Check the label column and the class list")


def _check_splits(labelled: LabelledTracks, where: str) -> None:
    splits, classes, one_sided = labelled.splits, labelled.classes, labelled.one_sided
    for name in ("train", "valid"):
        if name not in splits:
            listing = ", ".join(f"{split} {len(part)}" for split, part in splits.items()) or "none"
            raise DatasetError(
                f"no stored track in the split {name!r} (tracks by split: {listing})",
                where,
                "Split again: featstore datasets split TRACKS -o TRACKS; or draw it here: --set data.split=random",
            )
    for name, part in splits.items():
        if labelled.task == "multi_label" and not part.targets.any():
            raise _labels_missing(len(part), name, where)
        absent = [label for label, count in zip(classes, part.counts(len(classes)), strict=True) if count == 0]
        if name == "train" and absent:
            logger.warning("%d classes have no example to train on: %s [%s]", len(absent), ", ".join(absent), where)
        elif one_sided.get(name):
            logger.info("split %s: one-sided classes, left out of averages: %s", name, ", ".join(one_sided[name]))


def write_labels(path: Path, labelled: LabelledTracks) -> None:
    """Write tracks, splits, groups and targets as Parquet, so that a run can be scored again without its table."""
    parts = labelled.splits.items()
    columns = {
        "track_id": [track for _, part in parts for track in part.track_ids],
        "split": [split for split, part in parts for _ in part.track_ids],
        "group": [group for _, part in parts for group in part.groups],
        "target": column_of(np.concatenate([part.targets for _, part in parts])),
    }
    header = {"dataset": labelled.dataset, "task": labelled.task, "classes": list(labelled.classes)}
    write_columns(path, columns, header)


def read_labels(path: Path) -> LabelledTracks:
    """Undo ``write_labels``.

    Raises
    ------
    CheckpointError
        When the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pa.OSFile(str(path), "rb") as file:
            table = pq.read_table(file)
        header = json.loads(table.schema.metadata[b"featstore"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            "the labels of the run cannot be read", str(path), "Train it again, or evaluate it with --tracks T.parquet"
        ) from error
    classes = tuple(header["classes"])
    names = np.array(table["split"].to_pylist(), dtype=object)
    ids, groups = table["track_id"].to_pylist(), table["group"].to_pylist()
    whole = SplitTracks(ids, array_of(table["target"], len(classes)), groups)
    return LabelledTracks(header["dataset"], header["task"], classes, _by_split(whole, names, dict.fromkeys(names)))
