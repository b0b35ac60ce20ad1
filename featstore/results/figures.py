"""All kinds of figures by name, drawn from runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from featstore.errors import ConfigError, check_known
from featstore.results.figure_curves import plot_classes, plot_cost, plot_curves
from featstore.results.figure_encoding import against_float, plot_encoding
from featstore.results.figure_gallery import plot_gallery
from featstore.results.figure_pareto import plot_pareto
from featstore.results.figure_probes import plot_probes
from featstore.results.figure_storage import plot_storage
from featstore.results.figure_study import plot_study
from featstore.results.fronts import MARGIN, pareto
from featstore.results.run_set import RunSet
from featstore.results.summary import summarise
from featstore.results.undertrained import mark_undertrained

__all__ = ["KINDS", "draw"]


_OPTIONS: dict[str, Any] = {
    "metric": "roc_auc",
    "title": "",
    "colour": "",
    "published": "",
    "cost": "bytes_alone",
    "test": "welch",
    "margin": MARGIN,
    "late_gain": None,
    "store": "",
    "features": (),
    "track": "",
    "start": 0.0,
    "seconds": 10.0,
}


def draw(runs: RunSet, kind: str, paths: Sequence[str | Path], **options: Any) -> list[Path]:
    """Draw one of ``KINDS`` and write it to ``paths``.

    Parameters
    ----------
    **options
        ``metric, title, colour, published, cost, margin, test, late_gain``, and of the gallery ``store, features,
        track, start, seconds``.

    Raises
    ------
    ConfigError
        For an unknown figure or option, or when the runs lack what it shows.
    """
    check_known(kind, KINDS, f"unknown figure {kind!r}", "report plot")
    for name in options:
        check_known(name, _OPTIONS, f"unknown option {name!r} of a figure", "report plot")
    return KINDS[kind](runs, list(paths), {**_OPTIONS, **options})


def _pareto(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
    summary = mark_undertrained(summarise(runs), runs, options["metric"], options["late_gain"])
    front = pareto(summary, options["cost"], options["metric"], runs=runs, margin=options["margin"])
    return plot_pareto(front, paths, title=options["title"])


def _study(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
    return plot_study(summarise(runs), paths, published=options["published"], title=options["title"])


def _encoding(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
    pairs = against_float(summarise(runs), options["metric"], options["test"])
    return plot_encoding(pairs, paths, metric=options["metric"])


def _storage(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
    return plot_storage(runs, paths, metric=options["metric"], title=options["title"])


def _cost(x: str) -> Callable[[RunSet, list[str | Path], Mapping[str, Any]], list[Path]]:
    def drawn(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
        picked = {name: options[name] for name in ("colour", "title")}
        return plot_cost(summarise(runs), paths, x=x, y=options["metric"], **picked)

    return drawn


def _curves(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
    return plot_curves(runs, _telling(runs, options["metric"], 6), paths, title=options["title"])


def _probes(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
    return plot_probes(runs, paths, metric=options["metric"], title=options["title"])


def _classes(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
    groups = _telling(runs, options["metric"], 4)
    return plot_classes(runs, groups, paths, metric=options["metric"], title=options["title"])


def _gallery(runs: RunSet, paths: list[str | Path], options: Mapping[str, Any]) -> list[Path]:
    from featstore.store import open_store

    location = options["store"] or next((record.store_path for record in runs if record.store_path), "")
    if not location:
        raise ConfigError("no run says which store it read", "report plot gallery", "Name it with --store")
    features = list(options["features"]) or list(dict.fromkeys(record.feature for record in runs))
    picked = {"track": options["track"], "start_s": options["start"], "seconds": options["seconds"]}
    return plot_gallery(open_store(location), features, paths, title=options["title"], **picked)


def _telling(runs: RunSet, metric: str, count: int) -> dict[str, tuple[str, ...]]:
    """Configurations worth a line of their own: the best, the cheapest good enough, then along the measured front."""
    front = pareto(summarise(runs), "bytes_alone", metric, runs=runs)
    on_front = [row for row in range(len(front.frame)) if front.frame["on_front"].iloc[row]]
    answer = front.best if front.answer is None else front.answer
    rows = list(dict.fromkeys([front.best, answer, on_front[0], *reversed(on_front)]))[:count]
    rows += [row for row in reversed(range(len(front.frame))) if row not in rows][: count - len(rows)]
    return {str(front.frame["label"].iloc[row]): front.frame["run_ids"].iloc[row] for row in sorted(rows)}


KINDS: dict[str, Callable[[RunSet, list[str | Path], Mapping[str, Any]], list[Path]]] = {
    "pareto": _pareto,
    "figure1": _study,
    "bytes": _cost("bytes_alone"),
    "gmacs": _cost("gmacs"),
    "storage": _storage,
    "time": _cost("seconds_train"),
    "curves": _curves,
    "probes": _probes,
    "classes": _classes,
    "encoding": _encoding,
    "gallery": _gallery,
}
