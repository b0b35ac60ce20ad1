"""From the labels of a track table to the numbers a loss function takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError, DatasetError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import TypeIs

__all__ = [
    "Tracks",
    "class_index",
    "class_names",
    "label_column",
    "multi_hot",
    "select_split",
    "split_targets",
    "track_id_column",
]

Tracks: TypeAlias = "pd.DataFrame | Sequence[str]"


def track_id_column(tracks: Tracks) -> list[str]:
    """Track ids of a pandas frame (column ``track_id``, or the index of that name) or of a plain sequence of ids."""
    if not _is_table(tracks):
        return [str(value) for value in tracks]
    return list(map(str, (tracks["track_id"] if "track_id" in tracks.columns else tracks.index).tolist()))


def _is_table(tracks: Tracks) -> TypeIs[pd.DataFrame]:
    return hasattr(tracks, "columns")  # pandas stays unloaded


def label_column(tracks: Tracks) -> list[Sequence[str]]:
    """Labels of each track of a pandas frame.

    Raises
    ------
    ConfigError
        For plain ids, which have none.
    """
    if not _is_table(tracks):
        raise ConfigError("a list of ids has no labels", "targets", "Give a track table, or no classes")
    return tracks["labels"].tolist()


def select_split(tracks: pd.DataFrame, split: str | None) -> pd.DataFrame:
    """Rows of the track table that belong to ``split`` (all of them for None), in their order.

    Raises
    ------
    DatasetError
        When no track has that split; the message lists the splits that there are.
    """
    chosen = tracks if split is None else tracks[(tracks["split"] == split).to_numpy(dtype=bool, na_value=False)]
    if len(chosen) == 0:
        known = sorted({str(name) for name in tracks["split"].dropna()}) if "split" in tracks else []
        listing = f"Splits here: {', '.join(known)}" if known else "The table has no splits: make them first"
        raise DatasetError(f"no track in split {split!r}", f"{len(tracks)} tracks", listing)
    return chosen


def class_names(labels: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All labels that occur, sorted.

    Examples
    --------
    >>> class_names([["rock"], ["jazz", "rock"], []])
    ('jazz', 'rock')
    """
    return tuple(sorted(set(_flat(labels))))


def _flat(labels: Iterable[Sequence[str]]) -> Iterator[str]:
    """All labels one behind the other; tracks with None have none.

    Lists of a parquet file are arrays, whose elements are slow to go through one by one.
    """
    lists = (one.tolist() if isinstance(one, np.ndarray) else one for one in labels if one is not None)
    return map(str, chain.from_iterable(lists))


def _positions(classes: Sequence[str]) -> dict[str, int]:
    positions = {name: i for i, name in enumerate(classes)}
    if len(positions) != len(classes) or not classes:
        raise ConfigError(
            f"{len(classes)} classes, {len(positions)} of them different", "class list", "Name each class once"
        )
    return positions


def multi_hot(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> NDArray[np.float32]:
    """Indicator matrix of a multi-label task; labels outside ``classes`` are left out, as a top-50 list does.

    Returns
    -------
    numpy.ndarray
        float32 ``(n, len(classes))`` of 0 and 1.

    Raises
    ------
    DatasetError
        When no track carries any of the classes.

    Examples
    --------
    >>> multi_hot([["rock"], ["jazz", "rock"]], ["jazz", "rock"]).tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """
    positions = _positions(classes)
    hot = np.zeros((len(labels), len(classes)), dtype=np.float32)
    rows = np.repeat(np.arange(len(labels)), [0 if some is None else len(some) for some in labels])
    places = np.fromiter(map(positions.get, _flat(labels), repeat(-1)), np.int64, len(rows))
    hot[rows[places >= 0], places[places >= 0]] = 1.0
    if len(labels) and not hot.any():
        raise _no_label(labels, classes)
    return hot


def class_index(
    labels: Sequence[Sequence[str]], classes: Sequence[str], track_ids: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Class number of each track of a single-label task.

    Returns
    -------
    numpy.ndarray
        int64 ``(n,)`` in ``[0, len(classes))``.

    Raises
    ------
    DatasetError
        When no track has a label, or a track has none, several, or one outside ``classes``; it names the track.

    Examples
    --------
    >>> class_index([["rock"], ["jazz"]], ["jazz", "rock"]).tolist()
    [1, 0]
    """
    positions = _positions(classes)
    if len(labels) and next(_flat(labels), None) is None:
        raise _no_label(labels, classes)
    index = np.empty(len(labels), dtype=np.int64)
    for row, some in enumerate(labels):
        where = f"track {track_ids[row]}" if track_ids is not None else f"row {row}"
        given = list(_flat([some]))
        if len(given) != 1:
            raise DatasetError(
                f"{len(given)} labels where a single-label task needs one: {given}",
                where,
                "Mend the track table, or train multi-label",
            )
        if given[0] not in positions:
            raise DatasetError(
                f"label {given[0]!r} is not one of the classes", where, did_you_mean(given[0], positions)
            )
        index[row] = positions[given[0]]
    return index


def split_targets(tracks: pd.DataFrame, classes: Sequence[str], task: str) -> NDArray[Any]:
    """Targets of the rows of a track table: multi-hot for ``multi_label``, class numbers for ``single_label``."""
    labels = label_column(tracks)
    if task == "multi_label":
        return multi_hot(labels, classes)
    if task == "single_label":
        return class_index(labels, classes, track_id_column(tracks))
    raise ConfigError(f"task={task!r} has no targets", "loader", "Use multi_label or single_label")


def _no_label(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> DatasetError:
    seen = class_names(labels)
    found = f"they carry {', '.join(seen[:5])}{' …' if len(seen) > 5 else ''}" if seen else "they carry no label at all"
    shown = ", ".join(list(classes)[:5]) + (" …" if len(classes) > 5 else "")
    return DatasetError(
        f"none of {len(labels)} tracks has a label of the class list ({shown}); {found}",
        "targets",
        "Check the label column and the class list",
    )
