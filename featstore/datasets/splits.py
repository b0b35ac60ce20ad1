"""Splits that never put one group (work, artist, album) on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from featstore.datasets.repeats import Repeats, repeat_lists
from featstore.datasets.sources import check_column
from featstore.datasets.table import SPLITS, label_list
from featstore.errors import ConfigError
from featstore.grouping import assign_rows
from featstore.plain import is_missing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["assign_splits", "joined", "linked_tracks"]


def assign_splits(
    frame: pd.DataFrame,
    *,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    group_column: str | None = "group",
    stratify_column: str | None = "labels",
    repeats: Repeats = (),
) -> pd.Series:
    """Choose a split for every track, whole groups at a time, in proportion within each class.

    Parameters
    ----------
    frame : pandas.DataFrame
        A track table's frame.
    fractions : three numbers >= 0 that add up to 1
        Shares of train, valid and test.
    seed : int
        Another seed gives another assignment; the order of the rows has no influence.
    group_column : str, optional
        Tracks with one value here stay together; a track without value is its own group.
    stratify_column : str, optional
        Column of classes (text, or lists of text) whose proportions are to be kept.
    repeats : path, or sequence of sequences of str, optional
        Track ids of each recording that is there more than once, or the JSON file of these lists. Their groups stay
        together too: those that would be on several sides are drawn again, as one; all others stay where they are
        without ``repeats``.

    Returns
    -------
    pandas.Series of str, index as ``frame``

    Raises
    ------
    ConfigError
        When the fractions are not three shares of a whole.
    DatasetError
        When a named column is missing, or ``repeats`` are not lists of ids of these tracks.

    See Also
    --------
    TrackTable : Holds the splits.
    """
    import pandas as pd

    keys = _group_keys(frame, group_column)
    if stratify_column is not None:
        check_column(stratify_column, frame.columns, "splits")
    shares = _checked_fractions(fractions)
    values = list(frame[stratify_column]) if stratify_column else [None] * len(frame)
    # a track without any class is of the class of those
    classes = [label_list(value) or [""] for value in values]
    parts = assign_rows(keys, classes, shares=shares, seed=seed)
    whole = _linked_keys(frame, keys, repeats)
    if whole != keys:
        sides: dict[Hashable, set[int]] = defaultdict(set)
        for key, part in zip(whole, parts, strict=True):
            sides[key].add(part)
        kept = {key: min(found) for key, found in sides.items() if len(found) == 1}
        parts = assign_rows(whole, classes, shares=shares, seed=seed, kept=kept)
    return pd.Series([SPLITS[part] for part in parts], index=frame.index, name="split", dtype=object)


def linked_tracks(frame: pd.DataFrame, repeats: Repeats, *, group_column: str | None = "group") -> list[list[str]]:
    """Ids of the tracks that belong together because a group or a repeat links them, however indirectly.

    Parameters
    ----------
    frame, repeats, group_column
        As for :func:`assign_splits`.

    Returns
    -------
    list of list of str
        In the order of the rows; a track that belongs to no other is left out.
    """
    found: dict[Hashable, list[str]] = defaultdict(list)
    keys = _linked_keys(frame, _group_keys(frame, group_column), repeats)
    for key, track_id in zip(keys, frame["track_id"], strict=True):
        found[key].append(str(track_id))
    return [tracks for tracks in found.values() if len(tracks) > 1]


def _group_keys(frame: pd.DataFrame, group_column: str | None) -> list[tuple[str, str]]:
    """What stays together: a pair for each row, so that the group "a" and the ungrouped track "a" are two things."""
    if group_column is not None:
        check_column(group_column, frame.columns, "splits")
    groups = list(frame[group_column]) if group_column else [None] * len(frame)
    return [
        ("track", track_id) if is_missing(group) or group == "" else ("group", str(group))
        for group, track_id in zip(groups, frame["track_id"], strict=True)
    ]


def _linked_keys(frame: pd.DataFrame, keys: list[tuple[str, str]], repeats: Repeats) -> list[tuple[str, str]]:
    """The same keys, but one, the lowest, for all that ``repeats`` link."""
    key_of = dict(zip(map(str, frame["track_id"]), keys, strict=True))
    lists = [[key_of[track] for track in tracks] for tracks in repeat_lists(repeats, key_of)]
    if not lists:
        return keys
    linked = sorted({key for each in lists for key in each}, key=str)  # not by rows: their order has no influence
    at = {key: number for number, key in enumerate(linked)}
    first = joined(len(linked), [(at[each[0]], at[key]) for each in lists for key in each])
    lowest = {key: linked[number] for key, number in zip(linked, first, strict=True)}
    return [lowest.get(key, key) for key in keys]


def joined(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Groups of ``count`` things of which some pairs belong together: the lowest member of the group of each.

    Examples
    --------
    >>> joined(5, [(3, 1), (4, 3)])
    [0, 1, 2, 1, 1]
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array([*links], dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    _, first = np.unique(group, return_index=True)
    return [int(row) for row in first[group]]


def _checked_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    shares = tuple(float(each) for each in fractions)
    if len(shares) != len(SPLITS) or not all(0 <= each <= 1 for each in shares) or abs(sum(shares) - 1) > 1e-6:
        shown = ",".join(f"{each:g}" for each in shares)
        raise ConfigError(
            f"fractions {shown} are not shares of a whole",
            "splits",
            "Give train,valid,test adding up to 1: 0.7,0.1,0.2",
        )
    return shares
