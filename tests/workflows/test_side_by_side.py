"""Pieces of work in processes: each has its own outcome, in order, whatever becomes of the others."""

from __future__ import annotations

import os

import pytest

from featstore.workflows.side_by_side import side_by_side


def work(piece: int) -> str:
    if piece < 0:
        os._exit(1)  # as the system ends a process that takes too much memory
    return f"{piece} failed" if piece else ""


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_come_in_the_order_of_the_pieces(jobs: int) -> None:
    assert list(side_by_side(work, [0, 2, 1], jobs=jobs)) == ["", "2 failed", "1 failed"]
    assert list(side_by_side(work, [], jobs=jobs)) == []


def test_a_process_that_dies_is_an_error_of_its_piece_alone() -> None:
    found = list(side_by_side(work, [0, -1, 2, 0, -1, 1], jobs=2))
    assert [error for error in found if "died" not in error] == ["", "2 failed", "", "1 failed"]
    assert "its process died" in found[1] and "its process died" in found[4]
