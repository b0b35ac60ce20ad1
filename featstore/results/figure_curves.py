"""Figures of what happened in runs: scores against a cost by series, learning curves, scores of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError
from featstore.metrics import METRICS, title_of
from featstore.results.details import read_curves, read_predictions
from featstore.results.figure_names import draw_names
from featstore.results.figure_style import (
    GREY,
    MARKERS,
    PALETTE,
    cost_axes,
    draw_audio,
    draw_marks,
    footnote,
    new_figure,
    score_limits,
)
from featstore.results.frames import FIELDS
from featstore.results.fronts import audio_cost
from featstore.results.labels import hop_text, row_text
from featstore.results.run_set import RunSet
from featstore.results.significance import mean_and_std

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_classes", "draw_cost", "draw_curves", "mean_class_scores", "mean_curves"]


def draw_cost(summary: pd.DataFrame, *, x: str, metric: str, colour: str = "", title: str = "") -> Figure:
    """Draw a score against a cost, one line for each value of the column ``colour``.

    Parameters
    ----------
    colour : str
        Column of the summary; by default the first of model, n_mels, representation that varies. Hops are written
        beside the marks.

    Raises
    ------
    ConfigError
        When nothing has both values, or ``colour`` has more than eight.
    """
    known = summary[summary[x].notna() & summary[f"{metric}_mean"].notna()]
    if not len(known):
        raise ConfigError(f"no configuration has both {x} and {metric}", "report plot", "Choose other columns")
    options = [name for name in ("model", "n_mels", "representation") if known[name].astype(str).nunique() > 1]
    column = colour or (options[0] if options else "model")
    others = [n for n in ("encoding", "sample_rate", "scale", "model") if n != column and known[n].nunique() > 1]
    groups = list(known.groupby([column, *others], dropna=False, sort=True))
    names = list(dict.fromkeys(key[0] for key, _ in groups))
    dashes = list(dict.fromkeys(key[1:] for key, _ in groups))
    if len(names) > len(PALETTE):
        raise ConfigError(f"{column} has {len(names)} values", "report plot", "Choose some with --where")
    figure, axes = new_figure(6.6, 4.2)
    for key, group in groups:
        number, style = names.index(key[0]), dashes.index(key[1:])
        same = {n: group[n].iloc[0] for n in FIELDS if group[n].nunique(dropna=False) == 1}
        text = ", ".join(row_text(n, {n: v, **same}) for n, v in zip([column, *others], key, strict=True))
        rows, dash = group.sort_values(x), ("-", "--", ":", "-.")[style % 4]
        cost, mean, std = (rows[name].astype(float) for name in (x, f"{metric}_mean", f"{metric}_std"))
        look = {"markerfacecolor": PALETTE[number] if dash == "-" else "white", "markersize": 5, "elinewidth": 0.8}
        draw_marks(axes, cost, mean, number, yerr=std, linestyle=dash, linewidth=1, label=text, **look)
    cost_axes(axes, x, known[x], metric)
    score_limits(axes.yaxis, metric)
    draw_audio(axes, audio_cost(known, x), x)
    figure.legend(loc="outside upper left", ncols=3, title=title or None, alignment="left")
    note = "whiskers: standard deviation over seeds or folds; hops beside the marks"
    footnote(figure, note)
    _name_hops(axes, [group for _, group in groups], [names.index(key[0]) for key, _ in groups], x, metric)
    return figure


def _name_hops(axes: Any, groups: Sequence[pd.DataFrame], numbers: Sequence[int], x: str, y: str) -> None:
    """Hops beside the marks of series that differ in them."""
    spots, names, colours = [], [], []
    for rows, number in zip(groups, numbers, strict=True):
        if rows["hop_length"].notna().all() and rows["hop_length"].nunique() > 1:
            spots += rows[[x, f"{y}_mean"]].to_numpy(dtype=float).tolist()
            names += list(map(hop_text, rows["hop_length"], rows["sample_rate"]))
            colours += [PALETTE[number]] * len(rows)
    if names:
        marks = [row for rows in groups for row in rows[[x, f"{y}_mean"]].to_numpy(dtype=float).tolist()]
        draw_names(axes, spots, names, marks=marks, size=6, colours=colours)


def draw_curves(runs: RunSet, groups: Mapping[str, Sequence[str]], *, title: str = "") -> Figure:
    """Draw learning curves: the mean over the runs of each group, with their range.

    Parameters
    ----------
    groups : mapping
        Name of a group -> ``run_ids``; at most eight.

    Raises
    ------
    ConfigError
        When no run has curves.
    """
    curves = {name: mean_curves(runs, ids) for name, ids in list(groups.items())[: len(PALETTE)]}
    known = [name for one in curves.values() for name in one]
    metrics = [m for m in METRICS if f"valid.{m}" in known]
    panels = [q for q in ("loss", *metrics[:1]) if any(name.endswith(f".{q}") for name in known)]
    if not panels:
        raise ConfigError("no run has learning curves", "report plot curves", "Runs keep them in metrics.jsonl")
    figure, axes = new_figure(7.2, 3.4, ncols=len(panels), squeeze=False)
    for panel, quantity in zip(axes[0], panels, strict=True):
        for number, one in enumerate(curves.values()):
            for split, dash in (("valid", "-"), ("train", "--")):
                _draw_curve(panel, one.get(f"{split}.{quantity}"), number, dash)
        panel.set_xlabel("epoch")
        panel.set_ylabel(title_of(quantity))
        panel.xaxis.get_major_locator().set_params(integer=True)
    _curve_legend(figure, list(curves), title, any(name.startswith("train.") for name in known))
    return figure


def _draw_curve(axes: Any, bands: tuple[Any, ...] | None, number: int, dash: str) -> None:
    if bands is None:
        return
    known = ~np.isnan(bands[0])  # epochs without a validation have none
    mean, low, high = (each[known] for each in bands)
    epochs = 1 + np.flatnonzero(known)
    axes.plot(epochs, mean, dash, color=PALETTE[number], linewidth=1.3 if dash == "-" else 0.9)
    if dash == "-":
        every = max(1, len(mean) // 6)
        shown = slice(number % every, None, every)  # marks of different lines beside each other, not on each other
        axes.plot(epochs[shown], mean[shown], MARKERS[number], color=PALETTE[number], markersize=4)
        axes.fill_between(epochs, low, high, color=PALETTE[number], alpha=0.15, linewidth=0)


def _curve_legend(figure: Any, names: Sequence[str], title: str, trained: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=PALETTE[i], marker=MARKERS[i], markersize=4, label=name) for i, name in enumerate(names)
    ]
    if trained:
        handles += [
            Line2D([], [], color=GREY, label="validation"),
            Line2D([], [], color=GREY, ls="--", label="training"),
        ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, title=title or None, alignment="left")


def mean_curves(runs: RunSet, run_ids: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Mean, least and greatest of each learning curve over some runs, as long as the longest of them."""
    import pandas as pd

    all_curves = [read_curves(record) for record in runs.of(run_ids)]
    found = {}
    for name in dict.fromkeys(name for curves in all_curves for name in curves):
        lists = [curves[name] for curves in all_curves if name in curves]
        table = pd.DataFrame(lists, dtype=float)  # NaN where a run has no value
        found[name] = tuple(each.to_numpy() for each in (table.mean(), table.min(), table.max()))
    return found


def draw_classes(runs: RunSet, groups: Mapping[str, Sequence[str]], *, metric: str, title: str = "") -> Figure:
    """Draw the score of every class, hardest last, for at most four groups of runs.

    Raises
    ------
    ConfigError
        When the runs kept no predictions.
    """
    scores = {name: mean_class_scores(runs, ids, metric) for name, ids in list(groups.items())[:4]}
    scores = {name: values for name, values in scores.items() if values}
    if not scores:
        raise ConfigError("no run kept predictions", "report plot classes", "They are in predictions.parquet of a run")
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    found = {name: [v[name][0] for v in scores.values() if name in v and np.isfinite(v[name][0])] for name in names}
    classes = sorted((name for name in names if found[name]), key=lambda name: np.mean(found[name]))
    undefined = len(names) - len(classes)
    figure, axes = new_figure(6.4, 1.0 + 0.2 * len(classes) * (1 if len(scores) < 3 else 1.3))
    for number, (name, values) in enumerate(scores.items()):
        y = np.arange(len(classes)) + (number - (len(scores) - 1) / 2) * 0.18
        known = [values.get(c, (np.nan, np.nan)) for c in classes]
        means, stds = zip(*known, strict=True)
        draw_marks(axes, means, y, number, xerr=stds, label=name)
    axes.set_yticks(np.arange(len(classes)), classes)
    axes.set_ylim(-0.7, len(classes) - 0.3)
    note = f"; {undefined} without a score left out" if undefined else ""
    axes.set_xlabel(f"{METRICS.load(metric).class_title} of the class (test{note})")
    figure.legend(loc="outside upper left", ncols=2, title=title or None, alignment="left")
    return figure


def mean_class_scores(runs: RunSet, run_ids: Sequence[str], metric: str) -> dict[str, tuple[float, float]]:
    """Mean and deviation (n − 1) of each class's score over some runs; empty when they kept no predictions."""
    tables: list[Any] = []
    classes: tuple[str, ...] = ()
    for record in runs.of(run_ids):
        predictions = read_predictions(record)
        if predictions is not None:
            tables.append(METRICS.load(metric)(predictions.target, predictions.score).per_class)
            classes = predictions.classes
    return dict(zip(classes, map(mean_and_std, zip(*tables, strict=True)), strict=True))
