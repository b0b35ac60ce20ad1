from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from featstore.datasets import Finding, TableInfo, TrackTable, check_table


def kinds(findings: list[Finding]) -> dict[str, tuple[str, ...]]:
    return {each.kind: each.tracks for each in findings}


def test_a_good_table_has_nothing_wrong(tmp_path: Path, tone: Callable[..., Path]) -> None:
    paths = [str(tone(tmp_path / f"{i}.wav", hz=200 + i)) for i in range(3)]
    frame = pd.DataFrame(
        {"track_id": list("abc"), "path": paths, "labels": [["x"]] * 3, "split": ["train", "valid", "test"]}
    )
    seen: list[int] = []
    table = TrackTable(frame, TableInfo(name="good", task="single_label", classes=("x",)))
    assert check_table(table, on_file=lambda: seen.append(1)) == []
    assert len(seen) == 3


def test_every_fault_is_found(tmp_path: Path, tone: Callable[..., Path]) -> None:
    for name in ("a", "b", "c"):
        tone(tmp_path / f"{name}.wav", hz=300)
    tone(tmp_path / "d.wav", hz=400)
    names = ["a", "b", "c", "d", "gone", "broken", "broken"]
    frame = pd.DataFrame(
        {
            "track_id": names,
            "path": [str(tmp_path / f"{name}.wav") for name in names],
            "labels": [["x"], ["y"], [], ["x"], [], [], []],
            "split": ["train", "test", "train", "dev", None, "train", "train"],
            "group": ["g", "g", None, None, None, None, None],
            "probe_error": [None] * 5 + ["not readable as audio"] * 2,
        }
    )
    table = TrackTable(frame, TableInfo(name="bad", task="multi_label", classes=("x", "y")), checked=False)
    findings = check_table(table)
    found = kinds(findings)
    assert found["duplicate_id"] == ("broken",)
    assert found["group_overlap"] == ("b", "a")
    assert found["missing_file"] == ("gone",)
    assert found["unreadable"] == ("broken",)
    assert found["unknown_split"] == ("d",)
    assert found["no_split"] == ("gone",)
    assert found["duplicate_audio_across_splits"] == ("a", "b", "c")
    assert "duplicate_audio_across_splits" not in kinds(check_table(table, compare_audio=False))
    absent = [each.message for each in findings if each.kind == "class_without_example"]
    assert absent == ["split train has no example of y", "split test has no example of x"]
    assert {each.severity for each in findings if each.kind == "class_without_example"} == {"warning"}


def test_equal_files_in_one_split_are_a_warning(tmp_path: Path, tone: Callable[..., Path]) -> None:
    paths = [str(tone(tmp_path / f"{i}.wav")) for i in range(2)]
    table = TrackTable(pd.DataFrame({"track_id": ["a", "b"], "path": paths, "split": "train"}), TableInfo(name="t"))
    assert [(each.kind, each.severity) for each in check_table(table)] == [("duplicate_audio", "warning")]


def test_classes_and_groups_that_may_be_one() -> None:
    rows = [("Rock", "train", "The Band"), ("rock", "test", "the band"), ("electonic", "train", "a"),
            ("electronic", "test", "A."), ("1980s", "train", "v1.2"), ("1990s", "test", "v12"), ("jazz", "train", "Q"),
            ("jazz", "train", "q")]  # fmt: skip
    frame = pd.DataFrame(
        {
            "track_id": [str(number) for number in range(len(rows))],
            "path": "x",
            "labels": [[row[0]] for row in rows],
            "split": [row[1] for row in rows],
            "group": [row[2] for row in rows],
        }
    )
    classes = tuple(sorted({row[0] for row in rows}))
    table = TrackTable(frame, TableInfo(name="t", task="single_label", classes=classes))
    messages = [each.message for each in check_table(table) if each.kind.startswith("similar")]
    assert messages == [
        "classes that may be one: 'Rock' (1), 'rock' (1)",
        "classes that may be one: 'electonic' (1), 'electronic' (1)",
        "groups that may be one are on two sides: 'The Band' in train, 'the band' in test",
        "groups that may be one are on two sides: 'A.' in test, 'a' in train",
    ]
