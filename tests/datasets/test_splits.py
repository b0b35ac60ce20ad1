from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.datasets import assign_splits
from featstore.errors import ConfigError, DatasetError


def made(n: int, *, groups: list[str | None], labels: list[list[str]]) -> pd.DataFrame:
    return pd.DataFrame({"track_id": [f"t{i}" for i in range(n)], "group": groups, "labels": labels})


def test_shares_within_each_class() -> None:
    frame = made(300, groups=[f"g{i // 3}" for i in range(300)], labels=[["ab"[i // 150]] for i in range(300)])
    split = assign_splits(frame, fractions=(0.7, 0.1, 0.2))
    counts = Counter(zip(frame["labels"].str[0], split, strict=True))
    assert counts == {(c, s): n for c in "ab" for s, n in (("train", 105), ("valid", 15), ("test", 30))}


def test_three_groups_of_a_class_reach_all_splits() -> None:
    frame = made(
        103, groups=[f"g{i}" for i in range(103)], labels=[["rare" if i < 3 else "common"] for i in range(103)]
    )
    assert set(assign_splits(frame)[:3]) == {"train", "valid", "test"}


def test_seed_and_order() -> None:
    frame = made(60, groups=[f"g{i // 2}" for i in range(60)], labels=[["a"]] * 60)
    one = assign_splits(frame, seed=0)
    assert not one.equals(assign_splits(frame, seed=1))
    assert assign_splits(frame.iloc[::-1], seed=0).sort_index().equals(one)


def test_without_groups_or_classes() -> None:
    frame = made(10, groups=[None] * 10, labels=[[]] * 10)
    split = assign_splits(frame, fractions=(0.5, 0.0, 0.5), group_column=None, stratify_column=None)
    assert Counter(split) == {"train": 5, "test": 5}


@pytest.mark.parametrize("fractions", [(0.7, 0.1), (0.7, 0.1, 0.1), (1.2, -0.2, 0.0)])
def test_fractions_that_are_no_shares(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"are not shares of a whole.*adding up to 1"):
        assign_splits(made(1, groups=[None], labels=[[]]), fractions=fractions)


def test_missing_column() -> None:
    with pytest.raises(DatasetError, match=r"no column 'artist'.*Known: group, labels, track_id"):
        assign_splits(made(1, groups=[None], labels=[[]]), group_column="artist")


rows = st.lists(
    st.tuples(st.sampled_from([None, "g", "h", "i", "j"]), st.lists(st.sampled_from("xyz"), unique=True)),
    min_size=1,
    max_size=40,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 5))
def test_no_group_is_ever_on_two_sides(content: list[tuple[str | None, list[str]]], seed: int) -> None:
    frame = made(len(content), groups=[g for g, _ in content], labels=[x for _, x in content])
    split = assign_splits(frame, seed=seed)
    assert set(split) <= {"train", "valid", "test"} and split.notna().all()
    sides = frame.assign(split=split).dropna(subset="group").groupby("group")["split"].nunique()
    assert (sides == 1).all()
