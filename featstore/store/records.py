"""Commit records: what became of every track of one shard of one array. A pair without a record does not exist."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from featstore.arrays import IntArray
from featstore.atomic import canonical_json
from featstore.errors import CorruptFeature, NewerFormat
from featstore.store.layout import Layout
from featstore.store.location import Location

__all__ = ["STATUSES", "CommitRecord", "Outcome", "read_record", "record_name"]

FORMAT = 1

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

    def chunks(self, layout: Layout, slab: int) -> Iterator[tuple[int, int]]:
        """(slot, chunk) of every chunk that a shard file holds, in the order in which an extraction writes them."""
        for slot, n_frames in enumerate(self.n_frames):
            here = min(max(0, n_frames - slab * layout.slab_frames), layout.slab_frames)
            for chunk in range(-(-here // layout.chunk_frames)):
                yield slot, chunk

    def to_bytes(self) -> bytes:
        """Canonical JSON with its own digest, so that a changed record is noticed without a manifest."""
        content = asdict(self) | {"format": FORMAT}
        content["digest"] = hashlib.sha256(canonical_json(content)).hexdigest()
        return canonical_json(content)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> CommitRecord:
        """Read and check a record.

        Raises
        ------
        CorruptFeature
            When the text is cut short or changed.
        StoreError
            When a newer version wrote it.
        """
        try:
            content = json.loads(data)
            digest = content.pop("digest")
            newer = content["format"] > FORMAT
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFeature(
                "a commit record cannot be read", where, "Run featstore store verify, then repair"
            ) from error
        if newer:
            raise NewerFormat(f"commit record of format {content['format']}", where, "Upgrade featstore to read it")
        if hashlib.sha256(canonical_json(content)).hexdigest() != digest:
            raise CorruptFeature("a commit record was changed", where, "Run featstore store verify, then repair")
        del content["format"]
        content["outcomes"] = [Outcome(**outcome) for outcome in content["outcomes"]]
        return cls(**content)

    def wants_retry(self, reasons: Sequence[str]) -> bool:
        """Whether a track of this shard has one of the statuses (``all``: any without data)."""
        missing = {outcome.status for outcome in self.outcomes if self.n_frames[outcome.row - self.first_row] < 0}
        return bool(missing) if "all" in reasons else bool(missing & set(reasons))

    def has_pending(self, n_rows: int) -> bool:
        """Whether some track in the first ``n_rows`` rows was left for a later run."""
        return any(outcome.status == "pending" and outcome.row < n_rows for outcome in self.outcomes)


def record_name(key: str, shard: int) -> str:
    """File name of a pair's record."""
    return f"commits/{key}/{shard}.json"


def read_record(location: Location, key: str, shard: int) -> CommitRecord | None:
    """Return the record of a pair, or None when it is not committed."""
    name = record_name(key, shard)
    try:
        data = location.read(name)
    except FileNotFoundError:
        return None
    return CommitRecord.from_bytes(data, f"{location}/{name}")


def committed_shards(location: Location, key: str) -> Iterator[int]:
    """Shards of an array that have a record, in order."""
    names = location.list(f"commits/{key}")
    yield from sorted(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdecimal())
