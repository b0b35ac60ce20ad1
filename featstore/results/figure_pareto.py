"""Score against cost: the figure that answers how little is enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.metrics import title_of
from featstore.results.figure_style import GREY, INK, PALETTE, figure_style, new_figure, save_figure, size_axis
from featstore.results.fronts import AXES, ParetoFront

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_pareto", "plot_pareto"]

_MANY = 40  # beyond this many points, whiskers only for those that matter


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
    """The figure itself: every configuration, the front, and what cannot be told apart from the best."""
    figure, axes = new_figure(6.6, 4.3)
    frame, x, y = front.frame, front.x, front.y
    cost = frame[x].to_numpy(dtype=float)
    positive = cost[cost > 0]
    log = len(positive) == len(cost)
    if log:
        axes.set_xscale("log")
    _draw_best_band(axes, front)
    if len(front.axes) > 1:
        _draw_second_cost(figure, axes, front)
    else:
        _draw_front(axes, frame[frame["on_front"]], x, y)
    for state, style in _STYLES.items():
        rows = np.array([value == state for value in _states(front)])
        if rows.any():
            _draw_points(axes, frame[rows], x, y, style, many=len(frame) > _MANY)
    _draw_marks(axes, front)
    if log:
        size_axis(axes.xaxis, x, (positive.min(), positive.max()))
        axes.set_xlim(positive.min() / 1.35, positive.max() * 1.35)
    axes.set_xlabel(AXES[x])
    axes.set_ylabel(title_of(y, split="test"))
    if title:
        axes.set_title(title, loc="left")
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: _LEGEND.index(names[i]))
    figure.legend(
        [handles[i] for i in order], [names[i] for i in order], loc="outside upper left", ncols=3, handletextpad=0.6
    )
    figure.supxlabel(_wrapped(front.statement), fontsize=6.5, color=GREY, x=0.01, ha="left")
    _label_front(axes, front)  # last: where things lie depends on all the rest
    return figure


_LEGEND = (
    "not told apart from the best",
    "in doubt",
    "differs from the best",
    "not tested (fewer than 2 runs)",
    "best mean",
    "cheapest not told apart",
    "front",
    "front (black ring)",
    "95 % interval of the best",
)
_STYLES: dict[str, dict[str, Any]] = {
    "differs": {"color": GREY, "markerfacecolor": "white", "label": "differs from the best"},
    "untested": {"color": GREY, "marker": "x", "label": "not tested (fewer than 2 runs)"},
    "doubt": {"color": PALETTE[0], "markerfacecolor": "#BFDFF0", "label": "in doubt"},
    "same": {"color": PALETTE[0], "markerfacecolor": PALETTE[0], "label": "not told apart from the best"},
}


def _states(front: ParetoFront) -> list[str]:
    names = {None: "untested", True: "differs", False: "same"}
    pairs = zip(front.frame["told_apart"], front.frame["in_doubt"], strict=True)
    return ["doubt" if doubt else names[None if apart is None else bool(apart)] for apart, doubt in pairs]


def _draw_points(axes: Any, rows: pd.DataFrame, x: str, y: str, style: dict[str, Any], *, many: bool) -> None:
    """Points of one kind; whiskers are intervals of the mean."""
    mean = rows[f"{y}_mean"].to_numpy(dtype=float)
    low, high = mean - rows[f"{y}_low"].to_numpy(dtype=float), rows[f"{y}_high"].to_numpy(dtype=float) - mean
    if many:
        keep = rows["on_front"].to_numpy(dtype=bool)
        low, high = np.where(keep, low, np.nan), np.where(keep, high, np.nan)
    reach = np.nan_to_num(np.vstack([low, high]))
    settings = {"marker": "o", "markersize": 3 if many else 5, "linestyle": "none", "zorder": 4} | style
    axes.errorbar(rows[x].astype(float), mean, yerr=reach, elinewidth=0.8, capsize=0, **settings)


def _draw_front(axes: Any, rows: pd.DataFrame, x: str, y: str) -> None:
    """The front as steps: the best score within each number of bytes."""
    ordered = rows.sort_values(x)
    scores = ordered[f"{y}_mean"].astype(float)
    axes.step(ordered[x].astype(float), scores, where="post", color=PALETTE[1], linewidth=1.1, zorder=3, label="front")


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
        zorder=3.5,
        label="front (black ring)",
    )
    bar = figure.colorbar(marks, ax=axes, pad=0.02)
    bar.set_label(AXES[front.axes[1]])
    if norm is LogNorm:
        size_axis(bar.ax.yaxis, front.axes[1], (float(second.min()), float(second.max())))


def _draw_best_band(axes: Any, front: ParetoFront) -> None:
    best = front.frame.iloc[front.best]
    low, high = float(best[f"{front.y}_low"]), float(best[f"{front.y}_high"])
    if np.isfinite(low):
        axes.axhspan(low, high, color=PALETTE[0], alpha=0.09, linewidth=0, label="95 % interval of the best")


def _draw_marks(axes: Any, front: ParetoFront) -> None:
    """Rings around the best, and around the cheapest that cannot be told apart from it."""
    for row, marker, size, name in (
        (front.best, "*", 13, "best mean"),
        (front.answer, "o", 12, "cheapest not told apart"),
    ):
        point = front.frame.iloc[row]
        face = PALETTE[1] if marker == "*" else "none"
        axes.plot(
            [float(point[front.x])],
            [float(point[f"{front.y}_mean"])],
            marker=marker,
            markersize=size,
            markerfacecolor=face,
            markeredgecolor=PALETTE[1] if marker != "*" else "white",
            markeredgewidth=1.5 if marker != "*" else 0.8,
            linestyle="none",
            zorder=6,
            label=name,
        )


def _label_front(axes: Any, front: ParetoFront) -> None:
    """Names beside the points of the front, as many as fit without lying on one another or on a point."""
    from matplotlib.patheffects import withStroke

    frame = front.frame
    rows = [row for row in range(len(frame)) if frame["on_front"].iloc[row] or row in (front.best, front.answer)]
    rows.sort(key=lambda row: (row not in (front.best, front.answer), -float(frame[f"{front.y}_mean"].iloc[row])))
    figure = axes.figure
    figure.draw_without_rendering()
    renderer, ground = figure.canvas.get_renderer(), axes.bbox
    at = axes.transData.transform(np.column_stack([frame[front.x], frame[f"{front.y}_mean"]]).astype(float))
    taken = np.column_stack([at - 3, at + 3])  # left, bottom, right, top of each point
    for row in rows:
        spot = (float(frame[front.x].iloc[row]), float(frame[f"{front.y}_mean"].iloc[row]))
        for dx, dy, side in ((-8, 5, "right"), (8, -10, "left"), (-8, -10, "right"), (8, 6, "left")):
            text = axes.annotate(
                str(frame["label"].iloc[row]),
                spot,
                xytext=(dx, dy),
                textcoords="offset points",
                ha=side,
                fontsize=6.8,
                color=INK,
                zorder=7,
                path_effects=[withStroke(linewidth=2, foreground="white")],
                in_layout=False,
            )
            box = text.get_window_extent(renderer)
            inside = ground.x0 + 2 <= box.x0 and box.x1 <= ground.x1 + 4 and box.y1 <= ground.y1 + 4
            hit = (taken[:, 0] < box.x1) & (box.x0 < taken[:, 2]) & (taken[:, 1] < box.y1) & (box.y0 < taken[:, 3])
            if inside and not hit.any():
                taken = np.vstack([taken, [box.x0, box.y0, box.x1, box.y1]])
                break
            text.remove()


def _wrapped(text: str, width: int = 125) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
