"""Splits that never put one group (work, artist, album) on two sides."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from featstore.datasets.sources import check_column
from featstore.datasets.table import SPLITS, label_list
from featstore.errors import ConfigError
from featstore.grouping import assign_rows
from featstore.plain import is_missing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["assign_splits", "joined"]


def assign_splits(
    frame: pd.DataFrame,
    *,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    group_column: str | None = "group",
    stratify_column: str | None = "labels",
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

    Returns
    -------
    pandas.Series of str, index as ``frame``

    Raises
    ------
    ConfigError
        When the fractions are not three shares of a whole.
    DatasetError
        When a named column is missing.

    See Also
    --------
    TrackTable : Holds the splits.
    """
    import pandas as pd

    for name in (group_column, stratify_column):
        if name is not None:
            check_column(name, frame.columns, "splits")
    track_ids = list(frame["track_id"])
    groups = list(frame[group_column]) if group_column else [None] * len(frame)
    # a pair, so that the group "a" and the ungrouped track "a" are two things
    keys: list[Hashable] = [
        ("track", track_id) if is_missing(group) or group == "" else ("group", str(group))
        for group, track_id in zip(groups, track_ids, strict=True)
    ]
    values = list(frame[stratify_column]) if stratify_column else [None] * len(frame)
    # a track without any class is of the class of those
    classes = [label_list(value) or [""] for value in values]
    parts = assign_rows(keys, classes, shares=_checked_fractions(fractions), seed=seed)
    return pd.Series([SPLITS[part] for part in parts], index=frame.index, name="split", dtype=object)


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
