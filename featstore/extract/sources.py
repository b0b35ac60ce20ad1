"""Whether the audio files are still those that the stored values were made from, by the fingerprints in the records.

The rule: all values of a track come from one version of its file. An extraction therefore looks at the files of all
tracks that have values already, before it adds any. A file of the same size that has not changed since its values were
committed is the same; of any other the digest decides.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from featstore.audio import fingerprint
from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.errors import DecodeError, PlanError, StoreError
from featstore.log import progress
from featstore.object_storage import is_object_url
from featstore.store.mixed_versions import stored_sources
from featstore.store.record_pack import pack_name
from featstore.store.records import record_name
from featstore.store.store import Store

__all__ = ["SourceAudit", "audit_sources", "changed_pairs", "moved_files"]

logger = logging.getLogger(__name__)

_CHECKED = "log/sources_checked.json"  # when all files were last found to be the same, and where they were
_NAMED = 5  # changed files in a message


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


def audit_sources(
    store: Store, tracks: TrackTable | None = None, keys: Iterable[str] | None = None, *, quickly: bool = False
) -> SourceAudit:
    """Compare every audio file with the fingerprint under which its values are stored.

    Parameters
    ----------
    store : Store
    tracks : TrackTable, optional
        Where the audio files are now; the store's own paths by default.
    keys : iterable of str, optional
        Arrays to look at; all by default.
    quickly : bool
        Read only files whose size is the stored one and whose times are later than their values.
    """
    known = stored_sources(store, list(store.arrays) if keys is None else list(keys))
    paths = dict(store.table.pairs(range(store.n_rows))) | moved_files(store, tracks)
    names = {int(row): str(track) for track, row in store.table.frame["row"].items()}
    audit = SourceAudit(checked=len(known))
    rows = sorted(known)
    quick = _Quick(store, known, paths)

    def now(row: int) -> str | None:
        path = paths[names[row]]
        return quick.now(row, path) if quickly else _now(path)

    with ThreadPoolExecutor(cpu_count()) as pool:
        pairs = zip(rows, pool.map(now, rows), strict=True)
        what = "check audio" if quickly else "verify audio"
        for row, found in progress(pairs, total=len(rows), desc=what, unit="track"):
            track, path = names[row], paths[names[row]]
            if found is None:
                audit.gone[track] = path
                continue
            other = tuple(sorted(key for key, then in known[row].items() if then != found))
            if other:
                audit.changed[track] = (path, other)
                audit.pairs |= {(key, row // store.shard_tracks) for key in other}
    if quickly and not audit.changed:
        quick.remember()
    return audit


def changed_pairs(store: Store, tracks: TrackTable, changed: str) -> set[tuple[str, int]]:
    """Pairs of array key and shard to compute again because an audio file is not the one they were made from.

    Parameters
    ----------
    store : Store
    tracks : TrackTable
        Where the audio files are now.
    changed : str
        ``refuse``, ``recompute`` or ``keep``, as in :class:`featstore.extract.ExtractOptions`.

    Raises
    ------
    PlanError
        When files have changed and ``changed`` is ``refuse``.
    """
    if changed == "keep":
        return set()
    audit = audit_sources(store, tracks, quickly=True)
    if not audit.changed:
        return set()
    files = [path for path, _ in audit.changed.values()]
    named = ", ".join(files[:_NAMED]) + (f" and {len(files) - _NAMED} more" if len(files) > _NAMED else "")
    if changed == "refuse":
        raise PlanError(
            f"{len(files)} audio file{'s' * (len(files) > 1)} changed since values were stored: {named}",
            str(store.location),
            "Compute all features of such tracks again with --changed recompute, leave what is stored as it is with "
            "--changed keep, or restore the files",
        )
    logger.warning("%d audio files changed, their shards are computed again: %s", len(files), named)
    return audit.pairs


def moved_files(store: Store, tracks: TrackTable | None) -> dict[str, str]:
    """Track id to the file that it has now, for tracks of the store whose file is not where it was."""
    if tracks is None:
        return {}
    files = store.table.files.merge(tracks.frame[["track_id", "path"]], on="track_id", suffixes=("", "_now"))
    now = files["path_now"].astype(str)
    moved = (now != files["path"]).to_numpy(dtype=bool)
    return dict(zip(files["track_id"][moved], now[moved], strict=True))


class _Quick:
    """Fingerprints of files, read only where size and times leave a doubt.

    Parameters
    ----------
    store : Store
    known : dict
        Row to the fingerprint that each array has.
    paths : dict
        Track id to file.
    """

    def __init__(self, store: Store, known: dict[int, dict[str, str]], paths: dict[str, str]) -> None:
        self._store, self._known = store, known
        self._started, self._was_read = time.time(), False
        self._paths = hashlib.sha256("\n".join(f"{t}\t{paths[t]}" for t in sorted(paths)).encode()).hexdigest()
        self._committed: dict[tuple[str, int], float] = {}
        self._checked = 0.0
        with suppress(StoreError, OSError, ValueError, KeyError, TypeError):
            memory = json.loads(store.location.read(_CHECKED))
            self._checked = float(memory["time"]) if memory["paths"] == self._paths else 0.0

    def now(self, row: int, path: str) -> str | None:
        """Fingerprint of a file as it is now; None where it cannot be read."""
        known = self._known[row]
        if is_object_url(path):
            return next(iter(known.values()))  # asking for each object costs a request a track: verify --audio does
        try:
            state = os.stat(path)
        except OSError:
            return None
        if len(set(known.values())) == 1:
            (source,) = set(known.values())
            since = max(self._checked, min(self._time_of(key, row // self._store.shard_tracks) for key in known))
            if int(source.partition(":")[0]) != state.st_size:
                return f"{state.st_size}:"
            if max(state.st_mtime, state.st_ctime) < since:
                return source
        self._was_read = True
        return _now(path)

    def _time_of(self, key: str, shard: int) -> float:
        """When a pair was committed, in seconds of the epoch; 0 where the location does not say."""
        if (key, shard) not in self._committed:
            stamp = "0"
            for name in (record_name(key, shard), pack_name(key)):
                with suppress(StoreError, OSError):
                    stamp = self._store.location.stamp(name)
                    break
            self._committed[key, shard] = int(stamp) / 1e9 if stamp.isdecimal() else 0.0
        return self._committed[key, shard]

    def remember(self) -> None:
        """Note that all files are the same, where files had to be read to find out."""
        if self._was_read:
            memory = {"time": self._started, "paths": self._paths}
            self._store.location.write(_CHECKED, json.dumps(memory, sort_keys=True).encode())


def _now(path: str) -> str | None:
    try:
        return fingerprint(path)
    except (OSError, DecodeError):
        return None
