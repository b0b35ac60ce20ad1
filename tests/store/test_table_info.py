"""What a store keeps of its track tables when a second one is added."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import StoreError
from featstore.store import Store, create_store, open_store
from featstore.store.writing import add_tracks
from featstore.testing.stores import header_of


def frame_of(prefix: str, task: str, classes: list[str], **info: str) -> pd.DataFrame:
    """A table's frame of one track for each class."""
    rows = classes or ["none"]
    frame = pd.DataFrame(
        {
            "track_id": [f"{prefix}{number}" for number in range(len(rows))],
            "path": [f"/music/{prefix}{number}.wav" for number in range(len(rows))],
            "labels": [[name] for name in classes] or [[]],
            "duration_s": 30.0,
        }
    )
    if "label_column" in info:
        frame[info["label_column"]] = frame["labels"]
    return TrackTable(frame, TableInfo(name=prefix, task=task, classes=tuple(classes), **info)).frame  # type: ignore[arg-type]


def store_of(path: Path, frame: pd.DataFrame) -> Store:
    return create_store(path, frame, [header_of()], shard_tracks=4)


def test_classes_of_a_second_table_are_added_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_of(tmp_path / "s.zarr", frame_of("old", "single_label", ["classical", "jazz", "rock"]))
    with caplog.at_level(logging.WARNING):
        assert add_tracks(store, frame_of("new", "single_label", ["a", "jazz", "b"])) == 3
    info = open_store(tmp_path / "s.zarr").table.facts
    assert info is not None and info.classes == ("classical", "jazz", "rock", "a", "b") and info.name == "old"
    assert "the store had the classes classical, jazz, rock; 2 are added: a, b" in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "task", "classes"),
    [
        (("none", []), ("single_label", ["a"]), "single_label", ("a",)),
        (("multi_label", ["x", "y"]), ("none", []), "multi_label", ("x", "y")),
        (("none", []), ("none", []), "none", ()),
    ],
)
def test_a_table_without_labels_takes_nothing(
    tmp_path: Path, first: tuple[str, list[str]], second: tuple[str, list[str]], task: str, classes: tuple[str, ...]
) -> None:
    store = store_of(tmp_path / "s.zarr", frame_of("one", *first))
    add_tracks(store, frame_of("two", *second))
    info = open_store(tmp_path / "s.zarr").table.facts
    assert info is not None and (info.task, info.classes) == (task, classes)


def test_tables_that_do_not_fit_together_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s.zarr", frame_of("old", "single_label", ["jazz", "rock"]))
    before = {path: path.read_bytes() for path in (tmp_path / "s.zarr").rglob("*") if path.is_file()}
    with pytest.raises(
        StoreError, match=r"the task of the store's tracks is single_label.*2 tracks.*another store: -s"
    ):
        add_tracks(store, frame_of("new", "multi_label", ["x", "y"]))
    with pytest.raises(StoreError, match=r"the label column of the store's tracks is labels.*is mood"):
        add_tracks(store, frame_of("new", "single_label", ["x", "y"], label_column="mood"))
    assert {path: path.read_bytes() for path in (tmp_path / "s.zarr").rglob("*") if path.is_file()} == before
    assert len(open_store(tmp_path / "s.zarr").tracks) == 2
