"""Crops for any torch ``DataLoader``: a map-style data set, and a batch sampler that can stop and go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler, get_worker_info

from featstore.errors import ConfigError
from featstore.loaders.crops import Ragged
from featstore.loaders.epochs import Epochs, order_kind
from featstore.loaders.gather import Rooms
from featstore.loaders.inputs import Input, check_stored, plan_inputs
from featstore.loaders.order import Purpose, check_share, random_bits, rank_slice
from featstore.loaders.passes import allocate
from featstore.loaders.stored_feature import StoredFeature
from featstore.loaders.targets import Tracks, class_names, label_column, multi_hot, select_split, track_id_column
from featstore.loaders.tiers import DeviceTier, DiskTier, RamTier, Tier, choose_tier

__all__ = ["EpochBatchSampler", "FeatureDataset", "torch_dataset"]

Item = dict[str, Any]

_NO_EPOCH = -1
_PROCESSES = 8  # spawned workers hold a copy each: auto takes RAM only where all of them fit


class FeatureDataset(Dataset[Item]):
    """Map-style data set of one crop a track.

    Each time an item is asked for, its crop is drawn: so every epoch of any ``DataLoader`` has fresh crops, with and
    without workers. The draws follow from ``seed``, and in a worker also from the seed that torch gives it, another one
    in each epoch. After :meth:`set_epoch` the crops follow from the seed and the epoch alone, whatever the workers and
    ranks.

    An item is a dict: the feature under its kind (``"mel"``) as float32 ``(*bands, frames)``, ``"target"`` float32
    ``(n_classes,)`` where there are classes, ``"index"`` (place in ``track_ids``) and ``"start"`` (frames). With
    ``ragged="pad"`` also ``"<kind>_mask"``, bool ``(frames,)``, True where a frame is real.

    It pickles small: each process opens the files (or, for the ram tier, reads them) when it first needs an item, but
    forked workers share what their parent holds. An epoch that was set reaches workers, persistent ones too, through
    shared memory.

    Parameters
    ----------
    reader : StoredFeature
    tracks : pandas.DataFrame or sequence of str
        As for :class:`featstore.loaders.BatchLoader`; tracks that the store lacks are left out with a warning.
    classes : sequence of str
        Places of the multi-hot target, made from the column ``labels``; empty for no target.
    crop_frames : int or None
        None takes whole tracks, of one length unless ``ragged="pad"``.
    tier : {'auto', 'disk', 'ram', 'gpu'}
        ``gpu`` holds everything on ``device`` and is for a DataLoader without workers.
    """

    def __init__(
        self,
        reader: StoredFeature,
        tracks: Tracks,
        *,
        classes: Sequence[str] = (),
        crop_frames: int | None = 187,
        seed: int = 0,
        tier: Tier = "auto",
        ragged: Ragged = "error",
        device: str | torch.device = "cpu",
    ) -> None:
        if ragged == "bucket":
            raise ConfigError("ragged='bucket' needs batches", "torch data set", "Use BatchLoader, or ragged='pad'")
        self.name, self.classes, self.seed = str(reader.spec.kind), tuple(classes), seed
        listed = Input.bind(self.name, reader, track_id_column(tracks))
        check_stored([listed], "skip")
        stored = np.flatnonzero(listed.lengths >= 0)
        self.source = listed.take(stored)
        self.track_ids = list(self.source.track_ids)
        mode: Literal["whole", "random"] = "whole" if crop_frames is None else "random"
        self.plan = plan_inputs([self.source], mode=mode, crop_frames=crop_frames, ragged=ragged)
        self.device = torch.device(device)
        self.tier = choose_tier([self.source], tier=tier, device=self.device, processes=_PROCESSES)
        self._frames = crop_frames or int(self.source.lengths.max())
        self._padded = ragged == "pad"
        self._targets: NDArray[np.float32] | None = None
        if self.classes:
            labels = label_column(tracks)
            self._targets = multi_hot([labels[i] for i in stored], self.classes)
        self._epoch = torch.full((1,), _NO_EPOCH, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._starts: tuple[int, NDArray[np.int64]] = (-1, self.plan.first)
        self._draws: tuple[int | None, np.random.Generator] | None = None
        self._opened = self._open() if self.tier == "ram" else None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _open(self) -> DiskTier | RamTier | DeviceTier:
        if self.tier == "ram":
            return RamTier(self.source, self.plan.track)
        if self.tier == "disk":
            return DiskTier(self.source)
        if get_worker_info() is not None:
            found = "the gpu tier cannot be read from a worker process"
            raise ConfigError(found, f"process {os.getpid()}", "Use num_workers=0, BatchLoader, or tier='ram'")
        return DeviceTier(self.source, self.plan.track, device=self.device, longest=self._frames)

    def set_epoch(self, epoch: int) -> None:
        """Let crops follow from the seed and this epoch from now on, here and in running workers."""
        self._epoch[0] = epoch

    @property
    def epoch(self) -> int | None:
        """Epoch that crops are drawn for; None where each is drawn when it is asked for."""
        epoch = int(self._epoch[0])
        return None if epoch == _NO_EPOCH else epoch

    def _starts_of(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        epoch = self.epoch
        if epoch is None:
            return self.plan.drawn_starts(items, self._generator().random(len(items)))
        if self._starts[0] != epoch:
            self._starts = epoch, self.plan.starts(seed=self.seed, epoch=epoch)
        return self._starts[1][items]

    def _generator(self) -> np.random.Generator:
        """Source of crops without an epoch: one in each process; a worker's is its own in every epoch."""
        worker = get_worker_info()
        own = None if worker is None else worker.seed
        if self._draws is None or self._draws[0] != own:
            words = random_bits(2, seed=self.seed, epoch=0, purpose=Purpose.STARTS).tolist()
            self._draws = own, np.random.default_rng([*words, own or 0])
        return self._draws[1]

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, item: int) -> Item:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[Item]:
        """Return several items at once (torch's DataLoader asks for a batch this way)."""
        picked = np.array([range(len(self))[item] for item in items], dtype=np.int64)  # refuses what is out of range
        if self._opened is None:
            self._opened = self._open()
        tracks, starts = self.plan.track[picked], self._starts_of(picked)
        counts = self.plan.valid_of(0, picked, starts)
        values = self._values(self._opened, tracks, starts, counts)
        found: list[Item] = []
        for place, (track, start, count) in enumerate(
            zip(tracks.tolist(), starts.tolist(), counts.tolist(), strict=True)
        ):
            entry: Item = {self.name: values[place], "index": track, "start": start}
            if self._padded:
                entry[self.name][..., count:] = 0.0
                entry[f"{self.name}_mask"] = torch.arange(self._frames, device=values.device) < count
            if self._targets is not None:
                entry["target"] = torch.from_numpy(self._targets[track].copy())
            found.append(entry)
        return found

    def _values(
        self,
        tier: DiskTier | RamTier | DeviceTier,
        tracks: NDArray[np.int64],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> torch.Tensor:
        decoder = self.source.decoder
        if isinstance(tier, DeviceTier):
            places = torch.from_numpy(tracks).to(self.device), torch.from_numpy(starts).to(self.device)
            return decoder.values(tier.gather(*places, self._frames))
        codes = allocate(self.source, len(tracks), self._frames)
        tier.fill(Rooms.of(codes.numpy(), decoder), tracks, starts, counts)
        return codes if decoder.has_table else decoder.values(codes)


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of item numbers for ``DataLoader(dataset, batch_sampler=…)``: sharded over ranks, and resumable.

    Parameters
    ----------
    dataset : FeatureDataset
    batch_size : int
        Items of one global batch, shared out among the ranks.
    shuffle : bool or {'global', 'shards'}
        As for :class:`featstore.loaders.BatchLoader`.

    Examples
    --------
    >>> sampler = EpochBatchSampler(dataset, batch_size=32)  # doctest: +SKIP
    >>> loader = DataLoader(dataset, batch_sampler=sampler, num_workers=4)  # doctest: +SKIP
    >>> for taken, batch in enumerate(loader, start=1):  # doctest: +SKIP
    ...     state = sampler.state_dict(taken)
    """

    def __init__(
        self,
        dataset: FeatureDataset,
        *,
        batch_size: int,
        shuffle: bool | Literal["global", "shards"] = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        shuffle_buffer: int = 4096,
    ) -> None:
        check_share(batch_size, rank=rank, world_size=world_size)
        dataset.set_epoch(dataset.epoch or 0)
        self.dataset, self.batch_size, self.rank, self.world_size = dataset, batch_size, rank, world_size
        self._epochs = Epochs(
            dataset.plan,
            dataset.source,
            batch_size=batch_size,
            drop_last=drop_last,
            seed=dataset.seed,
            kind=order_kind(shuffle, dataset.tier),
            shuffle_buffer=shuffle_buffer,
        )

    def __len__(self) -> int:
        """Global batches in an epoch."""
        return len(self._epochs)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass, for the data set as well; the epoch of a loaded state keeps its place."""
        self.dataset.set_epoch(epoch)
        self._epochs.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        # a generator, so that the place is taken up by the first batch: torch makes iterators that it never uses
        self._epochs.set_epoch(self.dataset.epoch or 0)  # the data set's own may have been set
        for batch in self._epochs.batches(self._epochs.begin()):
            part = batch[rank_slice(len(batch), rank=self.rank, world_size=self.world_size)]
            if len(part):  # torch cannot collate an empty batch: this rank sits a last, short batch out
                yield part.tolist()

    def state_dict(self, taken: int) -> dict[str, Any]:
        """Return the place after ``taken`` batches of this pass (workers run ahead, so only the caller knows)."""
        return self._epochs.state_dict(taken)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved place; ranks and workers may differ.

        Raises
        ------
        CheckpointError
            When the state belongs to other tracks, crops, batches or another seed.
        """
        self._epochs.load_state_dict(state)
        self.dataset.set_epoch(self._epochs.epoch)


def torch_dataset(
    store: Any,
    feature: Any,
    split: str | None = "train",
    crop_frames: int | None = 187,
    seed: int = 0,
    tier: Tier = "auto",
    *,
    classes: Sequence[str] | None = None,
    ragged: Ragged = "error",
    device: str | torch.device = "cpu",
) -> FeatureDataset:
    """Make a map-style torch data set of a stored or derived feature.

    Parameters
    ----------
    store : Store or path
    feature : str, FeatureSpec or StoredFeature
        Any name that the store answers to, or the reader that it answered with.
    split : str or None
        Rows of the store's track table to take; None takes all.
    crop_frames : int or None
        Frames of a random crop; None takes whole tracks.
    seed : int
        With the epoch, decides the crops.
    tier : {'auto', 'disk', 'ram', 'gpu'}
    classes : sequence of str, optional
        Places of the target; None takes all labels of the store's track table, sorted.
    ragged, device
        As for :class:`FeatureDataset`.

    Raises
    ------
    DatasetError
        When the split is empty, or its tracks do not fit the crop.
    MissingFeature
        When the store has neither the feature nor a base of it.

    See Also
    --------
    EpochBatchSampler : Batches of it that can be resumed and shared among ranks.
    featstore.loaders.BatchLoader : The loader of ``featstore train``: no worker processes, exact resumption.
    """
    if isinstance(store, str | os.PathLike):
        from featstore.store import open_store

        store = open_store(store)
    reader = feature if hasattr(feature, "track_ids") else store[feature]
    table = store.tracks
    if classes is None:
        classes = class_names(table["labels"]) if "labels" in table else ()
    return FeatureDataset(
        reader,
        select_split(table, split),
        classes=classes,
        crop_frames=crop_frames,
        seed=seed,
        tier=tier,
        ragged=ragged,
        device=device,
    )
