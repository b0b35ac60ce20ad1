"""Where crops come from: the files (disk), this process's memory (ram), or the device itself (gpu).

Every tier gives the same codes for the same crop; views and de-quantisation come later, on the device.
"""

from __future__ import annotations

import logging
import mmap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.arrays import AnyArray, IntArray
from featstore.errors import ConfigError
from featstore.loaders.codes import torch_dtype
from featstore.loaders.gather import Rooms, checksum_address, gather
from featstore.loaders.inputs import Input

__all__ = ["DeviceTier", "DiskTier", "RamTier", "Tier", "choose_tier", "free_memory"]

logger = logging.getLogger(__name__)

Tier = Literal["auto", "disk", "ram", "gpu"]

_SHARE = 0.5  # of the free memory that auto may fill
_BLOCK_BYTES = 1 << 26  # of tracks that are read in one go
_MAPS = 1 << 13  # files that stay mapped; systems allow a process some 65,000


class HostTier(Protocol):
    """A source that copies crops into host memory."""

    def fill(self, rooms: Rooms, tracks: IntArray, starts: IntArray, counts: IntArray) -> None:
        """Put frames ``start … start + count`` of each track into its room; all are int64 ``(n_crops,)``."""


class _Checked:
    """Chunks that were checked, by their number among those of all tracks, and the mapped files that they lie in."""

    def __init__(self, n_chunks: int) -> None:
        self.addresses: IntArray = np.zeros(n_chunks, dtype=np.int64)  # 0 where a chunk was not checked yet
        self.maps: dict[int, mmap.mmap] = {}


class _Chunk(NamedTuple):
    """A chunk in memory: its address, values from row to row and from frame to frame, bytes still to be checked."""

    chunk: int
    pitch: int
    step: int
    size: int
    owner: mmap.mmap | AnyArray  # what it lies in


class DiskTier:
    """Crops straight from the files; of a store in a bucket, from local copies of them.

    The values of every crop are checked. The checksum of an uncompressed chunk is checked when it is first read; after
    that the chunk stays mapped, and crops are copied out of the page cache. With ``recheck``, and for compressed chunks
    always (they are decoded for each crop), the checksum is checked on every read. With ``once``, as every chunk will
    be read once only, no files are copied from a bucket and no chunks stay mapped.
    """

    def __init__(self, source: Input, *, recheck: bool = False, once: bool = False) -> None:
        self._source = source
        if not once:
            source.base.stage()
        self._size, self._keeps = source.base.chunk_frames, source.base.mapped and not (recheck or once)
        lengths = np.where(source.rows < 0, 0, source.base.lengths[source.rows])
        chunks = -(-lengths // self._size)
        self._first_chunks, self._n_chunks = np.cumsum(chunks) - chunks, int(chunks.sum())
        self._layout = (self._size, 1)  # values from row to row, and from frame to frame, in chunks that stay mapped
        self._checked = _Checked(self._n_chunks)
        self._from_disk = 1.0  # share of the chunks read of late that were not in memory

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_checked": _Checked(self._n_chunks)}

    def fill(self, rooms: Rooms, tracks: IntArray, starts: IntArray, counts: IntArray) -> None:
        """Put frames ``start … start + count`` of each track into its room; all are int64 ``(n_crops,)``.

        Raises
        ------
        CorruptFeature
            When stored bytes are damaged or values are missing; it names the track.
        """
        if len(self._checked.maps) > _MAPS:
            self._checked = _Checked(self._n_chunks)
        began, checked = time.perf_counter(), self._checked
        crop, chunk, pieces = self._cut(rooms, starts, counts)
        track = tracks[crop]
        numbers = self._first_chunks[track] + chunk
        pieces["chunk"] = checked.addresses[numbers]
        pieces["pitch"], pieces["step"] = self._layout  # read after the addresses: it is written before them
        fresh = np.flatnonzero(pieces["chunk"] == 0)
        _, first, again = np.unique(numbers[fresh], return_index=True, return_inverse=True)
        first = fresh[first]
        found = self._find(track[first].tolist(), chunk[first].tolist())
        for name in ("chunk", "pitch", "step"):
            pieces[name][fresh] = np.array([getattr(one, name) for one in found])[again]
        pieces["size"][first] = [one.size for one in found]
        pieces["begin"] *= pieces["step"]
        pieces["step"] *= self._source.stride
        gather(pieces, self._source.decoder, rows=self._source.n_rows, decoded=rooms.decoded)
        bad = crop[pieces["verdict"] != 0][:1]
        if len(bad):
            self._source.check(int(tracks[bad[0]]), int(starts[bad[0]]), int(counts[bad[0]]))
            self.fill(rooms, tracks, starts, counts)  # it has been mended meanwhile
            return
        for number, one in zip(numbers[first].tolist(), found, strict=True):
            if self._keeps and isinstance(one.owner, mmap.mmap):
                self._layout, checked.maps[id(one.owner)] = (one.pitch, one.step), one.owner
                checked.addresses[number] = one.chunk
        self._note(time.perf_counter() - began, len(pieces), len(found))

    def fill_whole(self, rooms: Rooms, tracks: IntArray) -> None:
        """Put whole tracks into their rooms; errors as for :meth:`fill`."""
        self.fill(rooms, tracks, np.zeros_like(tracks), self._source.lengths[tracks])

    def _cut(self, rooms: Rooms, starts: IntArray, counts: IntArray) -> tuple[IntArray, IntArray, NDArray[Any]]:
        """Pieces of crops that lie in one chunk each, with the number of the crop and of its track's chunk."""
        step, size = self._source.stride, self._size
        first = starts * step // size
        chunks = np.where(counts > 0, (starts + counts - 1) * step // size - first + 1, 0)
        crop = np.repeat(np.arange(len(starts)), chunks)
        chunk = np.arange(len(crop)) - (np.cumsum(chunks) - chunks - first)[crop]
        begin = np.maximum(starts[crop], -(-chunk * size // step))
        end = np.minimum((starts + counts)[crop], -(-(chunk + 1) * size // step))
        pieces = rooms.pieces(crop, begin - starts[crop])
        pieces["begin"], pieces["frames"] = begin * step - chunk * size, end - begin
        return crop, chunk, pieces

    def _find(self, tracks: Sequence[int], chunks: Sequence[int]) -> list[_Chunk]:
        """Find chunks in memory that were not read before, after asking the disk for all of them."""
        if self._keeps and self._from_disk > 0.1:  # takes a tenth of the time of reading them where they are in memory
            for place in zip(tracks, chunks, strict=True):
                self._source.expect(*place)
        return [self._find_one(*place) for place in zip(tracks, chunks, strict=True)]

    def _find_one(self, track: int, chunk: int) -> _Chunk:
        mapped = self._source.mapped_chunk(track, chunk) if checksum_address() else None
        if mapped is not None:
            file, address, size = mapped
            return _Chunk(address, self._size, 1, size, file)
        codes = self._source.read_chunk(track, chunk)
        table = codes.reshape(self._source.n_rows, -1)
        pitch, step = (size // codes.itemsize for size in table.strides)
        address = table.__array_interface__["data"][0]
        return _Chunk(address, pitch, step, 0, _mapped_file(table) or table)

    def _note(self, seconds: float, pieces: int, fresh: int) -> None:
        """Learn from the time that pieces took, some of them out of fresh chunks, how many were not in memory."""
        # checking a chunk of 262 kB takes some 60 µs where it is in memory: more than 180 µs is waiting for the disk
        waited = seconds > 5e-5 * pieces + 5e-10 * fresh * self._size * self._source.frame_bytes
        self._from_disk += (waited - self._from_disk) * (1 - (31 / 32) ** fresh)


def _mapped_file(codes: NDArray[Any]) -> mmap.mmap | None:
    """Mapped file that an array lies in, so that keeping it takes no memory of its own."""
    owner: Any = codes
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return owner


class RamTier:
    """All listed tracks in one flat array, in their stored type and at the feature's own hop."""

    def __init__(self, source: Input, tracks: NDArray[np.int64]) -> None:
        began = time.perf_counter()
        ordered = _storage_order(source, tracks)
        sizes = source.lengths[ordered] * source.n_rows
        self._source, self._flat = source, np.empty(int(sizes.sum()), dtype=source.dtype)
        self._begins: IntArray = np.zeros(len(source.lengths), dtype=np.int64)
        self._begins[ordered] = np.cumsum(sizes) - sizes
        disk, itemsize = DiskTier(source, once=True), source.dtype.itemsize
        for group in _groups(ordered, sizes * itemsize):
            places = self._flat.ctypes.data + self._begins[group] * itemsize
            disk.fill_whole(Rooms(places, source.lengths[group], itemsize), group)
        seconds, megabytes = time.perf_counter() - began, self._flat.nbytes / 1e6
        logger.info("%s: %d tracks, %.1f MB in memory, %.1f s", source.name, len(ordered), megabytes, seconds)

    def fill(self, rooms: Rooms, tracks: IntArray, starts: IntArray, counts: IntArray) -> None:
        """Put frames ``start … start + count`` of each track into its room; all are int64 ``(n_crops,)``."""
        pieces = rooms.pieces(np.arange(len(tracks)), 0)
        pieces["chunk"] = self._flat.__array_interface__["data"][0]
        pieces["begin"], pieces["frames"] = self._begins[tracks] + starts, counts
        pieces["pitch"], pieces["step"] = self._source.lengths[tracks], 1
        gather(pieces, self._source.decoder, rows=self._source.n_rows, decoded=rooms.decoded)


class DeviceTier:
    """All listed tracks on the device, joined along time: ``(*lead, all frames)``; crops are gathered there."""

    def __init__(self, source: Input, tracks: NDArray[np.int64], *, device: torch.device, longest: int) -> None:
        began = time.perf_counter()
        offsets = np.full(len(source.lengths), -1, dtype=np.int64)
        ordered = _storage_order(source, tracks)
        frames = source.lengths[ordered]
        offsets[ordered] = np.cumsum(frames) - frames
        # a padded crop may reach past the last track: its mask hides what is there, but the memory must exist
        total = int(frames.sum()) + longest
        self._codes = torch.zeros((*source.lead, total), dtype=torch_dtype(source.dtype), device=device)
        self._offsets = torch.from_numpy(offsets).to(device)
        disk = DiskTier(source, once=True)
        for group in _groups(ordered, frames * source.frame_bytes):
            ends = np.cumsum(source.lengths[group])
            count = int(ends[-1])
            block = np.empty((*source.lead, count), dtype=source.dtype)
            places = block.ctypes.data + (ends - source.lengths[group]) * block.itemsize
            disk.fill_whole(Rooms(places, np.full_like(ends, count), block.itemsize), group)
            first = int(offsets[group[0]])
            self._codes[..., first : first + count] = torch.from_numpy(block).to(device)
        megabytes = self._codes.numel() * self._codes.element_size() / 1e6
        logger.info(
            "%s: %d tracks, %.1f MB on %s, %.1f s",
            source.name,
            len(tracks),
            megabytes,
            device,
            time.perf_counter() - began,
        )

    def gather(self, tracks: torch.Tensor, starts: torch.Tensor, frames: int) -> torch.Tensor:
        """Codes ``(batch, *lead, frames)`` of crops; ``tracks`` and ``starts`` are int64 on the device."""
        codes = self._codes
        # torch has few operations on 16-bit unsigned numbers: their bits travel as signed ones
        bits = codes.view(torch.int16) if codes.dtype == torch.uint16 else codes
        windows = bits.unfold(-1, frames, 1).movedim(-2, 0)
        crops = windows.index_select(0, self._offsets[tracks] + starts)
        return crops.view(torch.uint16) if codes.dtype == torch.uint16 else crops


def _storage_order(source: Input, tracks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tracks, each once, in the order of their rows: files are read from front to back."""
    unique = np.unique(tracks)
    return unique[np.argsort(source.rows[unique], kind="stable")]


def _groups(tracks: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut a list of tracks with their bytes into stretches that are read in one go."""
    group = (np.cumsum(sizes) - sizes) // _BLOCK_BYTES
    return np.split(tracks, np.flatnonzero(np.diff(group)) + 1) if len(tracks) else []


def free_memory() -> int:
    """Bytes of RAM that this process may still take: what the system has free, within its control group's limit."""
    import psutil

    free: int = psutil.virtual_memory().available
    root = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # no such group, or its limit is "max"
            continue
    return max(0, free)


def choose_tier(inputs: Sequence[Input], *, tier: Tier, device: torch.device, processes: int = 1) -> Tier:
    """Resolve ``auto``: the device if it is one and has room, else RAM if it has room, else disk.

    Parameters
    ----------
    processes : int
        How many processes share this machine's memory; each one holds a copy.
    """
    if tier not in ("auto", "disk", "ram", "gpu"):
        raise ConfigError(f"tier={tier!r} is unknown", "loader", "Use auto, disk, ram or gpu")
    if tier != "auto":
        return tier
    needed = sum(one.held_bytes for one in inputs)
    if device.type == "cuda" and needed <= _SHARE * torch.cuda.mem_get_info(device)[0]:
        return "gpu"
    return "ram" if needed * processes <= _SHARE * free_memory() else "disk"
