"""What the HTML page knows: runs and configurations by columns, details of the best, published numbers."""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError, FeatstoreError
from featstore.log import progress
from featstore.metrics import class_metrics, lower_is_better, title_of
from featstore.metrics.decisions import confusion_matrix
from featstore.plain import is_missing
from featstore.results.details import read_curves, read_predictions
from featstore.results.frames import COSTS, flatten, metrics_in
from featstore.results.fronts import AXES, pareto
from featstore.results.labels import field_text, labels_of
from featstore.results.records import RunRecord
from featstore.results.reference import PAPERS, read_reference, reference_notes
from featstore.results.run_set import RunSet
from featstore.results.summary import CONFIGURATION, summarise
from featstore.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["page_data"]

logger = logging.getLogger(__name__)

FILTERS = ("model", "representation", "sample_rate", "n_mels", "hop_multiple", "scale", "encoding")
_CURVE_POINTS = 400  # longer curves are thinned, so that one run cannot fill the page
_MATRIX_CLASSES = 60  # a larger matrix cannot be read


def page_data(runs: RunSet, *, title: str, details: int) -> dict[str, Any]:
    """Everything that the page shows, as plain values.

    Parameters
    ----------
    runs : RunSet
    title : str
    details : int
        Most runs with curves, class scores and confusion; those of the fronts first, then the best.

    Raises
    ------
    ConfigError
        When there are no runs, or none has a test score.
    """
    metrics = metrics_in(runs.frame) if len(runs) else []
    if not metrics:
        raise ConfigError("there are no runs with test scores", "report html", "Train a model first")
    summary = summarise(runs)
    summary["label"] = _labels(runs.frame, summary)
    place = {run_id: row for row, ids in enumerate(summary["run_ids"]) for run_id in ids}
    kept = [record for record in runs if record.run_id in place]  # a run done again is represented by its last
    chosen = _chosen(summary, metrics[0], details)
    return {
        "title": title,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "version": __version__,
        "metrics": [{"name": m, "title": title_of(m), "lower": lower_is_better(m)} for m in metrics],
        "classTitles": {name: metric.class_title for name, metric in class_metrics().items()},
        "costs": [{"name": name, "title": AXES[name]} for name in COSTS if summary[name].notna().any()],
        "filters": _filters(summary),
        "configurations": _configurations(summary, metrics),
        "runs": _runs(kept, place),
        "replaced": len(runs) - len(kept),
        "details": _details(kept, chosen),
        "reference": _reference(metrics),
        "store": _store_rules(),
        "skipped": [str(skip) for skip in runs.skipped[:200]],
        "skipped_count": len(runs.skipped),
    }


def _labels(frame: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """Names of configurations within their data set: the page shows one data set at a time."""
    names: dict[str, str] = {}
    for _, part in frame.groupby("dataset", sort=False):
        names |= dict(zip(part["configuration"], labels_of(part), strict=True))
    return [names[key] for key in summary["configuration"]]


def _chosen(summary: pd.DataFrame, metric: str, count: int) -> list[str]:
    """Runs that get details: those of each data set's front, then the best ones."""
    first: list[str] = []
    for _, part in summary.groupby("dataset", sort=False):
        try:
            front = pareto(part, "bytes_alone", metric).frame
        except ConfigError:  # a data set whose runs have no bytes or not this metric
            continue
        first += [run_id for ids in front[front["on_front"]]["run_ids"] for run_id in ids]
    rest = [run_id for ids in summary["run_ids"] for run_id in ids]
    return list(dict.fromkeys([*first, *rest]))[:count]


def _filters(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Columns worth a filter: those with more than one value, and not too many."""
    found = []
    for name in FILTERS:
        values = [value for value in summary[name].drop_duplicates() if not is_missing(value)]
        missing = summary[name].isna().any()
        if 2 <= len(values) + missing <= 40:
            ordered = sorted(values, key=lambda v: (isinstance(v, str), v))
            options = [{"value": str(v), "title": field_text(name, v)} for v in ordered]
            found.append({"name": name, "options": options + ([{"value": "", "title": "none"}] if missing else [])})
    return found


def _configurations(summary: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {"count": len(summary)}
    for name in ("label", *CONFIGURATION, *FILTERS[1:], "over"):
        columns[name] = _coded("" if is_missing(value) else str(value) for value in summary[name])
    for metric in metrics:
        for part in ("mean", "std", "low", "high"):
            columns[f"{metric}.{part}"] = [_number(value) for value in summary[f"{metric}_{part}"]]
        columns[f"{metric}.values"] = [[_number(v, 9) for v in values] for values in summary[f"{metric}_values"]]
    for name in COSTS:
        if summary[name].notna().any():
            columns[name] = [_number(value, 9) for value in summary[name]]
    return columns


def _runs(records: Sequence[RunRecord], place: dict[str, int]) -> dict[str, Any]:
    """Runs by columns; settings too, each value told once."""
    flat = [flatten(record.config) for record in records]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    splits = {(s, m): None for record in records for s, scores in record.result["scores"].items() for m in scores}
    return {
        "count": len(records),
        "id": [record.run_id for record in records],
        "configuration": [place[record.run_id] for record in records],
        "seed": [record.result.get("seed") for record in records],
        "fold": [record.result.get("fold") for record in records],
        "path": _coded(str(record.path.parent) for record in records),
        "folder": [record.path.name for record in records],
        "finished": _coded(str(record.result.get("finished") or "")[:16] for record in records),
        "seconds_train": [_number(record.result["seconds"].get("train")) for record in records],
        "scores": {f"{s}.{m}": [_number(_score(r, s, m)) for r in records] for s, m in splits},
        "settings": {key: _coded(_text(settings.get(key)) for settings in flat) for key in keys},
    }


def _score(record: RunRecord, split: str, metric: str) -> float:
    return record.score(metric, split)


def _details(records: Sequence[RunRecord], chosen: Sequence[str]) -> dict[str, Any]:
    """Curves, class scores and confusion of the chosen runs, by their place in the list of runs."""
    wanted = set(chosen)
    found: dict[str, Any] = {}
    classes: dict[tuple[str, ...], int] = {}
    rows = [(row, record) for row, record in enumerate(records) if record.run_id in wanted]
    for row, record in progress(rows, desc="curves and classes", unit="run") if len(rows) > 100 else rows:
        entry: dict[str, Any] = {}
        curves = read_curves(record)
        if curves:
            entry["curves"] = {n: _thinned(v) for n, v in curves.items() if n.partition(".")[2]}
        try:
            predictions = read_predictions(record)
        except FeatstoreError as error:
            logger.warning("%s", error)
            predictions = None
        if predictions is not None:
            entry["classes"] = classes.setdefault(predictions.classes, len(classes))
            scores = predictions.class_scores()
            entry["class_scores"] = {name: [_number(v, 4) for v in values] for name, values in scores.items()}
            entry["positives"] = predictions.positives.tolist()
            if predictions.target.ndim == 1 and len(predictions.classes) <= _MATRIX_CLASSES:
                entry["confusion"] = confusion_matrix(predictions.target, predictions.score).tolist()
        if entry:
            found[str(row)] = entry
    return {"runs": found, "classes": [list(names) for names in classes]}


def _thinned(values: Sequence[float | None]) -> list[list[float | None]]:
    """A curve as [epochs, values], at most ``_CURVE_POINTS`` of them, the last always among them."""
    step = max(1, math.ceil(len(values) / _CURVE_POINTS))
    epochs = sorted({*range(0, len(values), step), len(values) - 1})
    return [[epoch + 1 for epoch in epochs], [_number(values[epoch], 5) for epoch in epochs]]


def _reference(metrics: Sequence[str]) -> dict[str, Any]:
    """Published rows with a value, by columns, and the head of each paper's file."""
    frame = read_reference()
    frame = frame[frame["value"].notna()]
    names = ("source", "place", "kind", "dataset", "model", "representation", "scale", "metric", "detail", "note")
    columns: dict[str, Any] = {"count": len(frame)}
    for name in names:
        columns[name] = _coded("" if is_missing(value) else str(value) for value in frame[name])
    for name in ("sample_rate", "n_mels", "hop_multiple", "bytes_per_clip", "gmacs", "value", "spread", "n"):
        columns[name] = [_number(value) for value in frame[name]]
    return {"rows": columns, "notes": {paper: reference_notes(paper) for paper in PAPERS}}


def _store_rules() -> dict[str, float]:
    """How a store cuts its files, for the number of files in the what-if."""
    from featstore.store.layout import MOST_SHARDS, SHARD_BYTES, SHARD_TRACKS, SLAB_SECONDS

    low, high = SHARD_TRACKS
    return {
        "shard_bytes": SHARD_BYTES,
        "least": low,
        "most": high,
        "most_shards": MOST_SHARDS,
        "slab_seconds": SLAB_SECONDS,
    }


def _coded(values: Iterable[str]) -> dict[str, list[Any]]:
    """A column of few different texts: each told once, then by number."""
    places: dict[str, int] = {}
    codes = [places.setdefault(value, len(places)) for value in values]
    return {"texts": list(places), "codes": codes}


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any, digits: int = 6) -> float | int | None:
    """A number with so many significant digits; None for what is missing or not finite."""
    if is_missing(value):
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
