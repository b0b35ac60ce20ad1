"""What can be wrong with a track table, found without decoding anything."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.datasets.card import Card
from featstore.datasets.spelling import near_equal
from featstore.datasets.table import SPLITS, label_list
from featstore.object_storage import is_object_url, object_size, read_object

if TYPE_CHECKING:
    import pandas as pd

    from featstore.datasets.table import TrackTable

__all__ = ["Finding", "check_table", "twice_there"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes
    ----------
    kind : str
        ``duplicate_id``, ``group_overlap``, ``missing_file``, ``unreadable``, ``duplicate_audio``,
        ``duplicate_audio_across_splits``, ``class_without_example``, ``similar_classes``, ``similar_groups``,
        ``short_clip``, ``unknown_split``, ``no_split`` or ``unexpected_count``.
    severity : "error" or "warning"
        An error makes scores wrong or tracks fail; a warning is for you to judge.
    message : str
    tracks : tuple of str
        Ids of the tracks concerned.
    """

    kind: str
    severity: str
    message: str
    tracks: tuple[str, ...] = ()


def check_table(
    table: TrackTable, *, compare_audio: bool = True, on_file: Callable[[], object] | None = None
) -> list[Finding]:
    """Find duplicate ids, groups on two sides, missing and broken files, equal files, classes without example.

    Parameters
    ----------
    table : TrackTable
        May be read with ``checked=False``.
    compare_audio : bool
        Look for equal files: those of one size are read and compared by SHA-256.
    on_file : callable, optional
        Called once per track when its file has been looked at.

    See Also
    --------
    featstore.workflows.repeats.repeat_findings : Recordings that are there twice, which need decoding.
    """
    frame = table.frame
    sizes = _sizes(frame["path"], on_file)
    findings = [*_duplicate_ids(frame), *_splits(frame), *_files(frame, sizes), *_classes(table), *_counts(table)]
    findings += _short_clips(table)
    if compare_audio:
        findings += _equal_files(frame, sizes)
    return sorted(findings, key=lambda each: (each.severity, each.kind, each.tracks))


def _sizes(paths: Iterable[str], on_file: Callable[[], object] | None) -> list[int | None]:
    """Bytes of each regular file, None where there is none."""
    sizes: list[int | None] = []
    for path in paths:
        if is_object_url(path):
            sizes.append(object_size(path))
        else:
            sizes.append(os.path.getsize(path) if os.path.isfile(path) else None)
        if on_file:
            on_file()
    return sizes


def _duplicate_ids(frame: pd.DataFrame) -> list[Finding]:
    rows = frame.groupby("track_id", sort=False).indices
    return [
        Finding(
            "duplicate_id", "error", f"{track_id!r} is the id of rows {', '.join(map(str, found))}", (str(track_id),)
        )
        for track_id, found in rows.items()
        if len(found) > 1
    ]


def _splits(frame: pd.DataFrame) -> Iterator[Finding]:
    unknown = frame[frame["split"].notna() & ~frame["split"].isin(SPLITS)]
    for name in sorted(set(unknown["split"])):
        ids = tuple(unknown["track_id"][unknown["split"] == name])
        yield Finding("unknown_split", "error", f"{name!r} is no split, but {len(ids)} tracks have it", ids)
    without = tuple(frame["track_id"][frame["split"].isna()])
    if without:
        yield Finding("no_split", "warning", f"{len(without)} of {len(frame)} tracks have no split", without)
    sides: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for track_id, group, split in zip(frame["track_id"], frame["group"], frame["split"], strict=True):
        if group is not None and split is not None:
            sides[group][split].append(track_id)
    for names in near_equal(sides, typos=False):
        if len({split for name in names for split in sides[name]}) < 2:
            continue
        ids = tuple(track_id for name in names for ids in sides[name].values() for track_id in ids)
        where = ", ".join(f"{name!r} in {'/'.join(sorted(sides[name]))}" for name in names)
        yield Finding("similar_groups", "warning", f"groups that may be one are on two sides: {where}", ids)
    for group, found in sides.items():
        if len(found) > 1:
            where = ", ".join(f"{split} ({len(found[split])})" for split in sorted(found))
            ids = tuple(track_id for split in sorted(found) for track_id in found[split])
            yield Finding("group_overlap", "error", f"group {group!r} is in {where}", ids)


def _files(frame: pd.DataFrame, sizes: list[int | None]) -> Iterator[Finding]:
    for track_id, path, size, error in zip(frame["track_id"], frame["path"], sizes, frame["probe_error"], strict=True):
        if error is not None:
            yield Finding("unreadable", "error", f"{track_id}: {error}", (track_id,))
        elif size is None:
            yield Finding("missing_file", "error", f"{track_id}: no file at {path}", (track_id,))


def _classes(table: TrackTable) -> Iterator[Finding]:
    """Classes that a split in use has no example of."""
    frame = table.frame
    if table.info.task == "none" or table.info.label_column not in frame.columns:
        return
    counts: Counter[tuple[Any, str]] = Counter()
    for split, labels in zip(frame["split"], frame[table.info.label_column], strict=True):
        counts.update((split, name) for name in label_list(labels))
    present = set(frame["split"])
    in_use = [split for split in (*SPLITS, None) if split in present]
    for names in near_equal(table.info.classes):
        shown = ", ".join(f"{name!r} ({sum(counts[split, name] for split in (*SPLITS, None))})" for name in names)
        yield Finding("similar_classes", "warning", f"classes that may be one: {shown}")
    for split in in_use:
        absent = [name for name in table.info.classes if not counts[split, name]]
        if absent and (split is not None or len(in_use) == 1):
            where = f"split {split}" if split else "the table"
            yield Finding("class_without_example", "warning", f"{where} has no example of {', '.join(absent)}")


def _card_of(table: TrackTable) -> Card:
    """What is published of a data set, by the name of its table: the kind, and maybe a variant after a dash."""
    from featstore.datasets import DATASETS, about

    kind = table.info.name.partition("-")[0]
    return about(kind) if kind in DATASETS else Card()


def _counts(table: TrackTable) -> list[Finding]:
    """Splits of a published data set that are not as big as others have them."""
    counts = Counter(table.frame["split"])
    what = "split {} has {:,} tracks; the published one has {:,}"
    return [
        Finding("unexpected_count", "warning", what.format(split, counts[split], published))
        for split, published in _card_of(table).counts.get(table.info.name, {}).items()
        if counts[split] != published
    ]


def _short_clips(table: TrackTable) -> list[Finding]:
    """Clips of a published data set that are shorter than it says, by their headers."""
    whole_s = _card_of(table).clip_s
    short = table.frame[table.frame["duration_s"] < whole_s]
    ids = tuple(short["track_id"])
    shown = ", ".join(f"{track} {length:.2f} s" for track, length in zip(ids[:5], short["duration_s"], strict=False))
    what = f"{len(ids)} clips are shorter than {whole_s:g} s: {shown}" + (" …" if len(ids) > 5 else "")
    return [Finding("short_clip", "warning", what, ids)] if ids else []


def _equal_files(frame: pd.DataFrame, sizes: list[int | None]) -> list[Finding]:
    n_of_size = Counter(sizes)
    by_content: dict[str | None, list[int]] = defaultdict(list)
    for row, (path, size) in enumerate(zip(frame["path"], sizes, strict=True)):
        if size and n_of_size[size] > 1:
            by_content[_sha256(path)].append(row)
    by_content.pop(None, None)  # files that cannot be read
    ids = list(frame["track_id"])
    return [
        twice_there(
            frame, rows, "duplicate_audio", f"{len(rows)} files are the same: {', '.join(ids[r] for r in rows)}"
        )
        for rows in by_content.values()
        if len(rows) > 1
    ]


def twice_there(frame: pd.DataFrame, rows: Sequence[int], kind: str, message: str) -> Finding:
    """Finding of rows of a table that hold one thing: an error where they are on two sides of a split."""
    part = frame.iloc[list(rows)]
    across = len(set(part["split"])) > 1
    severity = "error" if across else "warning"
    return Finding(f"{kind}_across_splits" if across else kind, severity, message, tuple(part["track_id"]))


def _sha256(path: str) -> str | None:
    try:
        if is_object_url(path):
            return hashlib.sha256(read_object(path)).hexdigest()
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
