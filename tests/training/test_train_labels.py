from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import CheckpointError, ConfigError, DatasetError
from featstore.training.config import DataConfig
from featstore.training.labels import label_tracks, read_labels, write_labels


def frame_of(labels: list, splits: list | None = None, **columns) -> pd.DataFrame:
    n = len(labels)
    ids = [f"t{i}" for i in range(n)]
    frame = pd.DataFrame({"track_id": ids, "path": [f"/m/{i}.wav" for i in range(n)], "labels": labels, **columns})
    frame["split"] = splits if splits is not None else (["train", "valid", "test"] * n)[:n]
    return frame


def all_of(frame: pd.DataFrame) -> list[str]:
    return list(frame["track_id"])


MULTI = [["a"], ["b"], ["a", "b"], [], ["c"], ["b"]]


def test_multi_label_targets_follow_the_tables_classes() -> None:
    frame = frame_of(MULTI)
    table = TrackTable(frame, TableInfo(name="tags", task="multi_label", classes=("c", "b", "a")))
    found = label_tracks(table, all_of(frame), DataConfig())
    assert (found.dataset, found.task, found.classes) == ("tags", "multi_label", ("c", "b", "a"))
    assert found.splits["train"].track_ids == ["t0", "t3"]
    assert found.splits["train"].targets.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert found.one_sided == {"train": ["c", "b"], "valid": ["a"], "test": ["c", "b"]}


def test_a_bare_frame_gets_sorted_classes_and_its_own_task() -> None:
    frame = frame_of([["x"], ["y"], ["x"]]).set_index("track_id")
    found = label_tracks(frame, ["t0", "t1", "t2"], DataConfig(), name="mine")
    assert (found.dataset, found.task, found.classes) == ("mine", "single_label", ("x", "y"))
    assert found.splits["valid"].targets.tolist() == [1]


def test_another_label_column() -> None:
    frame = frame_of(MULTI, style=["r", "j", "r", None, "j", "r"])
    table = TrackTable(frame, TableInfo(name="tags", task="multi_label", classes=("a", "b", "c")))
    found = label_tracks(table, all_of(frame), DataConfig(label_column="style"))
    assert (found.task, found.classes) == ("single_label", ("j", "r"))
    assert sum(map(len, found.splits.values())) == 5  # t3 has no style


def test_chosen_classes_leave_other_labels_out() -> None:
    frame = frame_of(MULTI)
    found = label_tracks(frame, all_of(frame), DataConfig(classes=("b", "a"), task="multi_label"))
    assert found.splits["valid"].targets.tolist() == [[1, 0], [0, 0]]


def test_chosen_classes_of_a_single_label_task_leave_the_other_tracks_out(caplog: pytest.LogCaptureFixture) -> None:
    frame = frame_of([["a"], ["b"], ["c"], ["b"], ["a"], ["b"]])
    found = label_tracks(frame, all_of(frame), DataConfig(classes=("b", "a")))
    assert "1 of 6 tracks have no label among data.classes" in caplog.text
    assert (found.task, found.splits["train"].targets.tolist()) == ("single_label", [1, 0])


def test_tracks_that_are_not_stored(caplog: pytest.LogCaptureFixture) -> None:
    frame = frame_of(MULTI)
    with caplog.at_level(logging.WARNING):
        found = label_tracks(frame, ["t0", "t1", "t2", "t4"], DataConfig())
    assert "2 of 6 tracks have no stored feature: t3, t5" in caplog.text
    assert sum(map(len, found.splits.values())) == 4
    with pytest.raises(DatasetError, match=r"2 of 6 tracks have no stored feature.*data.missing=skip"):
        label_tracks(frame, ["t0", "t1", "t2", "t4"], DataConfig(missing="error"))
    with pytest.raises(DatasetError, match="none of the table's 6 tracks"):
        label_tracks(frame, ["other"], DataConfig())


def test_a_class_without_example_is_listed(caplog: pytest.LogCaptureFixture) -> None:
    frame = frame_of([["a"], ["b"], ["a"], ["a"]], ["train", "valid", "test", "train"])
    with caplog.at_level(logging.WARNING):
        label_tracks(frame, all_of(frame), DataConfig())
    assert "1 classes have no example to train on: b" in caplog.text


@pytest.mark.parametrize(
    ("frame", "config", "error", "message"),
    [
        (frame_of([[], [], []]), DataConfig(), DatasetError, "no track has a label.*data.label_column"),
        (frame_of(MULTI), DataConfig(label_column="lables"), DatasetError, "'lables'.*Did you mean labels"),
        (frame_of(MULTI, [None] * 6), DataConfig(), DatasetError, "have no splits.*datasets split.*data.split=random"),
        (frame_of(MULTI, ["train"] * 6), DataConfig(), DatasetError, "no stored track in the split 'valid'.*train 6"),
        (frame_of([["a"], [], ["b"]]), DataConfig(task="multi_label"), DatasetError, "labels are missing.*'valid'"),
        (frame_of([["a"], ["a"], ["a"]]), DataConfig(), DatasetError, "only one class: a"),
        (frame_of(MULTI), DataConfig(task="single_label"), DatasetError, "2 labels where a single-label.*track t2"),
        (frame_of(MULTI), DataConfig(classes=("a", "d")), ConfigError, "no track has the label 'd'"),
        (frame_of(MULTI), DataConfig(classes=("a", "a")), ConfigError, "lists a class twice"),
    ],
)
def test_tables_that_training_cannot_use(
    frame: pd.DataFrame, config: DataConfig, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        label_tracks(frame, all_of(frame), config)


def test_a_track_listed_twice() -> None:
    frame = pd.concat([frame_of(MULTI), frame_of(MULTI[:1])])
    with pytest.raises(DatasetError, match="track t0 is listed twice"):
        label_tracks(frame, ["t0", "t1"], DataConfig())


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=30, max_size=80),
    seed=st.integers(0, 5),
    how=st.sampled_from(["random", "folds"]),
)
def test_groups_never_lie_on_two_sides(groups: list[int], seed: int, how: str) -> None:
    names = [["a", "b", "c"][i % 3] for i in range(len(groups))]
    frame = frame_of([[name] for name in names], [None] * len(groups), group=[f"g{g}" for g in groups])
    try:
        config = DataConfig(split=how, split_seed=seed, fractions=(0.6, 0.2, 0.2), task="multi_label")
        found = label_tracks(frame, all_of(frame), config)
    except DatasetError as error:
        assert len(set(groups)) < 5, error
        return
    sides = {split: set(part.groups) for split, part in found.splits.items()}
    assert sum(len(part) for part in found.splits.values()) == len(groups)
    assert sum(map(len, sides.values())) == len(set(groups))
    shuffled = frame.sample(frac=1, random_state=seed)
    again = label_tracks(shuffled, all_of(frame), config)
    assert {s: set(p.track_ids) for s, p in again.splits.items()} == {
        s: set(p.track_ids) for s, p in found.splits.items()
    }
    assert again.digest() == found.digest()


def test_random_shares_are_about_right_and_folds_partition() -> None:
    frame = frame_of([["a", "b"][i % 2 : i % 2 + 1] for i in range(200)], [None] * 200)
    found = label_tracks(frame, all_of(frame), DataConfig(split="random"))
    assert [len(found.splits[s]) for s in ("train", "valid", "test")] == [140, 20, 40]
    assert abs(int((found.splits["train"].targets == 0).sum()) - 70) <= 1
    tests = [
        set(label_tracks(frame, all_of(frame), DataConfig(split="folds", fold=fold)).splits["test"].track_ids)
        for fold in range(5)
    ]
    assert sum(map(len, tests)) == 200 == len(set.union(*tests))


def test_a_share_may_validate_in_place_of_a_whole_fold() -> None:
    frame = frame_of(
        [["a", "b"][i % 2 : i % 2 + 1] for i in range(200)], [None] * 200, group=[f"g{i // 2}" for i in range(200)]
    )
    whole, small = (
        [
            label_tracks(frame, all_of(frame), DataConfig(split="folds", fold=fold, valid_share=share))
            for fold in range(5)
        ]
        for share in (None, 0.05)
    )
    for one, other in zip(whole, small, strict=True):
        assert one.splits["test"].track_ids == other.splits["test"].track_ids
        assert [len(other.splits[name]) for name in ("train", "valid", "test")] == [152, 8, 40]
        sides = [set(part.groups) for part in other.splits.values()]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 100
    with pytest.raises(ConfigError, match=r"valid_share=1 is not in \(0, 1\)"):
        DataConfig(valid_share=1)


def test_labels_survive_a_file(tmp_path: Path) -> None:
    for labels in (MULTI, [["x"], ["y"], ["x"]]):
        frame = frame_of(labels)
        found = label_tracks(frame, all_of(frame), DataConfig(), name="mine")
        write_labels(tmp_path / "labels.parquet", found)
        again = read_labels(tmp_path / "labels.parquet")
        assert again.digest() == found.digest()
        assert again.one_sided == found.one_sided
        for split, part in found.splits.items():
            assert again.splits[split].track_ids == part.track_ids
            assert again.splits[split].groups == part.groups
            assert np.array_equal(again.splits[split].targets, part.targets)
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(CheckpointError, match=r"labels of the run cannot be read.*--tracks"):
        read_labels(tmp_path / "labels.parquet")


def test_digest_changes_with_labels_splits_and_classes() -> None:
    frame = frame_of(MULTI)
    base = label_tracks(frame, all_of(frame), DataConfig())
    moved = frame.assign(split=["train", "valid", "test", "valid", "train", "test"])
    assert label_tracks(moved, all_of(frame), DataConfig()).digest() != base.digest()
    assert replace(base, classes=("a", "c", "b")).digest() != base.digest()


def test_a_split_without_labels_of_a_single_label_task() -> None:
    frame = pd.DataFrame(
        {
            "track_id": [f"t{i}" for i in range(6)],
            "labels": [["a"], ["b"], [], [], ["a"], ["b"]],
            "split": ["train", "train", "valid", "valid", "test", "test"],
        }
    )
    with pytest.raises(DatasetError, match=r"labels are missing: none of the 2 tracks of the split 'valid' has one"):
        label_tracks(frame, list(frame["track_id"]), DataConfig(), name="x")
