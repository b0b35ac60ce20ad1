"""YAML of users: plain values, bounded, and one sentence for anything else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from featstore.cluster_file import read_cluster
from featstore.errors import FeatstoreError
from featstore.plain_yaml import parse_yaml
from featstore.specs import expand_features
from featstore.training.settings import parse_assignments, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_aliases_work_within_reason() -> None:
    assert parse_yaml("a: &x {n: 1}\nb: *x\n", "here") == {"a": {"n": 1}, "b": {"n": 1}}
    assert parse_yaml("", "here") is None
    assert parse_yaml("a: &x {n: 1, m: 2}\nb: {<<: *x, n: 3}\nc: [{n: 1}, {n: 2}]\n1: x\n'1': y", "here") == {
        "a": {"n": 1, "m": 2},
        "b": {"n": 3, "m": 2},
        "c": [{"n": 1}, {"n": 2}],
        1: "x",
        "1": "y",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"^it unfolds to more than 100,000 values \[here\]. Write it without aliases$"),
        ("a: &a [*a]", "unfolds to more than"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ("a: 2024-02-31", "day is out of range"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML: could not determine a constructor"),
        ("a: [", "not valid YAML"),
        ("a: 1\nb: 2\na: 1", r"^a is given twice \(line 3\) \[here\]. Keep one of them$"),
        ("- x: {mel: {n_mels: 96}, mel: {n_mels: 48}}", r"mel is given twice \(line 1\)"),
        ("a: \0", "not valid YAML: unacceptable character"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    began = time.perf_counter()
    with pytest.raises(FeatstoreError, match=message):
        parse_yaml(text, "here")
    assert time.perf_counter() - began < 5


def test_every_reader_of_yaml_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(BOMB)
    for read in (read_yaml, read_cluster, lambda place: expand_features([str(place)])):
        with pytest.raises(FeatstoreError, match="unfolds to more than"):
            read(path)
    with pytest.raises(FeatstoreError, match=r"not valid YAML.*--set data.classes=\[.*Quote the value"):
        parse_assignments(["data.classes=["])


def test_a_feature_file_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "features.yaml"
    path.write_text("- mel: {n_mels: 96}\n  mel: {n_mels: 48}\n")
    with pytest.raises(FeatstoreError) as caught:
        expand_features([str(path)])
    assert str(caught.value) == f"cannot read the feature file: mel is given twice (line 2) [{path}]. Keep one of them"
