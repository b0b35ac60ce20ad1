"""Where crops come from: the files (disk), this process's memory (ram), or the device itself (gpu).

Every tier gives the same codes for the same crop; views and de-quantisation come later, on the device.
"""

from __future__ import annotations

import logging
import mmap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.errors import ConfigError
from featstore.loaders.codes import torch_dtype
from featstore.loaders.inputs import Input

__all__ = ["DeviceTier", "DiskTier", "RamTier", "Tier", "choose_tier", "free_memory"]

logger = logging.getLogger(__name__)

Tier = Literal["auto", "disk", "ram", "gpu"]

_SHARE = 0.5  # of the free memory that auto may fill
_MAPPED_CHUNKS = 1 << 18  # arrays over mapped files that are kept, some 500 bytes each


class HostTier(Protocol):
    """A source that copies crops into host memory."""

    def expect(self, track: int, start: int, count: int) -> None:
        """Say that these frames will be asked for soon."""

    def fill(self, out: NDArray[Any], track: int, start: int, count: int) -> None:
        """Put frames ``start … start + count`` of a track into ``out`` ``(*lead, count)``: see :meth:`Decoder.put`."""


class DiskTier:
    """Crops straight from the files; of a store in a bucket, from local copies of them.

    The values of every crop are checked. The checksum of an uncompressed chunk is checked when it is first read; after
    that the chunk stays mapped, and crops are copied out of the page cache. With ``recheck``, and for compressed chunks
    always (they are decoded for each crop), the checksum is checked on every read.
    """

    def __init__(self, source: Input, *, recheck: bool = False) -> None:
        self._source, self._put = source, source.decoder.put
        source.base.stage()
        self._chunk_frames = 0 if recheck else source.base.mapped_frames  # 0 keeps nothing
        self._chunks: dict[tuple[int, int], NDArray[Any]] = {}
        self._from_disk = 1.0  # share of the chunks read of late that were not in memory

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_chunks": {}}

    def expect(self, track: int, start: int, count: int) -> None:
        """Let the disk fetch the chunks with these frames meanwhile, where they were not read before.

        It costs a tenth of the time of reading them where they are in memory, so it is done while some are not.
        """
        if self._chunk_frames and count and self._from_disk > 0.1:
            size, step = self._chunk_frames, self._source.stride
            for chunk in range(start * step // size, (start + count - 1) * step // size + 1):
                if (track, chunk) not in self._chunks:
                    self._source.expect(track, chunk)

    def fill(self, out: NDArray[Any], track: int, start: int, count: int) -> None:
        """Put frames ``start … start + count`` of a track into ``out`` ``(*lead, count)``: see :meth:`Decoder.put`."""
        if not self._chunk_frames:
            self._move(out, self._source.read(track, start, count), track, start)
            return
        size, step = self._chunk_frames, self._source.stride
        done = 0
        while done < count:
            chunk, first = divmod((start + done) * step, size)
            kept = self._chunks.get((track, chunk))
            codes = self._read_chunk(track, chunk) if kept is None else kept
            here = min(count - done, -(-(size - first) // step))
            part = out[..., done : done + here] if here < count else out
            self._move(part, codes[..., first : first + here * step : step], track, start + done)
            done += here

    def _move(self, out: NDArray[Any], codes: NDArray[Any], track: int, start: int) -> None:
        self._put(out, codes)
        # what was just written is in the processor's cache, and of one piece
        written = out if out.dtype == codes.dtype else codes
        self._source.check(written, track, start * self._source.stride, self._source.stride)

    def _read_chunk(self, track: int, chunk: int) -> NDArray[Any]:
        """Read a whole chunk, which checks its bytes; keep it where it is mapped."""
        began = time.perf_counter()
        codes = self._source.read_chunk(track, chunk)
        # checking a chunk of 262 kB takes some 60 µs where it is in memory: more than 180 µs is waiting for the disk
        waited = time.perf_counter() - began > 5e-5 + 5e-10 * codes.nbytes
        self._from_disk += (waited - self._from_disk) / 32
        if _is_mapped(codes):
            if len(self._chunks) >= _MAPPED_CHUNKS:
                self._chunks.clear()
            self._chunks[track, chunk] = codes
        return codes


def _is_mapped(codes: NDArray[Any]) -> bool:
    """Whether an array lies in a mapped file, so that keeping it takes no memory of its own."""
    owner: Any = codes
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return owner is not None


class RamTier:
    """All listed tracks in one flat array, in their stored type and at the feature's own hop."""

    def __init__(self, source: Input, tracks: NDArray[np.int64]) -> None:
        began = time.perf_counter()
        ordered = _storage_order(source, tracks)
        sizes = source.lengths[ordered] * int(np.prod(source.lead, dtype=np.int64))
        self._flat = np.empty(int(sizes.sum()), dtype=source.dtype)
        self._views: dict[int, NDArray[Any]] = {}
        self._put = source.decoder.put
        for track, end, size in zip(ordered.tolist(), np.cumsum(sizes).tolist(), sizes.tolist(), strict=True):
            length = int(source.lengths[track])
            view = self._views[track] = self._flat[end - size : end].reshape(*source.lead, length)
            view[...] = source.read(track, 0, length)
            source.check(view, track, 0, source.stride)
        seconds, megabytes = time.perf_counter() - began, self._flat.nbytes / 1e6
        logger.info("%s: %d tracks, %.1f MB in memory, %.1f s", source.name, len(ordered), megabytes, seconds)

    def expect(self, track: int, start: int, count: int) -> None:
        """All is here."""

    def fill(self, out: NDArray[Any], track: int, start: int, count: int) -> None:
        """Put frames ``start … start + count`` of a track into ``out`` ``(*lead, count)``: see :meth:`Decoder.put`."""
        self._put(out, self._views[track][..., start : start + count])


class DeviceTier:
    """All listed tracks on the device, joined along time: ``(*lead, all frames)``; crops are gathered there."""

    def __init__(
        self,
        source: Input,
        tracks: NDArray[np.int64],
        *,
        device: torch.device,
        longest: int,
        block_bytes: int = 1 << 26,
    ) -> None:
        began = time.perf_counter()
        offsets = np.full(len(source.lengths), -1, dtype=np.int64)
        ordered = _storage_order(source, tracks)
        frames = source.lengths[ordered]
        offsets[ordered] = np.cumsum(frames) - frames
        # a padded crop may reach past the last track: its mask hides what is there, but the memory must exist
        total = int(frames.sum()) + longest
        self._codes = torch.zeros((*source.lead, total), dtype=torch_dtype(source.dtype), device=device)
        self._offsets = torch.from_numpy(offsets).to(device)
        frame_bytes = max(1, int(np.prod(source.lead, dtype=np.int64)) * source.dtype.itemsize)
        for group in _groups(ordered, frames * frame_bytes, block_bytes):
            count = int(source.lengths[group].sum())
            block = np.empty((*source.lead, count), dtype=source.dtype)
            at = 0
            for track in group.tolist():
                length = int(source.lengths[track])
                block[..., at : at + length] = source.read(track, 0, length)
                source.check(block[..., at : at + length], track, 0, source.stride)
                at += length
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


def _groups(tracks: NDArray[np.int64], sizes: NDArray[np.int64], block_bytes: int) -> list[NDArray[np.int64]]:
    """Cut a list of tracks into stretches of about ``block_bytes``."""
    if len(tracks) == 0:
        return []
    group = (np.cumsum(sizes) - sizes) // block_bytes
    return np.split(tracks, np.flatnonzero(np.diff(group)) + 1)


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
