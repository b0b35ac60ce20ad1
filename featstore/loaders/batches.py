"""``BatchLoader``: batches of crops from one or several features, in an order that (seed, epoch) alone decides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.errors import ConfigError, DatasetError
from featstore.loaders.crops import Mode, Ragged, Tail
from featstore.loaders.epochs import Epochs, order_kind
from featstore.loaders.inputs import Input, check_stored, plan_inputs
from featstore.loaders.order import check_share
from featstore.loaders.passes import Codes, RankPart, device_pass, host_pass
from featstore.loaders.stored_feature import StoredFeature
from featstore.loaders.targets import Tracks, track_id_column
from featstore.loaders.tiers import DeviceTier, DiskTier, RamTier, Tier, choose_tier

__all__ = ["Batch", "BatchLoader"]

logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]

_RESERVED = ("target", "index", "start", "fresh")


class BatchLoader:
    """Iterate over an epoch in batches; each pass over the loader is one epoch.

    Parameters
    ----------
    readers : mapping of str to StoredFeature
        Inputs by name. All are cut to the same seconds; the first one sets the frames.
    tracks : pandas.DataFrame or sequence of str
        The tracks to load: a frame with ``track_id`` as a column or as its index, or the ids themselves.
    targets : numpy.ndarray or None
        float32 ``(n_tracks, n_classes)`` or int64 ``(n_tracks,)``, row by row with ``tracks``.
    batch_size : int
        Items of one *global* batch, shared out among the ranks.
    crop_frames : int or None
        Frames of a crop, counted in the first input; None for whole tracks. Of a feature with an axis of excerpts, the
        frames of one: a crop is an excerpt, and windows are all of them.
    mode : {'random', 'windows', 'whole'}
        One random crop of each track an epoch; evaluation windows that cover each track; or the track as it is.
    shuffle : bool or {'global', 'shards'}
        ``global`` permutes all items; ``shards`` takes whole shards of the first input's store in shuffled order,
        through a shuffle buffer, so that files are read from front to back. True means ``shards`` for the disk tier,
        ``global`` for the others.
    seed : int
        With the epoch, decides order and crops.
    tier : {'auto', 'disk', 'ram', 'gpu'}
        Where codes are held; ``auto`` goes by their size.
    drop_last : bool
        Leave out a last batch that is not full.
    ragged : {'error', 'skip', 'pad', 'bucket'}
        Tracks shorter than the crop (``error``, ``skip``, ``pad``), or whole tracks of different lengths (``error``,
        ``pad``, ``bucket``: batches of similar length). Padding adds ``"<input>_mask"``, bool ``(batch, frames)``, True
        where a frame is real.
    missing : {'error', 'skip'}
        What to do with tracks that the store lacks.
    window_stride, tail
        Evaluation windows: frames between them (None: ``crop_frames``), and whether a last one is aligned to the end
        (``align``), what they do not reach is left out (``drop``), or windows and random crops may reach past the end
        (``overhang``): see :func:`~featstore.loaders.crops.plan_crops`.
    crops_per_track : int
        Random crops of each track in an epoch.
    distinct : bool
        No two of them start at the same frame of the track.
    repeats : numpy.ndarray or None
        int64 ``(n_tracks,)`` row by row with ``tracks``: times ``crops_per_track`` that each track gives; 1 by default.
    start_grid : int
        Random crops start at multiples of this number of frames of the first input.
    pad_value : float
        What padding holds, on the feature's scale.
    device : str or torch.device
        Where inputs, masks and targets arrive; ``index`` and ``start`` stay on the CPU.
    rank, world_size : int
        This process's part of every global batch. The part is empty where a last batch is smaller than the world.
    threads : int or None
        Reading threads; 0 reads when a batch is asked for. None: 2 for disk, 1 for ram with a GPU, else 0.
    read_ahead : int
        Batches that threads work ahead.
    shuffle_buffer : int
        Items of the buffer that ``shards`` shuffles in.
    recheck : bool
        Disk tier: check checksums on every read; else on the first read of each chunk by this loader.

    Yields
    ------
    dict
        ``"<input>"`` float32 ``(batch, *bands, frames)`` for each input, ``"target"``, ``"index"`` int64 ``(batch,)``
        position in ``tracks``, ``"start"`` int64 ``(batch,)`` in frames of the first input; of evaluation windows
        ``"fresh"`` int64 ``(batch,)``: frames that no earlier window of the track has.

    Raises
    ------
    DatasetError, ConfigError
        On creation, for tracks or settings that do not fit.
    CorruptFeature
        On reading (ram and gpu: on creation), for stored values that are missing or damaged; it names the track.

    See Also
    --------
    featstore.loaders.torch_dataset : The same crops for any torch ``DataLoader``.
    featstore.loaders.band_statistics : Moments of the training split, for a normalising layer.
    """

    def __init__(
        self,
        readers: Mapping[str, StoredFeature],
        tracks: Tracks,
        *,
        targets: NDArray[Any] | None = None,
        batch_size: int,
        crop_frames: int | None = None,
        mode: Mode = "random",
        shuffle: bool | Literal["global", "shards"] = True,
        seed: int = 0,
        tier: Tier = "auto",
        drop_last: bool = False,
        ragged: Ragged = "error",
        missing: Literal["error", "skip"] = "error",
        window_stride: int | None = None,
        tail: Tail = "align",
        crops_per_track: int = 1,
        distinct: bool = False,
        repeats: NDArray[np.int64] | None = None,
        start_grid: int = 1,
        pad_value: float = 0.0,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
        read_ahead: int = 4,
        shuffle_buffer: int = 4096,
        recheck: bool = False,
    ) -> None:
        self.track_ids = track_id_column(tracks)
        self.device = torch.device(device)
        self.batch_size, self.pad_value = batch_size, pad_value
        self.rank, self.world_size = rank, world_size
        _check_inputs(readers, self.track_ids, targets)
        check_share(batch_size, rank=rank, world_size=world_size)
        self.inputs = [Input.bind(name, reader, self.track_ids) for name, reader in readers.items()]
        check_stored(self.inputs, missing)
        self.plan = plan_inputs(
            self.inputs,
            mode=mode,
            crop_frames=crop_frames,
            ragged=ragged,
            window_stride=window_stride,
            tail=tail,
            crops_per_track=crops_per_track,
            distinct=distinct,
            repeats=repeats,
            start_grid=start_grid,
        )
        self.tier = choose_tier(self.inputs, tier=tier, device=self.device, processes=world_size)
        self._epochs = Epochs(
            self.plan,
            self.inputs[0],
            batch_size=batch_size,
            drop_last=drop_last,
            seed=seed,
            kind=order_kind(shuffle, self.tier),
            shuffle_buffer=shuffle_buffer,
            buckets=ragged == "bucket",
        )
        if len(self) == 0:
            found = f"{len(self.plan)} items make no full batch of {batch_size}"
            raise DatasetError(found, "loader", "Lower batch_size, or keep the last batch with drop_last=False")
        self._padded = ragged in ("pad", "bucket")
        self._fresh = self.plan.fresh() if mode == "windows" else None
        default_threads = {"disk": 2, "ram": int(self.device.type == "cuda")}.get(self.tier, 0)
        self._targets = None if targets is None else torch.from_numpy(np.ascontiguousarray(targets)).to(self.device)
        self._codes = self._opened(recheck, default_threads if threads is None else threads, read_ahead)

    def _opened(self, recheck: bool, threads: int, read_ahead: int) -> Callable[[RankPart], Iterator[Codes]]:
        """Open or fill the tiers; what is returned reads a part of an epoch from them."""
        if self.tier == "gpu":
            held = [
                DeviceTier(one, self.plan.track, device=self.device, longest=frames or int(one.lengths.max()))
                for one, frames in zip(self.inputs, self.plan.frames, strict=True)
            ]
            return partial(device_pass, tiers=held, device=self.device)
        in_ram = self.tier == "ram"
        tiers = [RamTier(one, self.plan.track) if in_ram else DiskTier(one, recheck=recheck) for one in self.inputs]
        return partial(
            host_pass,
            inputs=self.inputs,
            tiers=tiers,
            threads=threads,
            ahead_batches=read_ahead,
            task_items=max(1, self.batch_size // self.world_size),
            pin=self.device.type == "cuda",
        )

    def __len__(self) -> int:
        """Global batches in an epoch."""
        return len(self._epochs)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; the epoch of a loaded state keeps its place in it."""
        self._epochs.set_epoch(epoch)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches(self._epochs.begin())

    def _batches(self, first: int) -> Iterator[Batch]:
        part = RankPart.of(self._epochs, first, rank=self.rank, world_size=self.world_size)
        codes = self._codes(part)
        try:
            for k, encoded in enumerate(codes):
                batch = self._finish(part, k, encoded)
                self._epochs.next_batch = first + k + 1
                yield batch
        finally:
            codes.close()  # type: ignore[attr-defined]  # a generator: leaving early stops its threads

    def _finish(self, part: RankPart, k: int, encoded: Codes) -> Batch:
        """Codes to values: what crossed to the device is still encoded, so that little crosses."""
        here = part.entries(k)
        batch: Batch = {}
        for j, (one, codes) in enumerate(zip(self.inputs, encoded, strict=True)):
            codes = codes.to(self.device, non_blocking=True)
            looked_up = one.decoder.has_table and codes.dtype == torch.float32  # on the way into host memory
            values = codes if looked_up else one.decoder.values(codes)
            if self._padded:
                counts = torch.from_numpy(part.counts[j][here]).to(self.device)
                mask = torch.arange(values.shape[-1], device=self.device) < counts[:, None]
                spread = mask.reshape(mask.shape[0], *[1] * len(one.lead), mask.shape[1])
                values = torch.where(spread, values, self.pad_value)
                batch[f"{one.name}_mask"] = mask
            batch[one.name] = values
        index = torch.from_numpy(part.tracks[here])
        if self._targets is not None:
            batch["target"] = self._targets[index.to(self.device)]
        batch["index"], batch["start"] = index, torch.from_numpy(part.starts[here])
        if self._fresh is not None:
            batch["fresh"] = torch.from_numpy(self._fresh[part.items[here]])
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch as plain values (JSON can hold them): the batch after the last one taken."""
        return self._epochs.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved place: the next pass gives exactly the batches that were left.

        Tier, threads, ranks and world size may differ from the run that was stopped; its kind of order is kept.

        Raises
        ------
        CheckpointError
            When the state belongs to other tracks, crops, batches or another seed.
        """
        self._epochs.load_state_dict(state)


def _check_inputs(readers: Mapping[str, StoredFeature], track_ids: Sequence[str], targets: NDArray[Any] | None) -> None:
    if not readers:
        raise ConfigError("no input", "loader", "Give at least one reader")
    clash = [name for name in readers if name in _RESERVED or name.endswith("_mask")]
    if clash:
        raise ConfigError(
            f"input name {clash[0]!r} is taken", "loader", "Avoid target, index, start, fresh and names in _mask"
        )
    if not track_ids:
        raise DatasetError("the track list is empty", "loader", "Check the split and the track table")
    if len(set(track_ids)) != len(track_ids):
        raise DatasetError(
            "the track list names a track twice", "loader", "Use crops_per_track for several crops a track"
        )
    if targets is not None and len(targets) != len(track_ids):
        raise ConfigError(f"{len(targets)} targets for {len(track_ids)} tracks", "loader", "Give one row a track")
