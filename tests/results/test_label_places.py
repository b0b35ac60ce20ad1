"""Names in figures: they keep clear of one another and of what they name."""

from __future__ import annotations

import numpy as np
import pytest

from featstore.results.label_places import Place, place_labels

INSIDE = (0.0, 0.0, 600.0, 400.0)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_a_name_stands_beside_its_mark_and_moves_for_a_line() -> None:
    mark, size = [(300, 200)], [(80.0, 10.0)]
    [free] = place_labels(mark, size, inside=INSIDE, taken=[])
    assert free == Place((214.0, 195.0, 294.0, 205.0), None)
    [moved] = place_labels(mark, size, inside=INSIDE, taken=[], lines=[(0, 200, 299, 200)])
    assert moved is not None and moved.box == (306.0, 195.0, 386.0, 205.0)
    [high] = place_labels(mark, size, inside=INSIDE, taken=[], lines=[(0, 200, 600, 200)])
    assert high is not None and high.box[1] == 205.0 and high.leader is None


def test_a_name_without_a_free_place_is_left_out_unless_it_must_be_there() -> None:
    wall = [(200, 150, 400, 250)]
    assert place_labels([(300, 200)], [(80.0, 10.0)], inside=INSIDE, taken=wall) == [None]
    [far] = place_labels([(300, 200)], [(80.0, 10.0)], inside=INSIDE, taken=wall, must=1)
    assert far is not None and far.leader is not None and not _overlap(far.box, wall[0])


@pytest.mark.parametrize("seed", range(3))
def test_sixty_marks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marks = np.column_stack([rng.uniform(20, 580, 60), 350 - 300 * rng.exponential(0.2, 60).clip(0, 1)])
    taken = np.column_stack([marks - 3, marks + 3])
    places = place_labels(marks, [(150.0, 9.0)] * 60, inside=INSIDE, taken=taken, must=2)
    boxes = [place.box for place in places if place is not None]
    assert places[0] is not None and places[1] is not None and len(boxes) >= 5
    assert not any(_overlap(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert not any(_overlap(box, tuple(mark)) for box in boxes for mark in taken)
