"""Writing one shard of several arrays: frames stream in track by track, a commit makes them exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import StoreError
from featstore.store.backends import Backend
from featstore.store.layout import StoredArray
from featstore.store.leases import Lease
from featstore.store.manifest import open_manifest
from featstore.store.records import CommitRecord, Outcome, hide_record, last_generation, record_name
from featstore.store.spool import SlabWriter

__all__ = ["ShardWriter"]


@dataclass(slots=True)
class _Quality:
    """What the encoding cost, summed over values."""

    values: int = 0
    saturated: int = 0
    max_error: float = 0.0
    sum_error: float = 0.0
    near_ties: int | None = None  # of tokens, where the codec counts them

    def merged(self, other: _Quality) -> _Quality:
        return _Quality(
            self.values + other.values,
            self.saturated + other.saturated,
            max(self.max_error, other.max_error),
            self.sum_error + other.sum_error,
            other.near_ties if self.near_ties is None else self.near_ties + (other.near_ties or 0),
        )


@dataclass(slots=True)
class _Progress:
    """A track in the making in one array."""

    slot: int = -1
    frames: int = 0
    buffered: int = 0
    quality: _Quality = field(default_factory=_Quality)


class ArrayWriter:
    """One array's part of a shard: collects frames into chunks, encodes them, appends them to the shard files."""

    def __init__(self, backend: Backend, array: StoredArray, shard: int, n_rows: int, folder: Path) -> None:
        self.array, self.header, self.layout, self.shard = array, array.header, array.layout, shard
        self._backend, self._folder = backend, folder
        self._slabs: dict[int, SlabWriter] = {}
        shape, encoding = self.header.shape_of(self.layout.chunk_frames), self.header.encoding
        self._buffer, self._codes = np.empty(shape, np.float32), np.empty(shape, encoding.dtype)
        self._fill = encoding.fill_value
        self._track = _Progress()
        self._quality = _Quality()
        self.lengths = np.full(n_rows, -1, dtype=np.int64)

    def begin(self, slot: int) -> None:
        self._track = _Progress(slot)
        for writer in self._slabs.values():
            writer.begin(slot)

    def append(self, block: FloatArray) -> None:
        """Take the next frames, shape (*item_shape, n); of an array of excerpts (n, *item_shape, frames)."""
        stretch = self.header.stretch
        track, size, start = self._track, self.layout.chunk_frames, 0
        total = len(block) if self.header.has_clips else block.shape[-1]
        while start < total:
            take = min(size - track.buffered, total - start)
            if take == size:  # a whole chunk at once: no detour through the buffer
                self._emit(stretch(block, start, start + size), size)
            else:
                held = stretch(self._buffer, track.buffered, track.buffered + take)
                held[...] = stretch(block, start, start + take)
                track.buffered += take
                if track.buffered == size:
                    self._emit(self._buffer, size)
                    track.buffered = 0
            start += take

    def end(self, near_ties: int | None = None) -> int:
        """Close the track and return its number of frames; nothing is stored of a track without a frame."""
        track, wanted = self._track, self.header.fixed_frames
        if not track.buffered and not track.frames and not wanted:
            return 0
        if track.buffered:
            self._emit(self._buffer, track.buffered)
        n_frames = track.frames
        if wanted is not None and n_frames != wanted:
            raise StoreError(
                f"a track has {n_frames} frames instead of {wanted}", self.header.name, "Report this as a bug"
            )
        self._quality = self._quality.merged(track.quality).merged(_Quality(near_ties=near_ties))
        self.lengths[track.slot] = n_frames
        return n_frames

    def roll_back(self) -> None:
        """Forget the track in the making."""
        self._track = _Progress(self._track.slot)
        for writer in self._slabs.values():
            writer.roll_back()

    def _emit(self, values: FloatArray, valid: int) -> None:
        """Write a chunk; with fewer than its frames it is a track's last one, and lies in the buffer."""
        track, layout = self._track, self.layout
        stretch, size = self.header.stretch, layout.chunk_frames
        if self.header.encoding.name != "float32":
            codes = self._encode(stretch(values, 0, valid))
        elif valid < size:  # nothing to compute, so nothing to copy
            codes = self._buffer
            stretch(codes, valid, size)[...] = self._fill
        else:
            codes = np.ascontiguousarray(values, np.float32)
        slab, chunk = divmod(track.frames // size, layout.slab_chunks)
        self.put(slab, track.slot, chunk, codes)
        track.frames += valid

    def put(self, slab: int, slot: int, chunk: int, codes: AnyArray) -> None:
        """Write an encoded chunk, filled up at its end."""
        self._slab(slab).append(slot, chunk, codes)

    def _encode(self, values: FloatArray) -> AnyArray:
        """Codes of a whole chunk, filled up at its end; what that costs in exactness is counted."""
        codes, saturated, max_error, sum_error = self.header.encoding.encode_measured(values)
        self._track.quality = self._track.quality.merged(_Quality(codes.size, saturated, max_error, sum_error))
        if codes.shape == self._buffer.shape:
            return codes
        count = len(codes) if self.header.has_clips else codes.shape[-1]
        self.header.stretch(self._codes, 0, count)[...] = codes
        self.header.stretch(self._codes, count, self.layout.chunk_frames)[...] = self._fill
        return self._codes

    def _slab(self, slab: int) -> SlabWriter:
        if slab not in self._slabs:
            path = self._folder / f"{self.header.key}.{self.shard}.{slab}"
            self._slabs[slab] = self._backend.slab_writer(path, self.array)
            self._slabs[slab].begin(self._track.slot)
        return self._slabs[slab]

    def finish(self) -> list[tuple[str, Path, int, str]]:
        """Close the shard files; (name, staged path, bytes, digest) of each. Slab 0 always exists."""
        self._slab(0)
        keep = self.layout.n_slabs(int(self.lengths.max(initial=0)))
        files = []
        for slab, writer in sorted(self._slabs.items()):
            if slab >= keep:  # only a track that was rolled back ever reached it
                writer.abandon()
                continue
            size, digest = writer.close(self.lengths)
            files.append((self._backend.slab_name(self.array, self.shard, slab), writer.path, size, digest))
        return files

    def abandon(self) -> None:
        for writer in self._slabs.values():
            writer.abandon()

    @property
    def quality(self) -> dict[str, float]:
        """Summary for the commit record; empty for float32, which costs nothing."""
        if self.header.encoding.name == "float32":
            return {}
        return {name: value for name, value in asdict(self._quality).items() if value is not None}


_NO_FRAME = "the signal is shorter than one frame. Leave the track out, ask for framing=librosa, or raise sample_rate"


class ShardWriter:
    """Write one shard of several arrays under a lease; nothing is visible before :meth:`commit`.

    Use as a context manager. For each slot of the shard call :meth:`begin`, any number of :meth:`append`, and
    :meth:`end`, or :meth:`fail` where the track cannot be had.

    Parameters
    ----------
    backend : Backend
    arrays : sequence of StoredArray
    shard : int
    rows : range
        Rows of the store that the shard covers.
    run : str
        Label of the run, shown to other writers of the shard.

    See Also
    --------
    featstore.extract.extract : Writes shards and commits them.
    """

    def __init__(self, backend: Backend, arrays: Sequence[StoredArray], shard: int, rows: range, run: str = "") -> None:
        self.location, self.shard, self.rows = backend.location, shard, rows
        self._backend, self._arrays = backend, list(arrays)
        self._lease = Lease(self.location, [array.key for array in arrays], shard, run)
        self._writers: dict[str, ArrayWriter] = {}
        self._sources = [""] * len(rows)
        self._outcomes: dict[str, list[Outcome]] = {array.key: [] for array in arrays}
        self._slot = -1

    def __enter__(self) -> ShardWriter:
        self._lease.__enter__()
        try:
            folder = self._lease.staging()
            for array in self._arrays:
                self._writers[array.key] = ArrayWriter(self._backend, array, self.shard, len(self.rows), folder)
        except BaseException:  # a refused folder may not leave a lease behind that a heartbeat keeps alive
            self._lease.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for writer in self._writers.values():
                writer.abandon()
        finally:
            self._lease.__exit__()

    def begin(self, slot: int, source: str = "") -> None:
        """Start track number ``slot`` of the shard; ``source`` is the fingerprint of its file."""
        self._slot = slot
        self._sources[slot] = source
        for writer in self._writers.values():
            writer.begin(slot)

    def append(self, key: str, block: FloatArray) -> None:
        """Add frames (*item_shape, n) of the current track to one array."""
        self._writers[key].append(block)

    def end(
        self,
        status: str = "ok",
        *,
        source: str | None = None,
        error: str = "",
        path: str = "",
        silent: Mapping[str, str] | None = None,
        short: Mapping[str, Exception] | None = None,
        source_rate: int | None = None,
        near_ties: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Close the current track; frames per array. A status other than ``ok`` is kept with its reason.

        An array that the track gives no frame is without data (``short``), whatever the others have. ``silent`` has a
        sentence for each array whose signal is silent, ``short`` the error for each that the track is too short for:
        what that array was given is dropped. A codec takes one rate: tokens of a track whose file has another
        (``source_rate``, Hz) are ``ok`` with a note. ``near_ties`` counts for token arrays the tokens of the track that
        rounding may have decided.
        """
        if source is not None:
            self._sources[self._slot] = source
        row, counted, silent, short = self.rows[self._slot], near_ties or {}, silent or {}, short or {}
        frames = {}
        for key, writer in self._writers.items():
            rate, found = writer.header.spec.sample_rate, self._outcomes[key]
            if key in short:
                writer.roll_back()
                frames[key] = 0
                found.append(Outcome(row, "short", "decode", str(short[key]), path))
                continue
            frames[key] = writer.end(counted.get(key))
            if frames[key] == 0:
                found.append(Outcome(row, "short", "compute", f"{path or 'the track'}: {_NO_FRAME}", path))
                continue
            if writer.header.encoding.is_tokens and source_rate not in (None, rate):
                note = f"resampled from {source_rate} Hz to {rate} Hz, the rate of the codec"
                found.append(Outcome(row, "ok", "resample", note, path if status != "ok" else ""))
            if key in silent:
                found.append(Outcome(row, "silent", "", silent[key], path))
            elif status != "ok":
                found.append(Outcome(row, status, "", error, path))
        return frames

    def fail(self, slot: int, status: str, stage: str, error: str, path: str = "") -> None:
        """Leave a track without data, for a reason that the ledger keeps."""
        if slot == self._slot:
            for writer in self._writers.values():
                writer.roll_back()
        self._slot = -1
        for found in self._outcomes.values():
            found.append(Outcome(self.rows[slot], status, stage, error, path))

    def commit(self, versions: dict[str, str]) -> list[CommitRecord]:
        """Move the files of all arrays into place, then write the records; from here on the shard exists.

        Raises
        ------
        StoreError
            When the disk refuses; what was not recorded does not exist and is written again by the next run.
        """
        old, files, steps = {}, {}, []
        for key, writer in self._writers.items():
            self._lease.check()
            old[key] = last_generation(self.location, key, self.shard)
            if old[key] is not None:  # while a shard is replaced it does not exist: readers never see old and new mixed
                open_manifest(self._backend)  # the last one promises the old record; the end of the run writes it again
                hide_record(self.location, key, self.shard)
            staged = writer.finish()
            files[key], moves = self._backend.adopt_shard(writer.array, self.shard, writer.lengths, staged)
            steps += moves
        self.location.together(steps)
        records = [self._record(key, (old[key] or 0) + 1, files[key], versions) for key in self._writers]
        self._lease.check()
        self.location.together(
            [partial(self.location.write, record_name(r.key, r.shard), r.to_bytes()) for r in records]
        )
        self._writers = {}
        return records

    def _record(self, key: str, generation: int, files: dict[str, list[Any]], versions: dict[str, str]) -> CommitRecord:
        writer = self._writers[key]
        return CommitRecord(
            key=key,
            name=writer.header.name,
            shard=self.shard,
            generation=generation,
            first_row=self.rows.start,
            n_frames=[int(n) for n in writer.lengths],
            sources=self._sources,
            outcomes=sorted(self._outcomes[key], key=lambda outcome: outcome.row),
            files=files,
            layout=asdict(writer.layout),
            quality=writer.quality,
            versions=versions,
        )
