"""What a saved place in an epoch holds, and whether it belongs to this loader."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featstore.errors import CheckpointError
from featstore.loaders.crops import CropPlan
from featstore.loaders.inputs import Input

__all__ = ["STATE_VERSION", "check_state", "digest_of", "digest_of_storage", "state_of"]

STATE_VERSION = 1


def digest_of(track_ids: Sequence[str], plan: CropPlan, *, batch_size: int, drop_last: bool) -> str:
    """Digest of what decides an epoch's batches, apart from seed, epoch and kind of order."""
    digest = hashlib.sha256()
    for part in (list(track_ids), plan.mode, plan.frames, plan.grid, batch_size, drop_last):
        digest.update(repr(part).encode())
    if plan.per_track > 1:
        digest.update(f"{plan.per_track} distinct".encode())
    for array in (plan.track, plan.first):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()[:16]


def digest_of_storage(source: Input) -> str:
    """Digest of where the tracks of an input lie: an order by shards depends on it."""
    digest = hashlib.sha256(repr([(rows.start, rows.stop) for rows in source.reader.shard_rows]).encode())
    digest.update(np.ascontiguousarray(source.rows, dtype="<i8").tobytes())
    return digest.hexdigest()[:16]


def state_of(
    *, seed: int, epoch: int, next_batch: int, order: str, shuffle_buffer: int, items: str, storage: str
) -> dict[str, Any]:
    """Return a place in an epoch as plain values that JSON can hold."""
    return {
        "version": STATE_VERSION,
        "seed": seed,
        "epoch": epoch,
        "next_batch": next_batch,
        "order": order,
        "shuffle_buffer": shuffle_buffer,
        "items": items,
        "storage": storage,
    }


def check_state(state: Mapping[str, Any], *, items: str, storage: str, seed: int, n_batches: int) -> None:
    """Refuse a state that is of another version, or belongs to other tracks, crops, batches or another seed.

    Raises
    ------
    CheckpointError
    """
    fix = "Resume with the settings of the run that was stopped"
    if state.get("version") != STATE_VERSION:
        found = f"the loader state has version {state.get('version')}"
        raise CheckpointError(found, "loader", f"This featstore reads version {STATE_VERSION}")
    if state["items"] != items:
        raise CheckpointError("the loader state belongs to other tracks, crops or batches", "loader", fix)
    if state["order"] == "shards" and state["storage"] != storage:
        found = "the loader state goes by shards of a store that is laid out otherwise"
        raise CheckpointError(found, "loader", "Resume with the store of the run that was stopped")
    if state["seed"] != seed:
        raise CheckpointError(f"the loader state has seed {state['seed']}, this loader {seed}", "loader", fix)
    if not 0 <= int(state["next_batch"]) <= n_batches:
        raise CheckpointError(f"next_batch={state['next_batch']} of {n_batches} batches", "loader", fix)
