"""Names beside the marks of a figure, as many as have a place of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featstore.results.figure_style import GREY, INK
from featstore.results.label_places import place_labels

__all__ = ["draw_names"]

_MARK = 3.5  # points from the middle of a mark to its edge
_WIDER = 1.04  # room for the fonts of programs that show an SVG


def draw_names(
    axes: Any,
    spots: ArrayLike,
    names: Sequence[str],
    *,
    marks: ArrayLike,
    must: int = 0,
    size: float = 6.8,
    gap: float = 7.0,
    colours: Sequence[str] = (),
) -> None:
    """Write names beside marks; call it last, when the layout of the figure is known.

    Parameters
    ----------
    axes : Axes
    spots : array (n, 2)
        What is named, in data coordinates, the most important first.
    names : sequence of str
    marks : array (m, 2)
        All marks, in data coordinates: no name covers one.
    must : int
        As many of the first names may stand far away, with a line to their mark; the others are left out where the
        marks leave no place. Their marks are larger.
    size, gap : float
        Of the text, and between mark and name, in points.
    colours : sequence of str
        Of each name; ink by default.
    """
    import matplotlib as mpl
    from matplotlib.patheffects import withStroke

    figure, ground, own_dpi = axes.figure, axes.bbox, axes.figure.dpi
    saved = mpl.rcParams["savefig.dpi"]
    figure.set_dpi(own_dpi if saved == "figure" else saved)  # hinting makes small text narrower at other resolutions
    figure.draw_without_rendering()
    point = figure.dpi / 72
    at, taken = (axes.transData.transform(np.asarray(where, dtype=float)) for where in (spots, marks))
    look: dict[str, Any] = {"transform": axes.transAxes, "fontsize": size, "va": "center", "zorder": 7}
    look["path_effects"] = [withStroke(linewidth=2, foreground="white")]
    inks = list(colours) or [INK] * len(names)
    texts = [axes.text(0, 0, name, color=ink, in_layout=False, **look) for name, ink in zip(names, inks, strict=True)]
    extents = [text.get_window_extent() for text in texts]
    boxes = [np.column_stack([taken - _MARK * point, taken + _MARK * point])]
    boxes += [np.column_stack([at[:must] - 2 * _MARK * point, at[:must] + 2 * _MARK * point])]
    places = place_labels(
        at,
        [(_WIDER * extent.width, extent.height) for extent in extents],
        inside=(ground.x0 + 2, ground.y0 + 2, ground.x1, ground.y1),
        taken=np.vstack(boxes),
        lines=_lines_of(axes),
        gap=gap * point,
        must=must,
    )
    to_axes = axes.transAxes.inverted()
    for text, mark, place in zip(texts, at, places, strict=True):
        if place is None:
            text.remove()
            continue
        left, bottom, right, top = place.box
        leftward = (left + right) / 2 < mark[0]  # the end beside the mark stays where it is, at any resolution
        text.set_horizontalalignment("right" if leftward else "left")
        text.set_position(to_axes.transform((right if leftward else left, (bottom + top) / 2)))
        if place.leader is not None:
            ends = to_axes.transform([mark, place.leader])
            axes.plot(*ends.T, transform=axes.transAxes, color=GREY, linewidth=0.5, zorder=2.6)
    figure.set_dpi(own_dpi)


def _lines_of(axes: Any) -> NDArray[np.float64]:
    """Pieces of the lines and whiskers of an axes, steps as they are drawn, in pixels: ``x0, y0, x1, y1``."""
    found = [np.empty((0, 4))]
    for line in axes.lines:
        if line.get_linestyle() != "None" and len(line.get_xdata()) > 1:
            points = line.get_transform().transform(line.get_path().vertices)
            if line.get_drawstyle() == "steps-post":
                corners = np.column_stack([points[1:, 0], points[:-1, 1]])
                points = np.insert(points, range(1, len(points)), corners, axis=0)
            found.append(np.hstack([points[:-1], points[1:]]))
    for whiskers in axes.collections:
        if hasattr(whiskers, "get_segments"):
            ends = [axes.transData.transform(each).ravel() for each in whiskers.get_segments() if len(each) == 2]
            found.append(np.asarray(ends, dtype=float).reshape(-1, 4))
    return np.vstack(found)
