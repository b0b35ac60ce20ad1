"""What is still to be done: shards without a record, and tracks that a run left for later or that are to be retried."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from featstore.store.store import Store

__all__ = ["find_missing"]


def find_missing(
    store: Store,
    keys: Sequence[str] | None = None,
    *,
    retry: Sequence[str] = (),
    again: Collection[tuple[str, int]] = (),
    limit: int | None = None,
) -> list[tuple[int, list[str]]]:
    """(shard, array keys) that are not committed, or whose failures have one of the ``retry`` statuses.

    Parameters
    ----------
    store : Store
    keys : sequence of str, optional
        Arrays; all of them by default.
    retry : sequence of str
        Statuses, or ``all`` for any track without data.
    again : collection of (array key, shard)
        Pairs that count as missing.
    limit : int, optional
        Only rows below it count.
    """
    keys = list(store.arrays) if keys is None else keys
    n_rows = store.n_rows if limit is None else min(limit, store.n_rows)
    todo = []
    for shard in range(-(-n_rows // store.shard_tracks)):
        if not len(store.shard_rows(shard)):
            continue
        lacking = []
        for key in keys:
            record = store.records(key).get(shard)
            unfinished = record is None or record.has_pending(n_rows) or (key, shard) in again
            if unfinished or (record is not None and retry and record.wants_retry(retry)):
                lacking.append(key)
        if lacking:
            todo.append((shard, lacking))
    return todo
