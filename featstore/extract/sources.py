"""Are the audio files still those that the stored numbers were made from? Fingerprints in the records tell."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.extract.worker import fingerprint
from featstore.log import progress_bar
from featstore.store.store import Store

__all__ = ["SourceAudit", "audit_sources"]


@dataclass(slots=True)
class SourceAudit:
    """What became of the audio files behind a store.

    Attributes
    ----------
    checked : int
        Tracks with stored values whose files were looked for.
    changed : dict
        Track id to (file, array keys made from other bytes than the file has now).
    gone : dict
        Track id to the file that cannot be read any more.
    pairs : set of (str, int)
        (array key, shard) with a changed file: what has to be computed again.
    """

    checked: int = 0
    changed: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    pairs: set[tuple[str, int]] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "checked": self.checked,
            "changed": {track: {"path": path, "arrays": list(keys)} for track, (path, keys) in self.changed.items()},
            "gone": self.gone,
        }


def audit_sources(store: Store, tracks: TrackTable | None = None, keys: Iterable[str] | None = None) -> SourceAudit:
    """Compare every audio file with the fingerprint under which its values are stored.

    Parameters
    ----------
    store : Store
    tracks : TrackTable, optional
        Where the audio files are now; the store's own paths by default.
    keys : iterable of str, optional
        Arrays to look at; all by default.
    """
    known = _fingerprints(store, list(store.arrays) if keys is None else list(keys))
    paths = dict(zip(store.table.frame.index, store.table.frame["path"], strict=True))
    if tracks is not None:
        here = dict(zip(tracks.frame["track_id"], tracks.frame["path"], strict=True))
        paths |= {track: path for track, path in here.items() if track in paths}
    names = {int(row): str(track) for track, row in store.table.frame["row"].items()}
    audit = SourceAudit(checked=len(known))
    rows = sorted(known)
    with (
        ThreadPoolExecutor(cpu_count()) as pool,
        progress_bar(total=len(rows), desc="verify audio", unit="track") as bar,
    ):
        for row, now in zip(rows, pool.map(lambda row: _now(str(paths[names[row]])), rows), strict=True):
            bar.update(1)
            track, path = names[row], str(paths[names[row]])
            if now is None:
                audit.gone[track] = path
                continue
            other = tuple(sorted(key for key, then in known[row].items() if then != now))
            if other:
                audit.changed[track] = (path, other)
                audit.pairs |= {(key, row // store.shard_tracks) for key in other}
    return audit


def _fingerprints(store: Store, keys: Iterable[str]) -> dict[int, dict[str, str]]:
    """Row to the fingerprint that each array has of its file; tracks without values have none."""
    known: dict[int, dict[str, str]] = {}
    for key in keys:
        for record in store.records(key).values():
            for row, frames, source in zip(record.rows, record.n_frames, record.sources, strict=True):
                if frames >= 0 and source:
                    known.setdefault(row, {})[key] = source
    return known


def _now(path: str) -> str | None:
    try:
        return fingerprint(path)
    except OSError:
        return None
