"""The place of a pass in its epoch: the order of the items, the next batch, and how both are saved and restored."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from featstore.errors import CheckpointError, ConfigError
from featstore.loaders.crops import CropPlan
from featstore.loaders.inputs import Input
from featstore.loaders.order import bucket_order, buffered_order, permutation, read_order

__all__ = ["STATE_VERSION", "EpochOrder", "Epochs", "OrderKind", "order_kind"]

logger = logging.getLogger(__name__)

STATE_VERSION = 1

OrderKind = Literal["none", "global", "shards"]


def order_kind(shuffle: bool | str, tier: str) -> OrderKind:
    """Resolve a loader's ``shuffle`` setting: True is ``shards`` for the disk tier, which reads files front to back."""
    if shuffle is True:
        return "shards" if tier == "disk" else "global"
    if shuffle is False:
        return "none"
    if shuffle not in ("global", "shards"):
        raise ConfigError(f"shuffle={shuffle!r} is unknown", "loader", "Use True, False, 'global' or 'shards'")
    return cast(OrderKind, shuffle)


@dataclass(frozen=True)
class EpochOrder:
    """The global batches of one epoch.

    Attributes
    ----------
    items : numpy.ndarray
        int64 ``(n,)`` item numbers in order of use.
    place : numpy.ndarray or None
        int64 ``(n,)`` place of each item number in the order of reading; None reads in order of use.
    starts : numpy.ndarray
        int64 ``(n,)`` start of each item number, frames of the first input.
    """

    items: NDArray[np.int64]
    place: NDArray[np.int64] | None
    starts: NDArray[np.int64]


@dataclass(eq=False)
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

    plan: CropPlan
    source: Input
    batch_size: int
    drop_last: bool
    seed: int
    kind: OrderKind
    shuffle_buffer: int
    buckets: bool = False
    epoch: int = field(default=0, init=False)
    next_batch: int = field(default=0, init=False)
    _resume: int = field(default=0, init=False)
    _known: tuple[tuple[Any, ...], EpochOrder] | None = field(default=None, init=False)

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
            self._known = key, self._arranged()
        return self._known[1]

    def _arranged(self) -> EpochOrder:
        n, place = len(self.plan), None
        draw: dict[str, Any] = {"seed": self.seed, "epoch": self.epoch}
        if self.kind == "shards":
            reading = read_order(*self._storage_places(), **draw)
            items = buffered_order(reading, buffer=self.shuffle_buffer, **draw)
            place = np.empty(n, dtype=np.int64)
            place[reading] = np.arange(n)
        else:
            items = permutation(n, **draw) if self.kind == "global" else np.arange(n, dtype=np.int64)
        if self.buckets:
            pools = None if self.kind == "none" else 64
            lengths = self.plan.item_lengths()
            items = bucket_order(lengths, items, batch_size=self.batch_size, pool_batches=pools, **draw)
            place = None
        return EpochOrder(items, place, self.plan.starts(**draw))

    def _storage_places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shard and row of each item's track."""
        shard_of_row = np.zeros(len(self.source.feature.lengths), dtype=np.int64)
        for number, shard in enumerate(self.source.feature.shard_rows):
            shard_of_row[shard.start : shard.stop] = number
        rows = self.source.rows[self.plan.track]
        return shard_of_row[rows], rows

    def batches(self, first: int) -> list[NDArray[np.int64]]:
        """Items of each global batch of the epoch from batch ``first`` on."""
        items, size = self.order().items, self.batch_size
        return [items[k * size : (k + 1) * size] for k in range(first, len(self))]

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
