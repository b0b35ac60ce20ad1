"""Figure of representations: scores of models over the bytes of a stored clip, beside what guessing scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError
from featstore.results.figure_style import (
    GREY,
    MARKERS,
    PALETTE,
    QUIET,
    cost_axes,
    draw_marks,
    footnote,
    new_figure,
    score_limits,
)
from featstore.results.run_set import RunSet
from featstore.results.summary import summarise

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_storage"]

_COST = "bytes_per_track"
_ASIDE = 1.06  # factor between marks that would lie over one another


def draw_storage(runs: RunSet, *, metric: str, title: str = "") -> Figure:
    """Draw every configuration over the bytes that its representation takes for a track.

    A colour and a mark for each model; hollow from fresh weights, half filled on a fixed trunk, filled where the whole
    model was trained from pretrained weights, and where there is nothing to pretrain.

    Raises
    ------
    ConfigError
        When nothing has both values, or there are more than eight models.
    """
    rows = summarise(runs)
    scored = rows[f"{metric}_mean"].notna() if f"{metric}_mean" in rows else False
    rows = rows[rows[_COST].notna() & scored].reset_index(drop=True)
    models = sorted(rows["model"].unique())
    if not len(rows) or len(models) > len(PALETTE):
        found = f"{len(models)} models do not fit" if len(rows) else f"no configuration has both {_COST} and {metric}"
        raise ConfigError(found, "report plot storage", "Choose others with --where")
    levels = _guesses(runs) if metric == "macro_f1_all" else {}
    figure, axes = new_figure(6.8, 4.2)
    fills, places = _fills(runs), _places(rows, models)
    records: list[Any] = rows.to_dict("records")
    for row, place in zip(records, places, strict=True):
        look = {
            "markersize": 6,
            "elinewidth": 0.8,
            "fillstyle": fills[row["run_ids"][0]],
            "markerfacecoloralt": "white",
        }
        score, spread = [row[f"{metric}_mean"]], [row[f"{metric}_std"]]
        draw_marks(axes, [place], score, models.index(row["model"]), yerr=spread, **look)
    for number, model in enumerate(models):
        axes.plot([], [], linestyle="none", marker=MARKERS[number], color=PALETTE[number], label=model)
    cost_axes(axes, _COST, places, metric)
    _draw_levels(axes, levels)
    score_limits(axes.yaxis, metric)
    figure.legend(loc="outside upper left", ncols=3, title=title or None, alignment="left")
    note = "hollow: from fresh weights; half filled: on a fixed pretrained trunk; whiskers: deviation over seeds"
    footnote(figure, note)
    return figure


def _fills(runs: RunSet) -> dict[str, str]:
    """How the mark of each run is filled: by what it starts from, where its model is pretrained at all."""
    pretrained = {record.model for record in runs if record.result.get("start")}
    found = {}
    for record in runs:
        fixed = (record.config.get("start") or {}).get("trunk_rate") == 0
        started = bool(record.result.get("start"))
        fresh = record.model in pretrained and not started
        found[record.run_id] = "none" if fresh else "left" if started and fixed else "full"
    return found


def _places(rows: pd.DataFrame, models: Sequence[str]) -> list[float]:
    """Bytes of each row, those that share a place set apart from one another, model by model."""
    ordered = (
        rows.assign(place=rows["model"].map(models.index)).sort_values("place", kind="stable")[_COST].astype(float)
    )
    same = ordered.groupby(ordered.map("{:.2g}".format))
    placed = ordered * _ASIDE ** (same.cumcount() - (same.transform("size") - 1) / 2)
    return [float(value) for value in placed.sort_index()]


def _guesses(runs: RunSet) -> dict[str, float]:
    """What guessing scores on the test labels, lowest first; names of equal levels are joined."""
    known: Any = next((record.result["chance"]["test"] for record in runs if record.result.get("chance")), {})
    found: dict[str, float] = {}
    for name, level in sorted(known.items(), key=lambda item: float(item[1]["mean"])):
        text, value = name.replace("_", " "), float(level["mean"])
        last = next(reversed(found), None)
        if last is not None and value - found[last] < 0.005:
            text = f"{last}, {text}"
            value = found.pop(last)
        found[text] = value
    return found


def _draw_levels(axes: Any, levels: Mapping[str, float]) -> None:
    for name, level in levels.items():
        axes.axhline(level, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
        text = "guessing:\n" + name.replace(", ", ",\n")  # beside the axes, where no mark is
        place = {"xycoords": ("axes fraction", "data"), "xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(text, (1, level), ha="left", va="center", fontsize=6.5, color=QUIET, **place)
