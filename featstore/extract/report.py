"""What an extraction did, counted shard by shard."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from featstore.extract.worker import ShardReport

__all__ = ["ExtractReport"]


@dataclass(slots=True)
class ExtractReport:
    """What an extraction did in this run, and where the store stands.

    Attributes
    ----------
    part_shards : int or None
        Shards of the part that ``shard_range`` chose; None for the whole store.
    left_shards : int
        Shards with work for the other parts.

    See Also
    --------
    extract : Returns one.
    featstore.store.ledger.read_ledger : Every track that is not plainly ok.
    """

    store: str
    keys: list[str] = field(default_factory=list)
    shards: int = 0
    tracks: int = 0
    audio_s: float = 0.0
    written_bytes: int = 0
    seconds: float = 0.0
    worker_s: float = 0.0
    lost_workers: int = 0
    given_up: list[int] = field(default_factory=list)
    part_shards: int | None = None
    left_shards: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    status: dict[str, Any] = field(default_factory=dict)  # of the whole store, as ``featstore status`` counts
    asked: dict[str, Any] = field(default_factory=dict)  # of the arrays that this run was asked for

    def add(self, part: ShardReport) -> None:
        """Count a finished shard."""
        self.shards += 1
        self.tracks += part.tracks
        self.audio_s += part.audio_s
        self.written_bytes += part.written_bytes
        self.worker_s += part.seconds
        self.statuses.update(part.statuses)

    @property
    def seconds_per_minute(self) -> float | None:
        """Seconds of one worker for a minute of music; None where nothing was computed."""
        return 60 * self.worker_s / self.audio_s if self.audio_s else None

    def as_json(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        spent = self.seconds_per_minute
        return {
            "store": self.store,
            "shards_done": self.shards,
            "tracks_done": self.tracks,
            "audio_s": round(self.audio_s, 3),
            "written_bytes": self.written_bytes,
            "seconds": round(self.seconds, 3),
            "worker_seconds": round(self.worker_s, 3),
            "seconds_per_minute": None if spent is None else round(spent, 3),
            "lost_workers": self.lost_workers,
            "shards_given_up": sorted(self.given_up),
            "shards_of_part": self.part_shards,
            "shards_left_to_other_parts": self.left_shards,
            **self.status,
            "asked": self.asked,
        }
