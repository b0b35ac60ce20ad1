"""Score against cost: the figure that answers how little is enough."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from featstore.metrics import bounds_of, lower_is_better
from featstore.results.costs import COSTS
from featstore.results.figure_names import draw_names
from featstore.results.figure_style import (
    GREY,
    PALETTE,
    cost_axes,
    draw_audio,
    figure_style,
    footnote,
    new_figure,
    save_figure,
    size_axis,
)
from featstore.results.fronts import ParetoFront, audio_cost, smallest_bound, undertrained
from featstore.results.sentences import answer_sentences, margin_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_pareto", "plot_pareto"]

_NAMED = 6  # rows of the fronts whose names may stand away from their marks, with a line

_CARET_UP, _CARET_DOWN = 6, 7  # numbers of matplotlib's marks, which is imported where it is used
_MANY = 15  # beyond this many points, whiskers only for those on a front


def plot_pareto(front: ParetoFront, path: str | Path | Sequence[str | Path], *, title: str = "") -> list[Path]:
    """Draw ``front`` and write it to ``path`` (.png, .svg or .pdf; several paths for several formats).

    Returns
    -------
    list of Path
        The files written.
    """
    with figure_style():
        return save_figure(draw_pareto(front, title=title), path)


def draw_pareto(front: ParetoFront, *, title: str = "") -> Figure:
    """The figure itself: every configuration, the measured front, the guaranteed one below it, and the answer."""
    figure, axes = new_figure(6.8, 5.0)
    frame, x, y = front.frame, front.x, front.y
    cost = frame[x].to_numpy(dtype=float)
    cost_axes(axes, x, cost, y)
    if len(front.axes) > 1:
        _draw_second_cost(figure, axes, front)
    else:
        _draw_steps(axes, front)
    axes.set_ylim(*_limits(front))
    cut, states = False, _states(front)
    for state, style in _STYLES.items():
        rows = states == state
        if rows.any():
            whiskers = "front" in state or len(frame) <= _MANY
            cut |= _draw_points(axes, frame[rows], x, y, style, whiskers=whiskers)
    _draw_marks(axes, front)
    if cost.min() > 0:
        axes.set_xlim(cost.min() / 1.35, cost.max() * 1.35)
    draw_audio(axes, audio_cost(frame, x), x)
    if title:
        axes.set_title(title, loc="left", pad=14)
    _draw_legend(figure, axes, answer_sentences(front)[0])
    arrows = "; an arrow: it goes on" if cut else ""
    footnote(figure, f"Whiskers: intervals of the mean{arrows}. {front.statement}")
    _label_points(axes, front)  # last: where things lie depends on all the rest
    return figure


def _limits(front: ParetoFront) -> tuple[float, float]:
    """Heights that hold all means and guarantees, and whiskers as far as they leave these apart."""
    frame, y = front.frame, front.y
    shown = [*frame[f"{y}_mean"].astype(float), *_guarantees(front)]
    low, high = min(shown), max(shown)
    span = high - low or abs(high) * 0.02 or 1.0
    ends = frame[[f"{y}_low", f"{y}_high"]].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends).all(axis=1)]
    if len(ends):
        low = max(min(low, ends.min()), low - 0.3 * span)
        high = min(max(high, ends.max()), high + 0.3 * span)
    least, most = bounds_of(y)
    return max(low - 0.05 * span, least), min(high + 0.05 * span, most)


def _draw_legend(figure: Figure, axes: Any, answer: str) -> None:
    """The answer in words, and below it what the marks mean."""
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: _LEGEND.index(names[i].partition(" (answer")[0]))
    figure.legend(
        [handles[i] for i in order],
        [names[i] for i in order],
        loc="outside upper left",
        ncols=2,
        handletextpad=0.6,
        title="\n".join(textwrap.wrap(answer, 84)),
        title_fontproperties={"size": 10, "weight": "bold"},
        alignment="left",
    )


_LEGEND = (
    "best mean",
    "cheapest that is good enough",
    "smallest bound",
    "on a front",
    "worse than the best, shown",
    "worse, on a front",
    "others",
    "undertrained: on no front",
    "guaranteed: best mean less the bound",
    "measured front",
    "front (black ring)",
)


class _Style(NamedTuple):
    """Look of the points of one state; hollow ones are white inside."""

    label: str
    color: str
    marker: str
    markersize: float
    zorder: float
    hollow: bool


_STYLES = {
    "other": _Style("others", "#B9B9B9", "o", 3.5, 3, True),
    "undertrained": _Style("undertrained: on no front", "#999999", "x", 4.5, 3, False),
    "worse": _Style("worse than the best, shown", PALETTE[3], "v", 4.5, 4, True),
    "worse, on a front": _Style("worse, on a front", PALETTE[3], "v", 6.5, 5, False),
    "front": _Style("on a front", PALETTE[0], "o", 5.5, 5, False),
}


def _states(front: ParetoFront) -> npt.NDArray[np.str_]:
    """The style of each row."""
    kept = (front.frame["guaranteed"] | front.frame["on_front"]).to_numpy(dtype=bool)
    worse = front.frame["loss_least"].to_numpy(dtype=float) > 0
    names = ["undertrained", "worse, on a front", "front", "worse"]
    return np.select([undertrained(front.frame), kept & worse, kept, worse], names, "other")


def _draw_points(axes: Any, rows: pd.DataFrame, x: str, y: str, style: _Style, *, whiskers: bool) -> bool:
    """Points of one kind; whiskers are intervals of the mean. Whether some are cut at the axis, where an arrow is."""
    mean = rows[f"{y}_mean"].to_numpy(dtype=float)
    bottom, top = axes.get_ylim()
    ends = rows[[f"{y}_low", f"{y}_high"]].to_numpy(dtype=float).T
    reach = np.nan_to_num(np.abs(np.clip(ends, bottom, top) - mean)) if whiskers else None
    look: dict[str, Any] = style._asdict() | {"linestyle": "none"}
    look["markerfacecolor"] = "white" if look.pop("hollow") else style.color
    axes.errorbar(rows[x].astype(float), mean, yerr=reach, elinewidth=0.6, capsize=0, **look)
    if not whiskers:
        return False
    cut = False
    for beyond, edge, arrow in ((ends[0] < bottom, bottom, _CARET_DOWN), (ends[1] > top, top, _CARET_UP)):
        if beyond.any():
            at = rows[x].to_numpy(dtype=float)[beyond]
            look = {"color": style.color, "markersize": 4, "linestyle": "none", "zorder": style.zorder}
            axes.plot(at, np.full(len(at), edge), marker=arrow, clip_on=False, **look)
            cut = True
    return cut


def _guarantees(front: ParetoFront) -> pd.Series:
    """Height of the guaranteed front at its rows, cheapest first; empty where nothing is bounded."""
    sure = front.frame[front.frame["guaranteed"]].sort_values(front.x)
    sign = 1 if lower_is_better(front.y) else -1
    return float(front.frame[f"{front.y}_mean"].iloc[front.best]) + sign * sure["loss_most"].astype(float)


def _draw_steps(axes: Any, front: ParetoFront) -> None:
    """Both fronts as steps: the best mean, and the best guarantee, within each number of bytes."""
    frame, x, y = front.frame, front.x, front.y
    measured = frame[frame["on_front"]].sort_values(x)
    settings: dict[str, Any] = {"where": "post", "linewidth": 1.0, "zorder": 2.5}
    costs, scores = measured[x].astype(float), measured[f"{y}_mean"].astype(float)
    axes.step(costs, scores, color=GREY, linestyle=(0, (4, 2)), label="measured front", **settings)
    heights = _guarantees(front)
    if len(heights):
        settings |= {"color": PALETTE[1], "label": "guaranteed: best mean less the bound"}
        axes.step(frame.loc[heights.index, x].astype(float), heights, **settings)


def _draw_second_cost(figure: Figure, axes: Any, front: ParetoFront) -> None:
    """The second cost as a colour behind each point; the points of the front have a ring."""
    from matplotlib.colors import LogNorm, Normalize

    rows = front.frame
    second = rows[front.axes[1]].to_numpy(dtype=float)
    norm = LogNorm if (second > 0).all() and second.max() > second.min() else Normalize
    marks = axes.scatter(
        rows[front.x].astype(float),
        rows[f"{front.y}_mean"].astype(float),
        c=second,
        s=np.where(rows["on_front"].to_numpy(dtype=bool), 150, 70),
        cmap="cividis_r",
        norm=norm(second.min(), second.max()),
        edgecolors=["black" if value else "none" for value in rows["on_front"]],
        zorder=2.8,
        label="front (black ring)",
    )
    bar = figure.colorbar(marks, ax=axes, pad=0.02)
    bar.set_label(COSTS[front.axes[1]].axis)
    if norm is LogNorm:
        size_axis(bar.ax.yaxis, front.axes[1], (float(second.min()), float(second.max())))


def _shown_answer(front: ParetoFront) -> tuple[int, str]:
    """The row with the ring, and what the ring means: the answer, or the smallest bound where there is none."""
    if front.answer is not None:
        return front.answer, f"cheapest that is good enough (answer for {margin_words(front.y, front.margin)})"
    return smallest_bound(front.frame), "smallest bound"


def _draw_marks(axes: Any, front: ParetoFront) -> None:
    """A star on the best mean, a ring around the answer."""
    ringed, words = _shown_answer(front)
    star = {"marker": "*", "markerfacecolor": PALETTE[1], "markeredgecolor": "white", "markeredgewidth": 0.8}
    ring = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": PALETTE[1], "markeredgewidth": 1.8}
    marks: list[tuple[int, str, dict[str, Any]]] = [(front.best, "best mean", star)]
    marks += [(ringed, words, ring)] if front.losses.study is not None else []
    for row, name, look in marks:
        at = front.frame[[front.x, f"{front.y}_mean"]].iloc[[row]].astype(float)
        axes.plot(*at.to_numpy().T, markersize=13, linestyle="none", zorder=6, label=name, **look)


def _label_points(axes: Any, front: ParetoFront) -> None:
    """Names beside the points of both fronts; the answer and the best have one in any case."""
    frame = front.frame
    first = list(dict.fromkeys((_shown_answer(front)[0], front.best)))
    named = [row for row in range(len(frame)) if frame["guaranteed"].iloc[row] or frame["on_front"].iloc[row]]
    rows = list(dict.fromkeys([*first, *sorted(named, key=lambda row: not frame["guaranteed"].iloc[row])]))
    marks = frame[[front.x, f"{front.y}_mean"]].to_numpy(dtype=float)
    names = [str(frame["label"].iloc[row]) for row in rows]
    draw_names(axes, marks[rows], names, marks=marks, must=_NAMED, gap=9)
