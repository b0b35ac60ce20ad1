"""Data of the HTML page: runs and configurations by columns, bounds, details of the best, published numbers."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError, FeatstoreError
from featstore.log import progress
from featstore.metrics import bounds_of, class_metrics, lower_is_better, title_of
from featstore.metrics.decisions import confusion_matrix
from featstore.plain import is_missing, whole
from featstore.results.costs import COSTS
from featstore.results.details import Predictions, read_curves, read_predictions
from featstore.results.frames import OUTSIDE, flatten, metrics_in
from featstore.results.fronts import MARGIN, ParetoFront, cheapest_within, pareto, standing, undertrained
from featstore.results.labels import field_text, hop_text, labels_of
from featstore.results.records import RunRecord
from featstore.results.reference import PAPERS, read_reference, reference_notes
from featstore.results.resampled import TestTracks
from featstore.results.run_set import RunSet
from featstore.results.sentences import MARGINS, what_would_decide
from featstore.results.significance import mean_and_std
from featstore.results.summary import CONFIGURATION, summarise
from featstore.results.undertrained import mark_undertrained
from featstore.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["page_data"]

logger = logging.getLogger(__name__)

FILTERS = ("model", "representation", "sample_rate", "n_mels", "hop", "scale", "encoding", OUTSIDE)
_CURVE_POINTS = 400  # longer curves are thinned, so that one run cannot fill the page
_MATRIX_CLASSES = 60  # a larger matrix cannot be read


def page_data(
    runs: RunSet,
    *,
    title: str,
    details: int,
    margin: float = MARGIN,
    late_gain: float | None = None,
    folder: str | Path = ".",
) -> dict[str, Any]:
    """Everything that the page shows, as plain values.

    Parameters
    ----------
    runs : RunSet
    title : str
    details : int
        Most runs with curves, class scores and confusion; those of the fronts first, then the best.
    margin : float
        Loss that is accepted when the page opens, on the scale of the scores.
    late_gain : float, optional
        Of ``mark_undertrained``.
    folder : path
        That of the page: folders of runs are named relative to it.

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
    summary["hop"] = [
        hop_text(*pair) or None for pair in zip(summary["hop_length"], summary["sample_rate"], strict=True)
    ]
    summary = mark_undertrained(summary, runs, metrics[0], late_gain)
    place = {run_id: row for row, ids in enumerate(summary["run_ids"]) for run_id in ids}
    kept = [record for record in runs if record.run_id in place]  # a run done again is represented by its last
    tracks = TestTracks(runs)
    fronts = {metric: _fronts(summary, metric, tracks, margin) for metric in metrics}
    bounds = {metric: _bounds(summary, fronts[metric]) for metric in metrics}
    chosen = _chosen(summary, fronts[metrics[0]].values(), details)
    return {
        "title": title,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "version": __version__,
        "metrics": [_metric(name) for name in metrics],
        "classTitles": {name: metric.class_title for name, metric in class_metrics().items()},
        "costs": [{"name": name, "title": COSTS[name].axis} for name in COSTS if summary[name].notna().any()],
        "filters": _filters(summary),
        "configurations": _configurations(summary, metrics),
        "bounds": bounds,
        "margins": sorted({*MARGINS, margin}),
        "margin": margin,
        "runs": _runs(kept, place, folder),
        "replaced": len(runs) - len(kept),
        "details": _details(kept, chosen, place),
        "remarks": _remarks(kept, place),
        "reference": _reference(),
        "store": _store_rules(),
        "clips": [],
        "skipped": [f"{_seen_from(folder, skip.path)}: {skip.reason}" for skip in runs.skipped[:200]],
        "skipped_count": len(runs.skipped),
    }


def _metric(name: str) -> dict[str, Any]:
    low, high = bounds_of(name)
    known = [None if math.isinf(end) else end for end in (low, high)]
    return {"name": name, "title": title_of(name), "lower": lower_is_better(name), "range": known}


def _labels(frame: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """Names of configurations within their data set: the page shows one data set at a time."""
    names: dict[str, str] = {}
    for _, part in frame.groupby("dataset", sort=False):
        names |= dict(zip(part["configuration"], labels_of(part), strict=True))
    return [names[key] for key in summary["configuration"]]


def _fronts(summary: pd.DataFrame, metric: str, tracks: TestTracks, margin: float) -> dict[str, ParetoFront]:
    """The front of each data set that has the metric and bytes; by bytes where they are known, else by model size."""
    found = {}
    for dataset, part in summary[summary[f"{metric}_mean"].notna()].groupby("dataset", sort=False):
        cost = next((name for name in ("bytes_alone", *COSTS) if part[name].notna().all()), "")
        if cost:
            found[str(dataset)] = pareto(part.assign(place=part.index), cost, metric, runs=tracks, margin=margin)
    return found


def _chosen(summary: pd.DataFrame, fronts: Iterable[ParetoFront], count: int) -> list[str]:
    """Runs that get details: those of each data set's fronts, then the best ones."""
    first: list[str] = []
    for front in fronts:
        kept = front.frame["guaranteed"] | front.frame["on_front"]
        first += [run_id for ids in front.frame[kept]["run_ids"] for run_id in ids]
    rest = [run_id for ids in summary["run_ids"] for run_id in ids]
    return list(dict.fromkeys([*first, *rest]))[:count]


def _filters(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Columns that get a filter: those with 2 to 40 values."""
    found = []
    for name in FILTERS:
        values = [whole(value) for value in summary[name].drop_duplicates() if not is_missing(value)]
        missing = summary[name].isna().any()
        if 2 <= len(values) + missing <= 40:
            ordered = sorted(values, key=lambda v: (isinstance(v, str), v))
            if name == "hop":
                ordered = list(dict.fromkeys(summary.sort_values("hop_length", kind="stable")[name].dropna()))
            options = [{"value": str(v), "title": field_text(name, v)} for v in ordered]
            found.append({"name": name, "options": options + ([{"value": "", "title": "none"}] if missing else [])})
    return found


def _configurations(summary: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {"count": len(summary)}
    columns |= {name: _words(summary[name]) for name in ("label", *CONFIGURATION, *FILTERS[1:], "over")}
    for metric in metrics:
        columns |= {
            f"{metric}.{part}": _numbers(summary[f"{metric}_{part}"]) for part in ("mean", "std", "low", "high")
        }
        columns[f"{metric}.values"] = [_numbers(values, 9) for values in summary[f"{metric}_values"]]
    columns |= {name: _numbers(summary[name], 9) for name in COSTS if summary[name].notna().any()}
    rates, seconds = zip(*map(_stored_rate, summary["feature"]), strict=True)
    return columns | {
        "undertrained": undertrained(summary).tolist(),
        "rate": _numbers(rates),
        "fixed_s": _numbers(seconds),
    }


def _stored_rate(feature: str) -> tuple[float | None, float | None]:
    """Bytes that a feature takes for a second, by which a store cuts its shards; and its seconds, where it is a clip.

    None for features that this version cannot read, such as several at once.
    """
    from featstore.specs import Encoding, parse_feature
    from featstore.store.layout import ArrayHeader

    try:
        request = parse_feature(feature)
        spec = request.spec
        header = ArrayHeader(spec, request.encoding or Encoding.default(spec), spec.item_shape, ())
        seconds = spec.clip.length_s if spec.clip.is_fixed else None
        return header.frame_bytes * header.frames_per_second, seconds
    except FeatstoreError:
        return None, None


def _bounds(summary: pd.DataFrame, fronts: dict[str, ParetoFront]) -> dict[str, Any]:
    """Bounds of every configuration against the best of its data set; sentences for each data set."""
    columns: dict[str, list[Any]] = {name: [None] * len(summary) for name in ("loss", "most", "least", "standing")}
    statements, decide = {}, {}
    for dataset, front in fronts.items():
        statements[dataset] = front.statement
        margins = [] if len(front.frame) > 300 else MARGINS
        usual = [_with_margin(front, margin) for margin in (*margins, front.margin)]
        decide[dataset] = {f"{each.margin:g}": what_would_decide(each) for each in usual} if front.losses.study else {}
        for row in front.losses.frame.to_dict("records"):
            values = (*_numbers(row[name] for name in ("loss", "loss_most", "loss_least")), standing(row))
            for name, value in zip(columns, values, strict=True):
                columns[name][row["place"]] = value
    return columns | {"statements": statements, "decide": decide}


def _with_margin(front: ParetoFront, margin: float) -> ParetoFront:
    return dataclasses.replace(front, margin=margin, answer=cheapest_within(front.frame, margin))


def _seen_from(folder: str | Path, path: Path) -> str:
    """A path relative to a folder: a page that is passed on says nothing of the machine it was made on."""
    return os.path.relpath(path, os.path.realpath(folder))


def _runs(records: Sequence[RunRecord], place: dict[str, int], folder: str | Path) -> dict[str, Any]:
    """Runs by columns; settings too, each value stored once."""
    flat = [flatten(record.config) for record in records]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    splits = {(s, m): None for record in records for s, scores in record.result["scores"].items() for m in scores}
    return {
        "count": len(records),
        "id": [record.run_id for record in records],
        "configuration": [place[record.run_id] for record in records],
        "seed": [record.result.get("seed") for record in records],
        "fold": [record.result.get("fold") for record in records],
        "path": _coded(_seen_from(folder, record.path.parent) for record in records),
        "folder": [record.path.name for record in records],
        "finished": _coded(str(record.result.get("finished") or "")[:16] for record in records),
        "seconds_train": [_number(record.result["seconds"].get("train")) for record in records],
        "scores": {f"{s}.{m}": [_number(record.score(m, s)) for record in records] for s, m in splits},
        "settings": {key: _coded(_text(settings.get(key)) for settings in flat) for key in keys},
    }


def _remarks(records: Sequence[RunRecord], place: dict[str, int]) -> dict[str, list[list[str]]]:
    """What single labels have besides scores, by configuration: overfitting, and what guessing scores."""
    gaps: dict[int, list[float]] = {}
    drops: dict[tuple[int, str], list[Any]] = {}
    found: dict[str, list[list[str]]] = {}
    for record in records:
        gap, chance = record.result.get("overfitting"), (record.result.get("chance") or {}).get("test") or {}
        row = place[record.run_id]
        if gap is not None:
            gaps.setdefault(row, []).append(float(gap))
        if chance:
            text = ", ".join(f"{name.replace('_', ' ')} {level['mean']:.4f}" for name, level in chance.items())
            found[str(row)] = [[f"guessing, {title_of('macro_f1_all')}", text]]
        for shift in record.shifts:
            drops.setdefault((row, shift["shift"]), []).append(shift)
    for (row, name), shifts in drops.items():
        found.setdefault(str(row), []).append([f"loss on {name}", _drops(shifts)])
    for row, values in gaps.items():
        mean, std = mean_and_std(values)
        text = f"{mean:.4f}" + ("" if std != std else f" ± {std:.4f}")
        found.setdefault(str(row), []).append([f"{title_of('macro_f1_all')}, training less validation", text])
    return found


def _drops(shifts: Sequence[dict[str, Any]]) -> str:
    """What the runs of a configuration lose on altered tracks, by metric; the interval where it is one run."""
    metrics = [name for name in shifts[0]["scores"] if all(name in shift["scores"] for shift in shifts)][:2]
    texts = []
    for name in metrics:
        values = [shift["scores"][name] for shift in shifts]
        around = f" [{values[0]['low']:+.4f}, {values[0]['high']:+.4f}]" if len(values) == 1 else ""
        texts.append(f"{title_of(name)} {np.mean([value['drop'] for value in values]):.4f}{around}")
    changed = [shift["changed"] for shift in shifts if shift.get("changed") is not None]
    texts += [f"{100 * np.mean(changed):.1f} % of tokens change"] if changed else []
    return f"{', '.join(texts)} ({shifts[0].get('n_tracks')} tracks, {len(shifts)} runs)"


def _details(records: Sequence[RunRecord], chosen: Sequence[str], place: dict[str, int]) -> dict[str, Any]:
    """Curves of the chosen runs by their place in the list of runs; their classes by configuration."""
    wanted = set(chosen)
    found: dict[str, Any] = {}
    said: dict[int, list[Predictions]] = {}
    rows = [(row, record) for row, record in enumerate(records) if record.run_id in wanted]
    for row, record in progress(rows, desc="curves and classes", unit="run") if len(rows) > 100 else rows:
        curves = read_curves(record)
        try:
            predictions = read_predictions(record)
            own = {} if predictions is None else {"classes": _classes([predictions])}
        except FeatstoreError as error:
            logger.warning("%s", error)
            predictions, own = None, {}
        if predictions is not None:
            said.setdefault(place[record.run_id], []).append(predictions)
        if curves or predictions is not None:
            found[str(row)] = {"curves": {n: _thinned(v) for n, v in curves.items() if n.partition(".")[2]}} | own
    return {"runs": found, "classes": {str(index): _classes(each) for index, each in said.items()}}


def _classes(runs: Sequence[Predictions]) -> dict[str, Any]:
    """Scores of classes, averaged over the runs of a configuration, and their summed confusion."""
    names = runs[0].classes
    runs = [predictions for predictions in runs if predictions.classes == names]
    single = runs[0].target.ndim == 1
    shown = "f1" if single else next(iter(class_metrics()))
    tables = [class_metrics()[shown](each.target, each.score).per_class for each in runs]
    moments = [mean_and_std([v for v in values if v == v]) for values in zip(*tables, strict=True)]
    found: dict[str, Any] = {
        "names": names,
        "runs": len(runs),
        "shown": shown,
        "positives": runs[0].positives.tolist(),
        "scores": [[_number(mean, 4), _number(std, 4)] for mean, std in moments],
    }
    if single and len(names) <= _MATRIX_CLASSES:
        found["confusion"] = np.sum([confusion_matrix(each.target, each.score) for each in runs], axis=0).tolist()
    return found


def _thinned(values: Sequence[float | None]) -> list[list[float | None]]:
    """A curve as [epochs, values], at most ``_CURVE_POINTS`` of them, the last always among them."""
    step = max(1, math.ceil(len(values) / _CURVE_POINTS))
    epochs = sorted({*range(0, len(values), step), len(values) - 1})
    return [[epoch + 1 for epoch in epochs], [_number(values[epoch], 5) for epoch in epochs]]


def _reference() -> dict[str, Any]:
    """Published rows with a value, by columns, and the head of each paper's file."""
    frame = read_reference()
    frame = frame[frame["value"].notna()]
    names = ("source", "place", "kind", "dataset", "model", "representation", "scale", "metric", "detail", "note")
    columns: dict[str, Any] = {"count": len(frame)}
    columns |= {name: _words(frame[name]) for name in names}
    columns["hop"] = _coded(map(hop_text, frame["hop_length"], frame["sample_rate"]))
    counts = ("sample_rate", "n_mels", "bytes_per_clip", "gmacs", "value", "spread", "n")
    columns |= {name: _numbers(frame[name]) for name in counts}
    return {"rows": columns, "notes": {paper: reference_notes(paper) for paper in PAPERS}}


def _store_rules() -> dict[str, float]:
    """How a store cuts its files, for the number of files in the what-if: the rules by which ``plan`` counts them."""
    from featstore.store import record_pack
    from featstore.store.layout import MOST_SHARDS, SHARD_BYTES, SHARD_TRACKS, SLAB_SECONDS, STORE_FILES

    low, high = SHARD_TRACKS
    return {
        "shard_bytes": SHARD_BYTES,
        "least": low,
        "most": high,
        "most_shards": MOST_SHARDS,
        "slab_seconds": SLAB_SECONDS,
        "pack_from": record_pack.PACK_FROM,
        "store_files": STORE_FILES,
    }


def _coded(values: Iterable[str]) -> dict[str, list[Any]]:
    """A column of few different texts: each stored once, then referred to by number."""
    places: dict[str, int] = {}
    codes = [places.setdefault(value, len(places)) for value in values]
    return {"texts": list(places), "codes": codes}


def _words(values: Iterable[Any]) -> dict[str, list[Any]]:
    return _coded("" if is_missing(value) else str(whole(value)) for value in values)


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _numbers(values: Iterable[Any], digits: int = 6) -> list[float | int | None]:
    return [_number(value, digits) for value in values]


def _number(value: Any, digits: int = 6) -> float | int | None:
    """A number rounded to ``digits`` significant digits; None for what is missing or not finite."""
    if is_missing(value):
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
