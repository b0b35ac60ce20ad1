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


def test_repeats_stay_together_and_the_others_stay_where_they_are() -> None:
    groups = [f"g{i // 4}" if i < 80 else None for i in range(200)]
    frame = made(200, groups=groups, labels=[["ab"[i % 2]] for i in range(200)])
    before = assign_splits(frame, seed=3)
    lists = [["t100", "t101"], ["t101", "t102"], ["t103", "t104"], ["t0", "t40", "t110"], ["t120"], []]
    after = assign_splits(frame, seed=3, repeats=lists)
    linked = [{100, 101, 102}, {103, 104}, {*range(4), *range(40, 44), 110}]
    assert all(after[list(rows)].nunique() == 1 for rows in linked)
    assert any(before[list(rows)].nunique() > 1 for rows in linked)
    others = sorted(set(range(200)) - set().union(*linked))
    assert after[others].equals(before[others])
    assert assign_splits(frame.iloc[::-1], seed=3, repeats=lists[::-1]).sort_index().equals(after)


def test_repeats_on_one_side_change_nothing() -> None:
    frame = made(60, groups=[None] * 60, labels=[["a"]] * 60)
    before = assign_splits(frame)
    lists = [[f"t{row}" for row in before.index[before == side][:3]] for side in ("train", "valid", "test")]
    assert assign_splits(frame, repeats=lists).equals(before) and assign_splits(frame, repeats=[]).equals(before)


def test_many_repeats_leave_the_shares() -> None:
    frame = made(400, groups=[None] * 400, labels=[["ab"[i % 2]] for i in range(400)])
    split = assign_splits(frame, repeats=[[f"t{i}", f"t{399 - i}"] for i in range(150)])
    assert all(abs(Counter(split)[side] - n) <= 2 for side, n in (("train", 280), ("valid", 40), ("test", 80)))
    assert all(split[i] == split[399 - i] for i in range(150))


def test_ids_of_other_tracks() -> None:
    frame = made(2, groups=[None] * 2, labels=[[]] * 2)
    with pytest.raises(DatasetError, match=r"1 of 2 ids belong to no track of the table, such as 't2' \[repeats\]"):
        assign_splits(frame, repeats=[["t0", "t2"]])


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


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(rows, st.lists(st.lists(st.integers(0, 39), max_size=4), max_size=6), st.integers(0, 5))
def test_no_repeat_is_ever_on_two_sides(
    content: list[tuple[str | None, list[str]]], lists: list[list[int]], seed: int
) -> None:
    frame = made(len(content), groups=[g for g, _ in content], labels=[x for _, x in content])
    lists = [[row % len(content) for row in each] for each in lists]
    repeats = [[f"t{row}" for row in each] for each in lists]
    split = assign_splits(frame, seed=seed, repeats=repeats)
    assert all(split[each].nunique() <= 1 for each in lists)
    sides = frame.assign(split=split).dropna(subset="group").groupby("group")["split"].nunique()
    assert (sides <= 1).all()
    listed = {row for each in lists for row in each}
    touched = listed | {row for row, (g, _) in enumerate(content) if g in {content[k][0] for k in listed} - {None}}
    others = [row for row in range(len(content)) if row not in touched]
    assert split[others].equals(assign_splits(frame, seed=seed)[others])
