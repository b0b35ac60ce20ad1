"""Learning curves and predictions of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore.errors import CorruptFeature
from featstore.metrics import class_metrics, one_hot
from featstore.results.frames import flatten
from featstore.results.records import RunRecord

__all__ = ["Predictions", "array_of", "prediction_file", "read_curves", "read_predictions"]

_SPLITS = ("train", "valid", "test")
_TARGETS = ("target", "targets", "truth", "label", "labels")
_SCORES = ("score", "scores", "prediction", "predictions", "probability", "probabilities")


@dataclass(frozen=True)
class Predictions:
    """Scores that a model gave the tracks of one split.

    Attributes
    ----------
    track_ids : tuple of str
    target : int (tracks,) or 0/1 (tracks, classes)
        Class numbers of a single-label task; which classes a track has in a multi-label one.
    score : float (tracks, classes)
    classes : tuple of str
    """

    track_ids: tuple[str, ...]
    target: npt.NDArray[Any]
    score: npt.NDArray[Any]
    classes: tuple[str, ...]

    @property
    def positives(self) -> npt.NDArray[np.int64]:
        """Tracks of each class."""
        return np.asarray(one_hot(self.target, self.score.shape[1]).sum(axis=0))

    def class_scores(self) -> dict[str, npt.NDArray[np.float64]]:
        """Every score of single classes by name; NaN where the targets do not determine it.

        Raises
        ------
        ConfigError
            When the predictions hold NaN or a target that is no class.
        """
        return {name: metric(self.target, self.score).per_class for name, metric in class_metrics().items()}


def read_curves(record: RunRecord) -> dict[str, list[float | None]]:
    """Learning curves of a run: one list per quantity, one number per epoch.

    Names are ``<split>.<metric>`` and whatever else ``metrics.jsonl`` holds as numbers; a line that is half-written,
    as the last one of a run that was stopped, is left out. Empty when the run has no such file.
    """
    try:
        text = (record.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    epochs = []
    for line in text.splitlines():
        try:
            entry = json.loads(line, parse_constant=lambda _: None)
        except ValueError:
            continue
        if isinstance(entry, Mapping):
            epochs.append({_curve_name(name): value for name, value in flatten(entry).items()})
    names = list(dict.fromkeys(name for entry in epochs for name in entry))
    curves = {name: [_number_or_none(entry.get(name)) for entry in epochs] for name in names}
    return {name: values for name, values in curves.items() if any(value is not None for value in values)}


def read_predictions(record: RunRecord, split: str = "test") -> Predictions | None:
    """Predictions of a run for one split; None when it has none.

    Raises
    ------
    CorruptFeature
        When the file is there and cannot be read.
    """
    path, task = record.path / "predictions.parquet", str(record.result.get("task") or "")
    if not path.is_file():
        return None
    names = record.result.get("classes")
    return prediction_file(path, classes=names if isinstance(names, list) else (), task=task).get(split)


def prediction_file(path: str | Path, *, classes: Sequence[str] = (), task: str = "") -> dict[str, Predictions]:
    """Predictions of a ``predictions.parquet`` by split.

    Its columns are ``track_id``, ``split`` (all are ``test`` without it), ``target`` (a list of 0 and 1 or of names of
    classes, or the number or name of one class) and ``scores`` (a list with one number per class). Files of this
    library name classes and task in their metadata; for others the arguments do, and lists of targets mean a
    multi-label task.

    Raises
    ------
    CorruptFeature
        When the file is missing or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pa.OSFile(str(path), "rb") as file:
            table = pq.read_table(file)
        columns = [table[_first(table.column_names, wanted)] for wanted in (_TARGETS, _SCORES)]
        header = json.loads((table.schema.metadata or {}).get(b"featstore", b"{}"))
        names = [str(name) for name in header.get("classes") or classes]
        score = array_of(columns[1], len(names))
        if len(names) != score.shape[1]:
            names = [f"class {number}" for number in range(score.shape[1])]
        target = _targets(columns[0], names)
        if target.ndim == 2 and (header.get("task") or task) == "single_label":
            target = target.argmax(axis=1)
        ids = np.array([str(track) for track in table["track_id"].to_pylist()], dtype=object)
        splits = table["split"].to_pylist() if "split" in table.column_names else ["test"] * len(ids)
    except (OSError, pa.ArrowException, ValueError, TypeError, LookupError, AttributeError) as error:
        what = f"the predictions of a run cannot be read: {error}"
        raise CorruptFeature(what, str(path), "Evaluate it again") from error
    found = {}
    for split in dict.fromkeys(splits):
        rows = np.flatnonzero(np.array([each == split for each in splits]))
        found[str(split)] = Predictions(tuple(ids[rows]), target[rows], score[rows], tuple(names))
    return found


def _first(names: Sequence[str], wanted: Sequence[str]) -> str:
    found = next((name for name in wanted if name in names), None)
    if found is None:
        raise LookupError(f"no column {wanted[0]!r} among {', '.join(names)}")
    return found


def array_of(column: Any, width: int) -> npt.NDArray[Any]:
    """A column of numbers ``(n,)``, or of equally long lists ``(n, width)``; ``width`` is that of one without rows."""
    values = column.combine_chunks()
    if not hasattr(column.type, "value_type"):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(values), -1) if len(values) else flat.reshape(0, width))


def _targets(column: Any, classes: Sequence[str]) -> npt.NDArray[Any]:
    """Class numbers ``(tracks,)`` from numbers or names; 0 and 1 ``(tracks, classes)`` from lists."""
    import pyarrow as pa

    place, kind = {name: position for position, name in enumerate(classes)}, column.type
    if pa.types.is_string(kind):
        return np.array([place[name] for name in column.to_pylist()], dtype=np.int64)
    if not hasattr(kind, "value_type") or pa.types.is_dictionary(kind):
        return np.asarray(column.to_numpy()).astype(np.int64)
    if not pa.types.is_string(kind.value_type):
        return array_of(column, len(classes))
    result = np.zeros((len(column), len(classes)))
    for row, labels in enumerate(column.to_pylist()):
        result[row, [place[label] for label in labels if label in place]] = 1
    return result


def _curve_name(name: str) -> str:
    """``train_loss`` and ``train/loss`` as ``train.loss``."""
    for split in _SPLITS:
        if name.startswith((f"{split}_", f"{split}/")):
            return f"{split}.{name[len(split) + 1 :]}"
    return name


def _number_or_none(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
