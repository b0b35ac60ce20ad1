"""How one logical array is cut into shard files and chunks: arithmetic shared by writers, readers and forecasts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featstore.arrays import AnyArray, IntArray
from featstore.specs import Encoding, FeatureSpec, parse_spec
from featstore.specs.ranges import Ranges

__all__ = [
    "COMPRESSIONS",
    "ArrayHeader",
    "Layout",
    "StoredArray",
    "choose_layout",
    "choose_shard_tracks",
    "mean_duration",
]

COMPRESSIONS = ("none", "lz4", "zstd")
CHUNK_BYTES = 256 << 10  # a crop of a few seconds touches one or two chunks; a checksum over it costs ~20 us
SLAB_SECONDS = 600.0  # a whole-track shard file holds this much of each of its tracks
SHARD_BYTES = 256 << 20
SHARD_TRACKS = (16, 4096)
MOST_SHARDS = 4000
STORE_FILES = 6  # of a finished store: root and its group or master file, tracks, manifest, request, log
UNKNOWN_DURATION_S = 240.0  # of a track, where no other one tells


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What a store must know of a feature, without knowing how it is computed.

    An array grows along one axis: time, or, where the clip policy takes many excerpts of a track, the axis of excerpts
    ``clip``, behind which each excerpt has the same number of frames. What this room calls the frames of a track are
    its places along that axis.

    Attributes
    ----------
    spec, encoding : FeatureSpec, Encoding
        Together the array's identity.
    item_shape : tuple of int
        Axes of one track before time: ``(n_mels,)``, ``(bins,)`` or ``()``.
    dims : tuple of str
        Names of the axes of one track, e.g. ``("band", "frame")`` or ``("clip", "band", "frame")``.
    fixed_frames : int or None
        Frames of every track where the clip policy fixes them, None where tracks differ.
    clip_frames : int or None
        Frames of each excerpt where there is an axis of excerpts, else None.

    See Also
    --------
    StoredArray : Header and layout.
    """

    spec: FeatureSpec
    encoding: Encoding
    item_shape: tuple[int, ...]
    dims: tuple[str, ...]
    fixed_frames: int | None = None
    clip_frames: int | None = None

    @property
    def has_clips(self) -> bool:
        """Whether a track is many excerpts, and the array grows along ``clip``."""
        return self.clip_frames is not None

    @property
    def lengths_name(self) -> str:
        """Name of the array beside the data that counts each track's places along the growing axis."""
        return "n_clips" if self.has_clips else "n_frames"

    def shape_of(self, n_frames: int, *before: int) -> tuple[int, ...]:
        """Shape of a stretch of one track or, with ``before``, of several: frames last, excerpts first."""
        if self.clip_frames is None:
            return (*before, *self.item_shape, n_frames)
        return (*before, n_frames, *self.item_shape, self.clip_frames)

    def chunk_place(self, row: int, frame: int) -> tuple[int, ...]:
        """Return a place in the whole array, zero on all axes but those of tracks and of growth."""
        if self.has_clips:
            return (row, frame, *(0 for _ in self.item_shape), 0)
        return (row, *(0 for _ in self.item_shape), frame)

    def stretch(self, values: AnyArray, start: int, stop: int) -> AnyArray:
        """Part of one track's values along the axis of growth, a view."""
        part: AnyArray = values[start:stop] if self.has_clips else values[..., start:stop]
        return part

    @property
    def key(self) -> str:
        """Name of the array's folder."""
        return self.spec.key(str(self.encoding))

    @property
    def name(self) -> str:
        """Canonical name with the encoding."""
        return f"{self.spec}@{self.encoding}"

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame (one excerpt) of one track."""
        return math.prod(self.shape_of(1)) * self.encoding.dtype.itemsize

    @property
    def frames_per_second(self) -> float:
        """Frames (or samples, or excerpts) of the growing axis in a second."""
        if self.has_clips:
            return 1 / self.spec.clip.step_s
        return self.spec.sample_rate / self.spec.frame_step

    def cf_attributes(self) -> dict[str, Any]:
        """Attributes of the data itself by which plain readers decode it, but for the fill value.

        They are those of the CF conventions; an encoding that these cannot express has ``decode_table``, the value of
        each valid code.
        """
        attributes: dict[str, Any] = {
            "long_name": self.spec.short(),
            "spec": str(self.spec),
            "encoding": str(self.encoding),
        }
        encoding = self.encoding
        if encoding.is_affine:
            attributes |= {"scale_factor": encoding.scale_factor, "add_offset": encoding.add_offset}
        if encoding.levels is not None:
            attributes["decode_table"] = encoding.levels.tolist()
        if encoding.table is not None:
            attributes["decode_ranges"] = "value = low + code * (high - low) / last_code; see the array's ranges"
        return attributes


@dataclass(frozen=True, slots=True)
class Layout:
    """Cut of one array: shard files of ``shard_tracks`` x ``slab_frames``, chunks of one track x ``chunk_frames``.

    ``slab_frames`` is a whole number of chunks. Long tracks go on in the next slab, a file of its own.
    """

    shard_tracks: int
    slab_frames: int
    chunk_frames: int
    compression: str = "none"

    @property
    def slab_chunks(self) -> int:
        """Chunks of one track in one shard file."""
        return self.slab_frames // self.chunk_frames

    @property
    def index_entries(self) -> int:
        """Chunks that a shard file has room for."""
        return self.shard_tracks * self.slab_chunks

    def n_slabs(self, n_frames: int) -> int:
        """Shard files along time of a shard whose longest track has ``n_frames`` frames: one at least."""
        return max(1, -(-n_frames // self.slab_frames))

    def n_files(self, lengths: IntArray) -> int:
        """Shard files of tracks of these lengths."""
        longest = np.maximum.reduceat(lengths, np.arange(0, len(lengths), self.shard_tracks))
        return int(np.maximum(1, -(-longest // self.slab_frames)).sum())

    def data_bytes(self, header: ArrayHeader, lengths: Sequence[int] | IntArray) -> int:
        """Bytes of all data files for tracks of these lengths (-1: nothing stored), not compressed."""
        frames = np.maximum(np.asarray(lengths, dtype=np.int64), 0)
        chunks = -(-frames // self.chunk_frames)
        tables = self.n_files(frames) * (16 * self.index_entries + 4)
        chunk_bytes = header.frame_bytes * self.chunk_frames + 4  # each with its crc32c
        return int(chunks.sum()) * chunk_bytes + tables


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of a store: what it holds, and how it is cut into files.

    Attributes
    ----------
    header : ArrayHeader
    layout : Layout

    See Also
    --------
    ArrayHeader : What its metadata say.
    """

    header: ArrayHeader
    layout: Layout

    @property
    def key(self) -> str:
        """Name of the array's folder."""
        return self.header.key

    @property
    def spec(self) -> FeatureSpec:
        """Feature that the array holds."""
        return self.header.spec

    def as_attributes(self) -> dict[str, Any]:
        """What an array's group says of itself in any backend: enough to read the array again."""
        header, spec, encoding = self.header, self.header.spec, self.header.encoding
        clips = {"clip_frames": header.clip_frames, "clip_step_s": spec.clip.step_s} if header.has_clips else {}
        scale: dict[str, Any] = {"scale_factor": encoding.scale_factor, "add_offset": encoding.add_offset}
        if encoding.table is not None:
            scale = {"ranges": {"low": encoding.table.low.tolist(), "high": encoding.table.high.tolist()}}
        return (
            clips
            | ({} if encoding.levels is not None else scale)
            | {
                "spec": str(spec),
                "encoding": str(encoding),
                "sample_rate": spec.sample_rate,
                "frame_step": spec.frame_step,
                "layout": asdict(self.layout),
                "item_shape": list(header.item_shape),
                "dims": list(header.dims),
                "fixed_frames": header.fixed_frames,
            }
        )

    @classmethod
    def from_attributes(cls, attributes: dict[str, Any]) -> StoredArray:
        """Read what :meth:`as_attributes` wrote."""
        spec = parse_spec(attributes["spec"])
        encoding = Encoding.parse(attributes["encoding"], spec)
        if encoding.ranges:
            named, encoding = encoding, encoding.with_ranges(Ranges(**attributes["ranges"]))
            if named != encoding:
                raise ValueError("the ranges of an encoding are not those of its name")
        item, dims = tuple(attributes["item_shape"]), tuple(attributes["dims"])
        layout = Layout(**attributes["layout"])
        fixed, clips = attributes["fixed_frames"], attributes.get("clip_frames")
        counts = [layout.shard_tracks, layout.slab_frames, layout.chunk_frames, *item]
        if not all(_is_count(value) for value in counts) or layout.slab_frames % layout.chunk_frames:
            raise ValueError("sizes of an array are no whole numbers that fit each other")
        if not all(value is None or _is_count(value, least=0) for value in (fixed, clips)):
            raise ValueError("numbers of frames are no whole numbers")
        if len(dims) != len(item) + 1 + (clips is not None) or not all(isinstance(name, str) for name in dims):
            raise ValueError("the axes of an array have no proper names")
        return cls(ArrayHeader(spec, encoding, item, dims, fixed, clips), layout)


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 40


def choose_layout(header: ArrayHeader, shard_tracks: int, compression: str = "none") -> Layout:
    """Cut an array so that chunks are near 256 KiB and a file covers the clip, or about ten minutes of each track."""
    target = max(1, CHUNK_BYTES // max(1, header.frame_bytes))
    total = header.fixed_frames or math.ceil(SLAB_SECONDS * header.frames_per_second)
    if header.fixed_frames is None:
        target = min(target, math.ceil(10 * header.frames_per_second))  # a short track wastes at most its last 10 s
    pieces = max(1, round(total / target))
    chunk = -(-total // pieces)
    return Layout(shard_tracks, chunk * pieces, chunk, compression)


def mean_duration(durations_s: Iterable[float]) -> float:
    """Mean of the durations that are known (not NaN), in seconds; four minutes when none is."""
    given = np.fromiter(durations_s, dtype=np.float64)
    known = given[~np.isnan(given)]
    return float(known.mean()) if known.size else UNKNOWN_DURATION_S


def choose_shard_tracks(headers: Iterable[ArrayHeader], durations_s: Iterable[float], n_tracks: int) -> int:
    """Tracks a shard: about 256 MiB of all features together, 16 to 4096; small sets get some 16 shards to share out.

    Parameters
    ----------
    headers : iterable of ArrayHeader
        The arrays asked for at creation.
    durations_s : iterable of float
        Probed durations; unknown ones (NaN) count as the others' mean, four minutes when all are unknown.
    n_tracks : int
    """
    mean_s = mean_duration(durations_s)
    per_track = sum(h.frame_bytes * (h.fixed_frames or max(1.0, mean_s * h.frames_per_second)) for h in headers)
    by_bytes = int(SHARD_BYTES // max(1.0, per_track))
    by_count = -(-n_tracks // 16)
    by_files = n_tracks // MOST_SHARDS  # a million tracks of many features must not become a million files
    low, high = SHARD_TRACKS
    return min(max(min(by_bytes, by_count), by_files, low), high)
