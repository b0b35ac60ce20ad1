"""One pass through an epoch, as one rank walks it: codes batch after batch, from the host's tiers or the device's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.errors import ConfigError
from featstore.loaders.codes import torch_dtype
from featstore.loaders.crops import CropPlan
from featstore.loaders.inputs import Input
from featstore.loaders.order import bucket_order, buffered_order, permutation, rank_slice, read_order
from featstore.loaders.pipeline import plan_reads, read_ahead
from featstore.loaders.tiers import DeviceTier, HostTier

__all__ = ["Codes", "EpochOrder", "OrderKind", "RankPart", "device_pass", "epoch_order", "host_pass", "order_kind"]

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


def epoch_order(
    plan: CropPlan,
    source: Input,
    *,
    kind: OrderKind,
    seed: int,
    epoch: int,
    batch_size: int,
    shuffle_buffer: int,
    buckets: bool,
) -> EpochOrder:
    """Arrange the items of an epoch; ``source`` says which shard holds a track."""
    n, place = len(plan), None
    if kind == "shards":
        reading = read_order(*_storage_places(plan, source), seed=seed, epoch=epoch)
        items = buffered_order(reading, buffer=shuffle_buffer, seed=seed, epoch=epoch)
        place = np.empty(n, dtype=np.int64)
        place[reading] = np.arange(n)
    else:
        items = permutation(n, seed=seed, epoch=epoch) if kind == "global" else np.arange(n, dtype=np.int64)
    if buckets:
        pools = None if kind == "none" else 64
        lengths = plan.item_lengths()
        items = bucket_order(lengths, items, batch_size=batch_size, seed=seed, epoch=epoch, pool_batches=pools)
        place = None
    return EpochOrder(items, place, plan.starts(seed=seed, epoch=epoch))


def _storage_places(plan: CropPlan, source: Input) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shard and row of each item's track."""
    shard_of_row = np.zeros(len(source.feature.lengths), dtype=np.int64)
    for number, shard in enumerate(source.feature.shard_rows):
        shard_of_row[shard.start : shard.stop] = number
    rows = source.rows[plan.track]
    return shard_of_row[rows], rows


@dataclass(frozen=True)
class RankPart:
    """What one rank does of an epoch, from some batch on; an *entry* is a place in its list of items.

    Attributes
    ----------
    items, tracks, starts : numpy.ndarray
        int64 ``(n_entries,)``: item number, track and start (frames of the first input) of each entry.
    bounds : numpy.ndarray
        int64 ``(n_batches + 1,)``: entries ``bounds[k] … bounds[k + 1]`` are batch ``k``.
    begins, counts : tuple of numpy.ndarray
        For each input, int64 ``(n_entries,)``: first frame and number of real frames of each crop.
    frames : tuple of numpy.ndarray
        For each input, int64 ``(n_batches,)`` frames of a batch, equal on all ranks.
    """

    items: NDArray[np.int64]
    tracks: NDArray[np.int64]
    starts: NDArray[np.int64]
    bounds: NDArray[np.int64]
    begins: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.int64], ...]
    frames: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(
        cls,
        plan: CropPlan,
        order: EpochOrder,
        *,
        batch_size: int,
        n_batches: int,
        first: int,
        rank: int,
        world_size: int,
    ) -> RankPart:
        """Take a rank's slice of each global batch from batch ``first`` on."""
        whole = [order.items[k * batch_size : (k + 1) * batch_size] for k in range(first, n_batches)]
        parts = [items[rank_slice(len(items), rank=rank, world_size=world_size)] for items in whole]
        items = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        bounds = np.cumsum([0, *map(len, parts)])
        starts = order.starts[items]
        inputs = range(len(plan.frames))
        return cls(
            items=items,
            tracks=plan.track[items],
            starts=starts,
            bounds=bounds,
            begins=tuple(plan.starts_of(j, starts) for j in inputs),
            counts=tuple(plan.valid_of(j, items, starts) for j in inputs),
            frames=tuple(_batch_frames(plan, j, whole) for j in inputs),
        )

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def entries(self, k: int) -> slice:
        """Entries of batch ``k``."""
        return slice(int(self.bounds[k]), int(self.bounds[k + 1]))


def _batch_frames(plan: CropPlan, feature: int, batches: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    crop = plan.frames[feature]
    if crop is not None:
        return np.full(len(batches), crop, dtype=np.int64)
    lengths = plan.lengths[feature][plan.track]
    return np.array([lengths[items].max() for items in batches], dtype=np.int64)


Codes = list[torch.Tensor]


def host_pass(
    part: RankPart,
    inputs: Sequence[Input],
    tiers: Sequence[HostTier],
    *,
    place: NDArray[np.int64] | None,
    threads: int,
    ahead_batches: int,
    task_items: int,
    pin: bool,
) -> Iterator[Codes]:
    """Yield each batch, one tensor ``(batch, *lead, frames)`` an input, in host memory.

    With ``pin``, a batch is on its way to a device: it holds codes, in page-locked memory. Without, it stays here, and
    codes that have a table are looked up on the way in. Crops are copied once, from the tier into the batch that will
    use them; batches that wait for crops which are stored further on are the shuffle buffer.
    """
    batch_of = np.repeat(np.arange(len(part)), np.diff(part.bounds))
    slot_of = np.arange(len(part.items)) - part.bounds[batch_of]
    reading = None if place is None else place[part.items]
    reads = plan_reads(batch_of, reading, n_batches=len(part), task_items=task_items)
    open_codes: dict[int, Codes] = {}
    open_arrays: dict[int, list[NDArray[np.generic]]] = {}

    def prepare(task: NDArray[np.int64]) -> None:
        for k in np.unique(batch_of[task]).tolist():
            if k not in open_codes:
                size = int(part.bounds[k + 1] - part.bounds[k])
                open_codes[k] = [_allocate(one, size, int(part.frames[j][k]), pin) for j, one in enumerate(inputs)]
                open_arrays[k] = [codes.numpy() for codes in open_codes[k]]

    def work(task: NDArray[np.int64]) -> None:
        where = list(zip(batch_of[task].tolist(), slot_of[task].tolist(), part.tracks[task].tolist(), strict=True))
        for j, tier in enumerate(tiers):
            begins, counts = part.begins[j][task].tolist(), part.counts[j][task].tolist()
            for (_, _, track), begin, count in zip(where, begins, counts, strict=True):
                tier.expect(track, begin, count)
            for (k, slot, track), begin, count in zip(where, begins, counts, strict=True):
                out = open_arrays[k][j][slot]
                if count < out.shape[-1]:
                    out[..., count:] = 0
                    out = out[..., :count]
                tier.fill(out, track, begin, count)

    ahead = max(1, ahead_batches * max(1, len(reads.tasks) // max(1, len(part))))
    with read_ahead(reads.tasks, prepare=prepare, work=work, threads=threads, ahead=ahead) as wait:
        for k in range(len(part)):
            wait(int(reads.needed[k]))
            open_arrays.pop(k, None)
            codes = open_codes.pop(k, None)
            # a rank may have no item in a short last batch: it still gets a batch, of length 0
            yield codes or [_allocate(one, 0, int(part.frames[j][k]), False) for j, one in enumerate(inputs)]


def _allocate(source: Input, size: int, frames: int, pin: bool) -> torch.Tensor:
    dtype = torch.float32 if source.decoder.has_table and not pin else torch_dtype(source.dtype)
    return torch.empty((size, *source.lead, frames), dtype=dtype, pin_memory=pin)


def device_pass(part: RankPart, tiers: Sequence[DeviceTier], *, device: torch.device) -> Iterator[Codes]:
    """Yield the codes of each batch, gathered on the device that holds them."""
    tracks = torch.from_numpy(part.tracks).to(device)
    begins = [torch.from_numpy(begin).to(device) for begin in part.begins]
    for k in range(len(part)):
        here = part.entries(k)
        yield [tier.gather(tracks[here], begins[j][here], int(part.frames[j][k])) for j, tier in enumerate(tiers)]
