"""One pass through an epoch, as one rank walks it: codes batch after batch, from the host's tiers or the device's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.loaders.codes import torch_dtype
from featstore.loaders.crops import CropPlan
from featstore.loaders.epochs import Epochs
from featstore.loaders.gather import Rooms
from featstore.loaders.inputs import Input
from featstore.loaders.order import rank_slice
from featstore.loaders.pipeline import plan_reads, read_ahead
from featstore.loaders.tiers import DeviceTier, HostTier

__all__ = ["Codes", "RankPart", "allocate", "device_pass", "host_pass"]


@dataclass(frozen=True)
class RankPart:
    """What one rank does of an epoch, from some batch on; an *entry* is a place in its list of items.

    Attributes
    ----------
    items, tracks, starts : numpy.ndarray
        int64 ``(n_entries,)``: item number, track and start (frames of the first input) of each entry.
    reading : numpy.ndarray or None
        int64 ``(n_entries,)``: place of each entry in the order of reading; None reads in order of use.
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
    reading: NDArray[np.int64] | None
    bounds: NDArray[np.int64]
    begins: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.int64], ...]
    frames: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, epochs: Epochs, first: int, *, rank: int, world_size: int) -> RankPart:
        """Take a rank's slice of each global batch of the epoch from batch ``first`` on."""
        plan, order, whole = epochs.plan, epochs.order(), epochs.batches(first)
        parts = [items[rank_slice(len(items), rank=rank, world_size=world_size)] for items in whole]
        items = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        bounds = np.cumsum([0, *map(len, parts)])
        starts = order.starts[items]
        inputs = range(len(plan.frames))
        return cls(
            items=items,
            tracks=plan.track[items],
            starts=starts,
            reading=None if order.place is None else order.place[items],
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
    tasks, needed = plan_reads(batch_of, part.reading, n_batches=len(part), task_items=task_items)
    open_codes: dict[int, Codes] = {}
    addresses = [np.zeros(len(part), dtype=np.int64) for _ in inputs]

    def prepare(task: NDArray[np.int64]) -> None:
        for k in np.unique(batch_of[task]).tolist():
            if k not in open_codes:
                size = int(part.bounds[k + 1] - part.bounds[k])
                open_codes[k] = [allocate(one, size, int(part.frames[j][k]), pin) for j, one in enumerate(inputs)]
                for j, codes in enumerate(open_codes[k]):
                    addresses[j][k] = codes.data_ptr()

    def work(task: NDArray[np.int64]) -> None:
        batch, slot, tracks = batch_of[task], slot_of[task], part.tracks[task]
        for j, (one, tier) in enumerate(zip(inputs, tiers, strict=True)):
            counts, frames, decoded = part.counts[j][task], part.frames[j][batch], one.decoder.has_table and not pin
            itemsize = 4 if decoded else one.dtype.itemsize
            places = addresses[j][batch] + slot * frames * (one.n_rows * itemsize)
            tier.fill(Rooms(places, frames, itemsize, decoded), tracks, part.begins[j][task], counts)
            for short in np.flatnonzero(counts < frames).tolist():
                open_codes[int(batch[short])][j].numpy()[slot[short], ..., counts[short] :] = 0

    ahead = max(1, ahead_batches * max(1, len(tasks) // max(1, len(part))))
    with read_ahead(tasks, prepare=prepare, work=work, threads=threads, ahead=ahead) as wait:
        for k in range(len(part)):
            wait(int(needed[k]))
            codes = open_codes.pop(k, None)
            # a rank may have no item in a short last batch: it still gets a batch, of length 0
            yield codes or [allocate(one, 0, int(part.frames[j][k]), False) for j, one in enumerate(inputs)]


def allocate(source: Input, size: int, frames: int, pin: bool = False) -> torch.Tensor:
    """Room for crops ``(size, *lead, frames)`` in host memory; ``pin`` as for :func:`host_pass`."""
    dtype = torch.float32 if source.decoder.has_table and not pin else torch_dtype(source.dtype)
    return torch.empty((size, *source.lead, frames), dtype=dtype, pin_memory=pin)


def device_pass(part: RankPart, tiers: Sequence[DeviceTier], *, device: torch.device) -> Iterator[Codes]:
    """Yield the codes of each batch, gathered on the device that holds them."""
    tracks = torch.from_numpy(part.tracks).to(device)
    begins = [torch.from_numpy(begin).to(device) for begin in part.begins]
    for k in range(len(part)):
        here = part.entries(k)
        yield [tier.gather(tracks[here], begins[j][here], int(part.frames[j][k])) for j, tier in enumerate(tiers)]
