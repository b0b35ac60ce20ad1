"""Two stores compared by content, track by track. Differences of provenance are reported separately."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featstore.arrays import AnyArray
from featstore.errors import StoreError
from featstore.log import progress_bar
from featstore.specs import parse_feature
from featstore.store.base_array import BaseArray
from featstore.store.codebooks import all_codebooks
from featstore.store.records import CommitRecord, Outcome
from featstore.store.store import Store

__all__ = ["Difference", "compare"]

BLOCK_FRAMES = 1 << 14  # compared at once: a long track never lies in memory whole
NAMED = 10  # tracks that a difference names
_PLACES = frozenset({"row", "path"})  # columns of the track table that say where, not what


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which two stores differ.

    Attributes
    ----------
    what : str
        A sentence.
    feature : str
        Array concerned (canonical name with encoding), empty for the track table and the store as a whole.
    tracks : tuple of str
        Tracks concerned, at most ten of them.
    count : int
        How many tracks it concerns; 0 where it is not about tracks.
    provenance : bool
        Whether what is read is the same, and only where it lies or how it came about differs.
    """

    what: str
    feature: str = ""
    tracks: tuple[str, ...] = ()
    count: int = 0
    provenance: bool = False

    def __str__(self) -> str:
        tracks = f": {', '.join(self.tracks)}" if self.tracks else ""
        more = f" and {self.count - len(self.tracks)} more" if self.count > len(self.tracks) else ""
        return f"{_short(self.feature) or 'store'}: {self.what}{tracks}{more}"


def _short(feature: str) -> str:
    """Name of an array for people."""
    if not feature:
        return ""
    request = parse_feature(feature)
    return f"{request.spec.short()}@{request.encoding.name}" if request.encoding else request.spec.short()


def compare(a: Store, b: Store, *, quick: bool = False) -> list[Difference]:
    """Everything in which two stores differ, content first; they may have different backends, orders and compressions.

    Parameters
    ----------
    a, b : Store
    quick : bool
        Take shards for equal whose records hold equal digests of equal files, without reading them.

    Raises
    ------
    CorruptFeature
        When stored bytes of either differ from what was committed.

    See Also
    --------
    featstore.store.verify.verify : Checks one store.
    """
    return sorted(_differences(a, b, quick), key=lambda difference: difference.provenance)


@contextmanager
def _data_of_either() -> Iterator[None]:
    """Give errors of damaged data the advice that helps here; other errors have advice of their own."""
    try:
        yield
    except StoreError as error:
        raise type(error)(error.what, error.where, "Mend it first: featstore store repair") from error


def _differences(a: Store, b: Store, quick: bool) -> Iterator[Difference]:
    yield from _compare_settings(a, b)
    yield from _compare_tracks(a, b)
    yield from _compare_codebooks(a, b)
    for key in sorted(a.arrays.keys() ^ b.arrays.keys()):
        there, side = (a, "first") if key in a.arrays else (b, "second")
        yield Difference(f"only the {side} store has it", there.arrays[key].header.name)
    both = sorted(a.arrays.keys() & b.arrays.keys())
    with progress_bar(total=len(both) * len(a.table), desc="diff", unit="track") as bar:
        for key in both:
            yield from _compare_array(a, b, key, quick, bar)


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Names under which two mappings differ."""
    return [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]


def _compare_settings(a: Store, b: Store) -> Iterator[Difference]:
    names = {"backend": a.backend.name, "shard_tracks": a.shard_tracks} | a.attributes
    others = {"backend": b.backend.name, "shard_tracks": b.shard_tracks} | b.attributes
    for name in _differing(names, others):
        yield Difference(f"{name} is {names.get(name)} and {others.get(name)}", provenance=True)
    asked, also = set(a.requests), set(b.requests)
    stored = {array.header.name for store in (a, b) for array in store.arrays.values()}
    for side, only in (("first", asked - also), ("second", also - asked)):
        for name in sorted(only - stored):
            yield Difference(f"the view was asked for in the {side} store only", name, provenance=True)


def _compare_codebooks(a: Store, b: Store) -> Iterator[Difference]:
    """Code vectors are content: tokens stand for them. Where the weights came from is provenance."""
    ours, theirs = (set(all_codebooks(store)) for store in (a, b))
    for name in sorted(ours ^ theirs):
        yield Difference(f"only the {'first' if name in ours else 'second'} store has the codebook {name}")
    for name in sorted(ours & theirs):
        with _data_of_either():
            (one, about), (two, also) = (store.backend.read_codebook(name) for store in (a, b))
        if one.shape != two.shape:
            yield Difference(f"the codebook {name} has the shape {one.shape} and {two.shape}")
        elif count := int((_bits(one) != _bits(two)).any(axis=-1).sum()):
            yield Difference(f"{count} code vectors of the codebook {name} differ")
        if about != also:
            other = ", ".join(_differing(about, also))
            yield Difference(f"the attribute {other} of the codebook {name} differs", provenance=True)


def _named(what: str, tracks: list[str], feature: str = "", *, provenance: bool = False) -> Difference:
    return Difference(what, feature, tuple(tracks[:NAMED]), len(tracks), provenance)


def _compare_tracks(a: Store, b: Store) -> Iterator[Difference]:
    ours, theirs = a.table.frame, b.table.frame
    for side, only in (("first", ours.index.difference(theirs.index)), ("second", theirs.index.difference(ours.index))):
        if len(only):
            yield _named(f"{len(only)} tracks are in the {side} store only", [str(track) for track in only])
    shared = ours.index.intersection(theirs.index)
    for column in sorted({*ours.columns, *theirs.columns}):
        if column not in ours.columns or column not in theirs.columns:
            side = "first" if column in ours.columns else "second"
            yield Difference(f"the column {column!r} is in the {side} store's track table only")
            continue
        pairs = zip(shared, ours.loc[shared, column], theirs.loc[shared, column], strict=True)
        other = [str(track) for track, x, y in pairs if _plain(x) != _plain(y)]
        if other:
            yield _named(f"the column {column!r} differs", other, provenance=column in _PLACES)


def _plain(value: Any) -> str:
    """Text of a cell by which cells are compared: lists as lists, missing values as one."""
    import pandas as pd

    if isinstance(value, (list, tuple, np.ndarray)):
        return str([str(item) for item in value])
    return "" if value is None or pd.isna(value) else str(value)


class _Side:
    """One array of one store, by row."""

    def __init__(self, store: Store, key: str) -> None:
        array, records = store.arrays[key], store.records(key)
        self.header, self.layout = array.header, array.layout
        self.base = BaseArray(store.backend, array, records, store.n_rows)
        self.outcomes: dict[int, Outcome] = {o.row: o for r in records.values() for o in r.outcomes}
        self.shard_of: dict[int, CommitRecord] = {row: r for r in records.values() for row in r.rows}

    def track(self, row: int) -> tuple[str, tuple[str, str], str]:
        """What became of a track: status; stage and error; the audio file it was made from."""
        record = self.shard_of.get(row)
        if record is None:
            return "pending", ("", ""), ""
        outcome = self.outcomes.get(row, Outcome(row, "ok"))
        return outcome.status, (outcome.stage, outcome.error), record.sources[row - record.first_row]


_SENTENCES = {  # of differences of a track in an array, and whether they are of provenance only
    "status": ("the ledger's status differs", False),
    "length": ("the number of frames differs", False),
    "values": ("stored values differ ({} in the first of them)", False),
    "error": ("a failure's stage or sentence differs", True),
    "source": ("made from other audio files", True),
}


def _compare_array(a: Store, b: Store, key: str, quick: bool, bar: Any) -> Iterator[Difference]:
    one, two = _Side(a, key), _Side(b, key)
    name = one.header.name
    if one.layout != two.layout:
        yield Difference(f"laid out as {asdict(one.layout)} and {asdict(two.layout)}", name, provenance=True)
    other: dict[str, list[str]] = {kind: [] for kind in _SENTENCES}
    details: list[str] = []
    versions: set[str] = set()
    for track, row in a.table.row_of.items():
        bar.update(1)
        there = b.table.row_of.get(track)
        if there is None:
            continue
        (status, error, source), (status_there, error_there, source_there) = one.track(row), two.track(there)
        if status != status_there:
            other["status"].append(str(track))
        elif error != error_there:
            other["error"].append(str(track))
        if source != source_there:
            other["source"].append(str(track))
        record, peer = one.shard_of.get(row), two.shard_of.get(there)
        if record is not None and peer is not None and record.versions != peer.versions:
            versions |= {
                f"made with {name} {record.versions.get(name)} and {peer.versions.get(name)}"
                for name in _differing(record.versions, peer.versions)
            }
        same_files = record is not None and peer is not None and row == there and record.files == peer.files
        if one.base.lengths[row] != two.base.lengths[there]:
            other["length"].append(str(track))
        elif one.base.lengths[row] > 0 and not (quick and same_files):
            difference = _compare_values(one, two, row, there)
            if difference:
                other["values"].append(str(track))
                details.append(difference)
    for kind, (what, provenance) in _SENTENCES.items():
        if other[kind]:
            yield _named(what.format(*details[:1]), other[kind], name, provenance=provenance)
    for difference in sorted(versions):
        yield Difference(difference, name, provenance=True)


def _compare_values(one: _Side, two: _Side, row: int, there: int) -> str:
    """Say how the encoded values of a track differ; empty where they are equal, bit for bit."""
    total = int(one.base.lengths[row])
    count, largest = 0, 0.0
    for start in range(0, total, BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, total)
        with _data_of_either():
            x, y = one.base.read(row, start, stop), two.base.read(there, start, stop)
        if not np.array_equal(_bits(x), _bits(y)):
            count += int((_bits(x) != _bits(y)).sum())
            gap = np.abs(one.header.encoding.decode(x) - two.header.encoding.decode(y))
            largest = max(largest, float(np.nanmax(gap, initial=0.0)))
    return f"{count} values, by at most {largest:.3g}" if count else ""


def _bits(values: AnyArray) -> AnyArray:
    """Values as whole numbers, so that NaN equal themselves and the two zeros differ."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
