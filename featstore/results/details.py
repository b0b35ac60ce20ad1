"""What a run left beside its result: learning curves and predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore.errors import ConfigError, CorruptFeature
from featstore.results.frames import flatten
from featstore.results.records import RunRecord

__all__ = ["Predictions", "read_curves", "read_predictions"]

_SPLITS = ("train", "valid", "test")
_TARGETS = ("target", "targets", "truth", "label", "labels")
_SCORES = ("score", "scores", "prediction", "predictions", "probability", "probabilities")


@dataclass(frozen=True)
class Predictions:
    """What a model said about the tracks of one split.

    Attributes
    ----------
    track_ids : tuple of str
    target : float array (tracks, classes)
        1 where the track has the class.
    score : float array (tracks, classes)
    classes : tuple of str
    """

    track_ids: tuple[str, ...]
    target: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    classes: tuple[str, ...]


def read_curves(record: RunRecord) -> dict[str, list[float | None]]:
    """Learning curves of a run: one list a quantity, one number an epoch.

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

    The file is ``predictions.parquet``: ``track_id``, ``split``, ``target`` (a list of 0 and 1, or the number of the
    class) and ``score`` (a list, a number a class).

    Raises
    ------
    CorruptFeature
        When the file is there and cannot be read.
    """
    path = record.path / "predictions.parquet"
    if not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        names = table.column_names
        target, score = _first(names, _TARGETS, path), _first(names, _SCORES, path)
        if "split" in names:
            table = table.filter(pa.compute.equal(table["split"], split))
        if not len(table):
            return None
        scores = _matrix(table[score])
        classes = _class_names(record, scores.shape[1])
        targets = _targets(table[target], scores.shape[1], classes)
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise CorruptFeature(f"the predictions of a run cannot be read: {error}", str(path), "Evaluate it again") from (
            error
        )
    return Predictions(tuple(map(str, table["track_id"].to_pylist())), targets, scores, classes)


def _first(names: Sequence[str], wanted: Sequence[str], path: Path) -> str:
    found = next((name for name in wanted if name in names), None)
    if found is None:
        raise ConfigError(f"no column {wanted[0]!r}", str(path), f"It has {', '.join(names)}")
    return found


def _matrix(column: Any) -> npt.NDArray[np.float64]:
    """A column of equally long lists as an array."""
    values = column.combine_chunks()
    flat = values.flatten().to_numpy(zero_copy_only=False).astype(float)
    return np.asarray(flat.reshape(len(values), -1))


def _targets(column: Any, n_classes: int, classes: Sequence[str]) -> npt.NDArray[np.float64]:
    """Targets as 0 and 1, from lists of them, numbers of classes, or names of classes."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        if not pa.types.is_string(kind.value_type):
            return _matrix(column)
        place = {name: position for position, name in enumerate(classes)}
        result = np.zeros((len(column), n_classes))
        for row, labels in enumerate(column.to_pylist()):
            result[row, [place[label] for label in labels if label in place]] = 1
        return result
    if pa.types.is_string(kind):
        place = {name: position for position, name in enumerate(classes)}
        return np.asarray(np.eye(n_classes)[[place[name] for name in column.to_pylist()]])
    return np.asarray(np.eye(n_classes)[column.to_numpy().astype(int)])


def _class_names(record: RunRecord, count: int) -> tuple[str, ...]:
    names = record.result.get("classes")
    if isinstance(names, list) and len(names) == count:
        return tuple(map(str, names))
    return tuple(f"class {number}" for number in range(count))


def _curve_name(name: str) -> str:
    """``train_loss`` and ``train/loss`` as ``train.loss``."""
    for split in _SPLITS:
        if name.startswith((f"{split}_", f"{split}/")):
            return f"{split}.{name[len(split) + 1 :]}"
    return name


def _number_or_none(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
