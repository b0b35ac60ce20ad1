"""All kinds of figures by name, drawn from runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from featstore.errors import ConfigError, check_known
from featstore.results.figure_curves import draw_classes, draw_cost, draw_curves
from featstore.results.figure_encoding import against_float, draw_encoding
from featstore.results.figure_gallery import draw_gallery
from featstore.results.figure_pareto import draw_pareto
from featstore.results.figure_probes import draw_probes
from featstore.results.figure_storage import draw_storage
from featstore.results.figure_study import draw_study
from featstore.results.figure_style import figure_style, save_figure
from featstore.results.fronts import MARGIN, pareto
from featstore.results.run_set import RunSet
from featstore.results.summary import summarise
from featstore.results.undertrained import mark_undertrained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "draw"]


_DEFAULTS = {"metric": "roc_auc", "cost": "bytes_alone", "test": "welch", "margin": MARGIN, "late_gain": None}
_OPTIONS = (*_DEFAULTS, "title", "colour", "published", "store", "features", "track", "start_s", "seconds")


def draw(runs: RunSet, kind: str, paths: Sequence[str | Path], **options: Any) -> list[Path]:
    """Draw one of ``KINDS`` and write it to ``paths``.

    Parameters
    ----------
    **options
        ``metric, title, colour, published, cost, margin, test, late_gain``, and of the gallery ``store, features,
        track, start_s, seconds``.

    Raises
    ------
    ConfigError
        For an unknown figure or option, or when the runs lack what it shows.
    """
    check_known(kind, KINDS, f"unknown figure {kind!r}", "report plot")
    for name in options:
        check_known(name, _OPTIONS, f"unknown option {name!r} of a figure", "report plot")
    settings = {**_DEFAULTS, **options}
    drawer, shown, names = KINDS[kind]
    given = {name: settings[name] for name in names if name in settings}
    with figure_style():
        return save_figure(drawer(*shown(runs, settings), **given), paths)


def _front(runs: RunSet, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    summary = mark_undertrained(summarise(runs), runs, settings["metric"], settings["late_gain"])
    return (pareto(summary, settings["cost"], settings["metric"], runs=runs, margin=settings["margin"]),)


def _features(runs: RunSet, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """The store of the gallery, and its features."""
    from featstore.store import open_store

    location = settings.get("store") or next((record.store_path for record in runs if record.store_path), "")
    if not location:
        raise ConfigError("no run says which store it read", "report plot gallery", "Name it with --store")
    return open_store(location), settings.get("features") or list(dict.fromkeys(record.feature for record in runs))


def _runs(runs: RunSet, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    return (runs,)


def _summary(runs: RunSet, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    return (summarise(runs),)


def _pairs(runs: RunSet, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    return (against_float(summarise(runs), settings["metric"], settings["test"]),)


def _telling(runs: RunSet, settings: Mapping[str, Any], *, count: int) -> tuple[Any, ...]:
    """Configurations worth a line of their own: the best, the cheapest good enough, then along the measured front."""
    front = pareto(summarise(runs), "bytes_alone", settings["metric"], runs=runs)
    on_front = np.flatnonzero(front.frame["on_front"]).tolist()
    answer = front.best if front.answer is None else front.answer
    rows = list(dict.fromkeys([front.best, answer, on_front[0], *reversed(on_front)]))[:count]
    rows += [row for row in reversed(range(len(front.frame))) if row not in rows][: count - len(rows)]
    return runs, {str(front.frame["label"].iloc[row]): front.frame["run_ids"].iloc[row] for row in sorted(rows)}


_COST = ("metric", "colour", "title")


class _Kind(NamedTuple):
    """A kind of figure: what draws it, what is drawn of the runs, and the options that the drawing takes."""

    draw: Callable[..., Figure]
    shown: Callable[[RunSet, Mapping[str, Any]], tuple[Any, ...]]
    options: tuple[str, ...]


KINDS = {
    "pareto": _Kind(draw_pareto, _front, ("title",)),
    "figure1": _Kind(draw_study, _summary, ("published", "title")),
    "bytes": _Kind(partial(draw_cost, x="bytes_alone"), _summary, _COST),
    "gmacs": _Kind(partial(draw_cost, x="gmacs"), _summary, _COST),
    "storage": _Kind(draw_storage, _runs, ("metric", "title")),
    "time": _Kind(partial(draw_cost, x="seconds_train"), _summary, _COST),
    "curves": _Kind(draw_curves, partial(_telling, count=6), ("title",)),
    "probes": _Kind(draw_probes, _runs, ("metric", "title")),
    "classes": _Kind(draw_classes, partial(_telling, count=4), ("metric", "title")),
    "encoding": _Kind(draw_encoding, _pairs, ("metric",)),
    "gallery": _Kind(draw_gallery, _features, ("track", "start_s", "seconds", "title")),
}
