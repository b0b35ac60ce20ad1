"""Commit records: what became of every track of one shard of one array. A pair without a record does not exist.

A record is a file of its own, or a line of the file into which a finished extraction packs the records of an array
(:mod:`featstore.store.record_pack`). Where both exist, the file of its own is newer, and counts. Readers look there
first: records are packed before their files are removed, so none is ever missed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from featstore.arrays import IntArray
from featstore.atomic import canonical_json, damage, digest_of_json
from featstore.errors import ObjectStorageError, StoreError
from featstore.store.layout import Layout
from featstore.store.location import FileBytes, Location
from featstore.store.record_pack import (
    PACK,
    PACK_FORMAT,
    Index,
    checked_json,
    pack_name,
    read_index,
    read_line,
    whole_lines,
)

__all__ = [
    "STATUSES",
    "CommitRecord",
    "Found",
    "Outcome",
    "committed_shards",
    "hide_record",
    "intact_records",
    "last_generation",
    "read_record",
    "read_records",
    "record_name",
    "scan_records",
]

FORMAT = 1
_TRIES = 5  # at a file of packed records that is replaced in a bucket while it is read

_T = TypeVar("_T")

# what can become of a track; silent, clipped and (where asked) short ones have data, the others behind ok do not
STATUSES = (
    "ok",
    "silent",
    "clipped",
    "short",
    "non_finite",
    "failed",
    "timeout",
    "quarantined",
    "pending",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one track in one shard, beyond plain success.

    Attributes
    ----------
    row : int
        Row of the track in the store.
    status : str
        One of :data:`STATUSES`.
    stage, error, path : str
        Where it happened, the sentence to show, and the file concerned.
    """

    row: int
    status: str
    stage: str = ""
    error: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """Everything about one committed (array, shard) pair that is not in the data itself.

    Attributes
    ----------
    key, name : str
        Array key, and canonical feature name with encoding.
    shard, generation : int
        A replaced shard has the next generation.
    first_row : int
        Row of the shard's first track.
    n_frames : list of int
        Frames of each track in order, -1 where nothing is stored.
    sources : list of str
        Fingerprint of each source file: bytes and start of its sha256, empty where it could not be read.
    outcomes : list of Outcome
        Tracks that are not plainly ``ok``.
    files : dict
        Relative name of every file of the pair: ``[bytes, digest]``.
    layout : dict
        How the array is cut into files and chunks.
    quality : dict
        ``saturated`` values, ``max_error`` and ``sum_error`` of the encoding over ``values`` values.
    versions : dict
        Libraries that made the numbers, and featstore itself.
    """

    key: str
    name: str
    shard: int
    generation: int
    first_row: int
    n_frames: list[int]
    sources: list[str]
    outcomes: list[Outcome] = field(default_factory=list)
    files: dict[str, list[Any]] = field(default_factory=dict)
    layout: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> range:
        """Rows that the shard covers."""
        return range(self.first_row, self.first_row + len(self.n_frames))

    @property
    def lengths(self) -> IntArray:
        """Frames of each track as an array."""
        return np.asarray(self.n_frames, dtype=np.int64)

    def holds(self, row: int) -> bool:
        """Whether something is stored of a track of the shard."""
        return self.n_frames[row - self.first_row] >= 0

    @property
    def longest(self) -> int:
        """Frames of the longest track."""
        return max([0, *self.n_frames])

    def chunks(self, layout: Layout, slab: int) -> Iterator[tuple[int, int]]:
        """(slot, chunk) of every chunk that a shard file holds, in the order in which an extraction writes them."""
        for slot, n_frames in enumerate(self.n_frames):
            here = min(max(0, n_frames - slab * layout.slab_frames), layout.slab_frames)
            for chunk in range(-(-here // layout.chunk_frames)):
                yield slot, chunk

    def to_bytes(self) -> bytes:
        """Canonical JSON with its own digest, so that a changed record is noticed without a manifest."""
        content = asdict(self) | {"format": FORMAT}
        return canonical_json(content | {"digest": digest_of_json(content)})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> CommitRecord | None:
        """Read and check a record; None where the file says that the packed one does not count any more.

        Raises
        ------
        CorruptFeature
            When the text is cut short or changed, or holds anything else than a record.
        StoreError
            When a newer version wrote it.
        """
        content = checked_json(data, where, "a commit record", PACK_FORMAT if b'"void"' in data else FORMAT)
        if content.get("void"):
            return None
        with damage("a commit record cannot be read", where):
            del content["format"]
            content["outcomes"] = [Outcome(**outcome) for outcome in content["outcomes"]]
            record = cls(**content)
            record._check()
        return record

    def _check(self) -> None:
        """Raise ``ValueError`` or ``TypeError`` where a part is of another type than a record's."""
        numbers = [self.shard, self.generation, self.first_row, *self.n_frames]
        numbers += [size for size, _ in self.files.values()]
        texts = [self.key, self.name, *self.sources, *(digest for _, digest in self.files.values())]
        texts += [text for o in self.outcomes for text in (o.status, o.stage, o.error, o.path)]
        if not all(isinstance(part, dict) for part in (self.layout, self.quality, self.versions)):
            raise ValueError("parts of another type")
        texts += self.versions.values()
        measures = {"values", "saturated", "max_error", "sum_error"} if self.quality else set()
        if not (measures <= set(self.quality) and all(type(v) in (int, float) for v in self.quality.values())):
            raise ValueError("measures of another type")
        if set(map(type, numbers)) != {int} or max(numbers) >= 1 << 53 or min(numbers) <= -(1 << 53):
            raise ValueError("numbers of another type")
        if set(map(type, texts)) != {str} or len(self.sources) != len(self.n_frames):
            raise ValueError("texts of another type")
        if self.first_row < 0 or any(outcome.row not in self.rows for outcome in self.outcomes):
            raise ValueError("rows outside the shard")

    def wants_retry(self, reasons: Sequence[str]) -> bool:
        """Whether a track of this shard has one of the statuses (``all``: any without data)."""
        missing = {outcome.status for outcome in self.outcomes if not self.holds(outcome.row)}
        return bool(missing) if "all" in reasons else bool(missing & set(reasons))

    def has_pending(self, n_rows: int) -> bool:
        """Whether some track in the first ``n_rows`` rows was left for a later run."""
        return any(outcome.status == "pending" and outcome.row < n_rows for outcome in self.outcomes)


def record_name(key: str, shard: int) -> str:
    """File name of a pair's record."""
    return f"commits/{key}/{shard}.json"


# -- files of their own -------------------------------------------------------------------------------------------


def _loose_shards(names: Sequence[str]) -> list[int]:
    bases = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return sorted(int(base) for base in bases if base.isdecimal())


# -- packed ones --------------------------------------------------------------------------------------------------


def _in_pack(location: Location, key: str, look: Callable[[FileBytes, str], _T]) -> _T | None:
    """Look into the file of an array's packed records; None where there is none."""
    name = pack_name(key)
    try:
        for _ in range(_TRIES - 1):
            with suppress(ObjectStorageError):  # replaced between two reads of it: the new one is whole
                return look(location.open(name), f"{location}/{name}")
        return look(location.open(name), f"{location}/{name}")
    except FileNotFoundError:
        return None


def _packed_index(location: Location, key: str) -> Index:
    return _in_pack(location, key, read_index) or {}


def _packed_generation(location: Location, key: str, shard: int) -> int | None:
    """Generation of a packed record; 0 where the pack is damaged, None where there is none."""
    try:
        entry = _packed_index(location, key).get(shard)
    except StoreError:
        return 0
    return None if entry is None else entry.generation


# -- both ---------------------------------------------------------------------------------------------------------


def read_record(location: Location, key: str, shard: int) -> CommitRecord | None:
    """Return the record of a pair, or None when it is not committed."""
    name = record_name(key, shard)
    try:
        return CommitRecord.from_bytes(location.read(name), f"{location}/{name}")
    except FileNotFoundError:
        line = _in_pack(location, key, lambda view, where: read_line(view, where, shard))
    return None if line is None else CommitRecord.from_bytes(line, f"{location}/{pack_name(key)}")


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of one pair.

    Attributes
    ----------
    shard : int
        -1 for the index of packed records.
    name : str
        File that holds it.
    data : bytes
        The record as it is stored.
    record : CommitRecord or None
        None where it is damaged, or hidden.
    error : StoreError or None
        What is wrong with it.
    packed_generation : int
        Generation of the packed record behind one in a file of its own, 0 for none.
    """

    shard: int
    name: str
    data: bytes = b""
    record: CommitRecord | None = None
    error: StoreError | None = None
    packed_generation: int = 0

    @property
    def text(self) -> bytes:
        """The record as a file of its own holds it."""
        return self.data if not self.name.endswith(PACK) else canonical_json(json.loads(self.data))


def scan_records(location: Location, key: str) -> list[Found]:
    """Everything that is known of an array's pairs in order of shard, damaged and hidden records included."""
    names = location.list(f"commits/{key}")
    shards = _loose_shards(names)
    location.prefetch(record_name(key, shard) for shard in shards)
    found: dict[int, Found] = {}
    for shard in shards:
        name = record_name(key, shard)
        try:
            data = location.read(name)
        except FileNotFoundError:  # packed since it was listed, or about to be replaced
            continue
        found[shard] = _judge(shard, name, data, location)
    if PACK in names or len(found) < len(shards):  # read last: it holds what vanished meanwhile
        for packed in _in_pack(location, key, lambda view, where: _scan_pack(view, key, location)) or ():
            loose = found.get(packed.shard)
            if loose is None:
                found[packed.shard] = packed
            elif packed.record is not None:
                found[packed.shard] = replace(loose, packed_generation=packed.record.generation)
    return [found[shard] for shard in sorted(found)]


def _judge(shard: int, name: str, data: bytes, location: Location) -> Found:
    try:
        return Found(shard, name, data, CommitRecord.from_bytes(data, f"{location}/{name}"))
    except StoreError as error:
        return Found(shard, name, data, None, error)


def _scan_pack(view: FileBytes, key: str, location: Location) -> list[Found]:
    name = pack_name(key)
    try:
        index = read_index(view, f"{location}/{name}")
    except StoreError as error:
        lines = {shard: canonical_json(content) for shard, content in whole_lines(view, key).items()}
        return [Found(-1, name, error=error), *(_judge(shard, name, line, location) for shard, line in lines.items())]
    data = view[0 : len(view)]
    return [_judge(shard, name, entry.line(data), location) for shard, entry in index.items()]


def intact_records(location: Location, key: str) -> Iterator[Found]:
    """What :func:`scan_records` finds, up to the first damaged record, whose error is raised."""
    for found in scan_records(location, key):
        if found.error is not None:
            raise found.error
        yield found


def read_records(location: Location, key: str) -> dict[int, CommitRecord]:
    """Commit records of an array by shard.

    Raises
    ------
    CorruptFeature
        When one of them is damaged.
    """
    return {found.shard: found.record for found in intact_records(location, key) if found.record is not None}


def committed_shards(location: Location, key: str) -> Iterator[int]:
    """Shards of an array that have a record, in order; names and the index are read, and no record."""
    names = location.list(f"commits/{key}")
    loose = set(_loose_shards(names))
    packed = set(_packed_index(location, key)) if PACK in names else set()
    for shard in sorted(loose | packed):
        # of a pair that is being replaced one file says that the other does not count
        if not (shard in loose and shard in packed) or read_record(location, key, shard) is not None:
            yield shard


def last_generation(location: Location, key: str, shard: int) -> int | None:
    """Generation of what is there of a pair, hidden or not; 0 when it is damaged, None when there is nothing."""
    name, own = record_name(key, shard), None
    with suppress(FileNotFoundError):
        try:
            content = checked_json(location.read(name), f"{location}/{name}", "a commit record", PACK_FORMAT)
            own = int(content["generation"])
        except StoreError:
            own = 0
    packed = _packed_generation(location, key, shard)
    return max((known for known in (own, packed) if known is not None), default=None)


def hide_record(location: Location, key: str, shard: int) -> None:
    """Take a pair's record away before its files are replaced: from here on the pair does not exist.

    A packed record stays where it is, and a file in the place of the pair's own says that it does not count.
    """
    packed = _packed_generation(location, key, shard)
    if packed is None:
        location.remove(record_name(key, shard))
    else:
        content = {"format": PACK_FORMAT, "generation": packed, "key": key, "shard": shard, "void": True}
        location.write(record_name(key, shard), canonical_json(content | {"digest": digest_of_json(content)}))
