"""The ledger: what became of every track, joined from the commit records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from featstore.arrays import AnyArray
from featstore.store.records import CommitRecord

if TYPE_CHECKING:
    import pandas as pd

    from featstore.store.layout import StoredArray
    from featstore.store.stored_tracks import StoredTracks

__all__ = ["read_ledger", "read_status", "with_ledger"]

_COLUMNS = ["track_id", "row", "feature", "status", "stage", "error", "path", "stored"]


class _Store(Protocol):
    """What the ledger reads of a store."""

    @property
    def table(self) -> StoredTracks: ...

    @property
    def arrays(self) -> Mapping[str, StoredArray]: ...

    def records(self, key: str) -> Mapping[int, CommitRecord]: ...


def _states(store: _Store, rows: Any, keys: Collection[str]) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Status, stage and error of each row: the worst over the arrays (pending, then failed, then flagged)."""
    size = int(rows.max()) + 1 if len(rows) else 0
    rank = np.zeros(size, dtype=np.int8)  # 0 ok, 1 flagged but stored, 2 without data, 3 pending
    status = np.full(size, "ok", dtype=object)
    stage, error = np.full(size, "", dtype=object), np.full(size, "", dtype=object)
    for key in keys:
        committed = np.zeros(size, dtype=bool)
        for record in store.records(key).values():
            committed[record.first_row : record.first_row + len(record.n_frames)] = True
            for outcome in record.outcomes:
                worse = 3 if outcome.status == "pending" else 1 if record.holds(outcome.row) else 2
                if outcome.status == "ok":  # a note on a track that is fine
                    if rank[outcome.row] == 0:
                        stage[outcome.row], error[outcome.row] = outcome.stage, outcome.error
                    continue
                if worse > rank[outcome.row]:
                    rank[outcome.row] = worse
                    status[outcome.row], stage[outcome.row] = outcome.status, outcome.stage
                    error[outcome.row] = outcome.error
        open_rows = ~committed & (rank < 3)
        rank[open_rows] = 3
        status[open_rows], stage[open_rows], error[open_rows] = "pending", "", ""
    if not keys:
        status[:] = "pending"
    return status[rows], stage[rows], error[rows]


def with_ledger(store: _Store) -> pd.DataFrame:
    """Return the track table with ``status``, ``stage`` and ``error`` columns, in the store's order."""
    tracks = store.table.frame
    status, stage, error = _states(store, tracks["row"].to_numpy(), store.arrays)
    found = tracks.assign(status=status, stage=stage, error=error)
    return found if found["row"].is_monotonic_increasing else found.sort_values("row")


def read_ledger(store: _Store) -> pd.DataFrame:
    """Every (track, feature) that is not plainly ok, in store order: ``status``, ``stage``, ``error``, ``path``."""
    import pandas as pd

    names = {row: track for track, row in store.table.frame["row"].items()}
    found = []
    for key, array in store.arrays.items():
        for record in store.records(key).values():
            for o in record.outcomes:
                what = (o.status, o.stage, o.error, o.path, record.holds(o.row))
                found.append((names.get(o.row, ""), o.row, array.header.name, *what))
    return pd.DataFrame(found, columns=_COLUMNS).sort_values(["row", "feature"], ignore_index=True)


def read_status(store: _Store, keys: Collection[str] | None = None) -> dict[str, Any]:
    """Counts over tracks: ``tracks, ok, failed, pending, by_reason``, where ``ok + failed + pending == tracks``.

    ``by_reason`` has every status but ok and pending. With ``keys`` only these arrays count, else all: a track is ok
    when it is so in each of them.
    """
    rows = store.table.rows
    keys = store.arrays if keys is None else keys
    states = _states(store, rows, keys)[0]
    counts = Counter(states.tolist())
    lost = {
        o.row
        for key in keys
        for record in store.records(key).values()
        for o in record.outcomes
        if o.status != "pending" and not record.holds(o.row)
    }
    pending = counts.get("pending", 0)
    failed = len(lost.difference(rows[states == "pending"].tolist()))
    return {
        "tracks": len(rows),
        "ok": len(rows) - failed - pending,
        "failed": failed,
        "pending": pending,
        "by_reason": {reason: count for reason, count in sorted(counts.items()) if reason not in ("ok", "pending")},
    }
