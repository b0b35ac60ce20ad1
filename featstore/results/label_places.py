"""Where the names of marks stand in a figure: on no other name, on no mark, and across as few lines as can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Place", "place_labels"]

_DISTANCES = (1.0, 1.7, 2.6, 3.6, 4.8, 6.2, 7.8, 9.6, 11.6, 13.8)
_STEPS = (0.0, *(step for distance in _DISTANCES for step in (distance, -distance)))  # heights of a name, upwards
_SIDEWAYS = (0.0, 1.6, 4.0)  # further heights of a name to the side
_NEAR = 1.8  # heights of a name beyond which it needs a line to its mark
_CROSSING = 1.5  # what a crossed line costs, in heights of a name

Boxes = npt.NDArray[np.float64]  # (n, 4): left, bottom, right, top


@dataclass(frozen=True, slots=True)
class Place:
    """Where one name stands.

    Attributes
    ----------
    box : tuple of float
        Left, bottom, right and top, in the units of the marks.
    leader : tuple of float or None
        Point of the box that a line from the mark leads to; None beside the mark.
    """

    box: tuple[float, float, float, float]
    leader: tuple[float, float] | None


def place_labels(
    marks: npt.ArrayLike,
    sizes: Sequence[tuple[float, float]],
    *,
    inside: tuple[float, float, float, float],
    taken: npt.ArrayLike,
    lines: npt.ArrayLike = (),
    gap: float = 6.0,
    must: int = 0,
) -> list[Place | None]:
    """Find a place for each name, one after the other: the first ones have the choice.

    Parameters
    ----------
    marks : array (n, 2)
        What is named, in pixels, y upwards.
    sizes : sequence of (width, height)
        Of each name.
    inside : left, bottom, right, top
        Where names may stand.
    taken : array (m, 4)
        Boxes that no name may cover: marks, and other texts.
    lines : array (k, 4)
        Straight lines ``x0, y0, x1, y1`` that names cross only where nothing else is left.
    gap : float
        Between a mark and its name.
    must : int
        As many of the first names may stand anywhere inside, with a line to their mark.

    Returns
    -------
    list of Place or None
        None for a name that has no place.
    """
    spots = np.asarray(marks, dtype=float).reshape(-1, 2)
    used: list[Sequence[float]] = [tuple(box) for box in np.asarray(taken, dtype=float).reshape(-1, 4)]
    segments = np.asarray(lines, dtype=float).reshape(-1, 4)
    found: list[Place | None] = []
    for number, ((x, y), size) in enumerate(zip(spots, sizes, strict=True)):
        boxes = np.asarray(used, dtype=float).reshape(-1, 4)
        best, least = None, np.inf
        for place, away in _candidates(x, y, *size, gap=gap, far=number < must):
            cost = away + _CROSSING * _crossings(place, segments, (x, y), boxes)
            if cost < least and _within(place.box, inside) and not _hits(place.box, boxes):
                best, least = place, cost
        found.append(best)
        if best is not None:
            left, bottom, right, top = best.box
            used.append((left - 1, bottom - 1, right + 1, top + 1))
            if best.leader is not None:
                segments = np.vstack([segments, [x, y, *best.leader]])
    return found


def _candidates(x: float, y: float, width: float, height: float, *, gap: float, far: bool) -> Any:
    """Places around a mark with their distance in heights of the name, beside it and further away."""
    for step in _STEPS if far else _STEPS[:9]:
        for sideways in _SIDEWAYS if far and abs(step) > _NEAR else (0.0,):
            for side in (-1, 1):
                middle = y + step * height
                near = x + side * (gap + sideways * height)
                left = near if side > 0 else near - width
                box = (left, middle - height / 2, left + width, middle + height / 2)
                away = abs(step) + sideways
                yield Place(box, (near, middle) if away > _NEAR else None), away


def _within(box: Sequence[float], outer: Sequence[float]) -> bool:
    return outer[0] <= box[0] and outer[1] <= box[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _hits(box: Sequence[float], boxes: Boxes) -> bool:
    left, bottom, right, top = box
    hit = (boxes[:, 0] < right) & (left < boxes[:, 2]) & (boxes[:, 1] < top) & (bottom < boxes[:, 3])
    return bool(hit.any())


def _crossings(place: Place, segments: Boxes, mark: tuple[float, float], boxes: Boxes) -> int:
    """Lines that the name lies on, and names and marks that its own line would lead through."""
    count = sum(_cuts(segment, place.box) for segment in segments)
    if place.leader is not None:
        own = [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes if not (x0 <= mark[0] <= x1 and y0 <= mark[1] <= y1)]
        count += sum(_cuts((*mark, *place.leader), box) for box in own)
    return count


def _cuts(segment: Sequence[float], box: Sequence[float]) -> bool:
    """Whether a straight line has a part inside a box (Liang and Barsky 1984)."""
    x0, y0, x1, y1 = segment
    start, end = 0.0, 1.0
    for step, low, high in ((x1 - x0, box[0] - x0, box[2] - x0), (y1 - y0, box[1] - y0, box[3] - y0)):
        if step == 0:
            if low > 0 or high < 0:
                return False
            continue
        near, far = sorted((low / step, high / step))
        start, end = max(start, near), min(end, far)
    return start < end
