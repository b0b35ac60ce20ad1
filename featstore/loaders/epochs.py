"""The place of a pass in its epoch: the order of the items, the next batch, and how both are saved and restored."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from featstore.errors import CheckpointError
from featstore.loaders.crops import CropPlan
from featstore.loaders.inputs import Input
from featstore.loaders.passes import EpochOrder, OrderKind, epoch_order

__all__ = ["STATE_VERSION", "Epochs"]

logger = logging.getLogger(__name__)

STATE_VERSION = 1


class Epochs:
    """Order of each epoch's items, cut into global batches, and the place of the current pass.

    Parameters
    ----------
    plan : CropPlan
    source : Input
        The first input: an order by shards follows where its tracks are stored.
    batch_size, drop_last, seed, shuffle_buffer
        As for :class:`featstore.loaders.BatchLoader`.
    kind : {'none', 'global', 'shards'}
    buckets : bool
        Whether a batch holds tracks of similar length.

    Attributes
    ----------
    epoch : int
    next_batch : int
        First global batch that a saved state leaves.
    """

    def __init__(
        self,
        plan: CropPlan,
        source: Input,
        *,
        batch_size: int,
        drop_last: bool,
        seed: int,
        kind: OrderKind,
        shuffle_buffer: int,
        buckets: bool = False,
    ) -> None:
        self.plan, self.source, self.batch_size, self.drop_last, self.seed = plan, source, batch_size, drop_last, seed
        self.kind, self.shuffle_buffer, self.buckets = kind, shuffle_buffer, buckets
        self.epoch = self.next_batch = self._resume = 0
        self._known: tuple[tuple[Any, ...], EpochOrder] | None = None

    def __len__(self) -> int:
        """Global batches in an epoch."""
        n = len(self.plan)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; the epoch of a loaded state keeps its place in it."""
        if epoch != self.epoch:
            self.epoch, self.next_batch, self._resume = epoch, 0, 0

    def begin(self) -> int:
        """Start a pass, and return its first batch: 0, or where a loaded state left off."""
        self.next_batch, self._resume = self._resume, 0
        return self.next_batch

    def order(self) -> EpochOrder:
        """Order of the epoch; worked out once."""
        key = (self.epoch, self.kind, self.shuffle_buffer)
        if self._known is None or self._known[0] != key:
            order = epoch_order(
                self.plan,
                self.source,
                kind=self.kind,
                seed=self.seed,
                epoch=self.epoch,
                batch_size=self.batch_size,
                shuffle_buffer=self.shuffle_buffer,
                buckets=self.buckets,
            )
            self._known = key, order
        return self._known[1]

    @cached_property
    def _items(self) -> str:
        """Digest of what decides an epoch's batches, apart from seed, epoch and kind of order."""
        plan, digest = self.plan, hashlib.sha256()
        for part in (list(self.source.track_ids), plan.mode, plan.frames, plan.grid, self.batch_size, self.drop_last):
            digest.update(repr(part).encode())
        if plan.per_track > 1:
            digest.update(f"{plan.per_track} distinct".encode())
        for array in (plan.track, plan.first):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def _storage(self) -> str:
        """Digest of where the tracks are stored: an order by shards depends on it."""
        shards = [(rows.start, rows.stop) for rows in self.source.feature.shard_rows]
        digest = hashlib.sha256(repr(shards).encode())
        digest.update(np.ascontiguousarray(self.source.rows, dtype="<i8").tobytes())
        return digest.hexdigest()[:16]

    def state_dict(self, taken: int = 0) -> dict[str, Any]:
        """Return the place ``taken`` batches after :attr:`next_batch`, as plain values that JSON can hold."""
        return {
            "version": STATE_VERSION,
            "seed": self.seed,
            "epoch": self.epoch,
            "next_batch": self.next_batch + taken,
            "order": self.kind,
            "shuffle_buffer": self.shuffle_buffer,
            "items": self._items,
            "storage": self._storage,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved place: the next pass gives exactly the batches that were left.

        The order of the run that was stopped is kept, even where this loader's tier would choose another.

        Raises
        ------
        CheckpointError
            When the state is of another version, or belongs to other tracks, crops, batches or another seed.
        """
        self._check(state)
        if state["order"] != self.kind:
            logger.info("the stopped run's order (%s) is kept; this tier's own is %s", state["order"], self.kind)
        self.kind, self.shuffle_buffer = state["order"], int(state["shuffle_buffer"])
        self.epoch = int(state["epoch"])
        self.next_batch = self._resume = int(state["next_batch"])

    def _check(self, state: Mapping[str, Any]) -> None:
        fix = "Resume with the settings of the run that was stopped"
        if state.get("version") != STATE_VERSION:
            found = f"the loader state has version {state.get('version')}"
            raise CheckpointError(found, "loader", f"This featstore reads version {STATE_VERSION}")
        if state["items"] != self._items:
            raise CheckpointError("the loader state belongs to other tracks, crops or batches", "loader", fix)
        if state["order"] == "shards" and state["storage"] != self._storage:
            found = "the loader state goes by shards of a store that is laid out otherwise"
            raise CheckpointError(found, "loader", "Resume with the store of the run that was stopped")
        if state["seed"] != self.seed:
            raise CheckpointError(f"the loader state has seed {state['seed']}, this loader {self.seed}", "loader", fix)
        if not 0 <= int(state["next_batch"]) <= len(self):
            raise CheckpointError(f"next_batch={state['next_batch']} of {len(self)} batches", "loader", fix)
