"""One feature as a loader sees it: which row holds each listed track, and how stored codes become values."""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray, IntArray
from featstore.errors import ConfigError, CorruptFeature, DatasetError
from featstore.loaders.codes import Decoder, first_hole
from featstore.loaders.crops import CropPlan, Mode, frame_seconds, plan_crops
from featstore.loaders.excerpts import JoinedExcerpts
from featstore.loaders.stored_feature import StoredCodes, StoredFeature

__all__ = ["Input", "check_stored", "plan_inputs"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """A stored feature bound to a list of tracks; excerpts are joined along time.

    Attributes
    ----------
    name : str
        Key of the batches.
    feature : StoredFeature
    base : StoredCodes
        The stored array, or the excerpts of each track joined.
    stride : int
        Frames of ``base`` per frame of the feature.
    track_ids : tuple of str
    rows : numpy.ndarray
        int64 ``(n_tracks,)`` row in the store, -1 where the store lacks the track.
    lengths : numpy.ndarray
        int64 ``(n_tracks,)`` frames of the feature, -1 where it is not stored.
    """

    name: str
    feature: StoredFeature
    base: StoredCodes
    stride: int
    track_ids: tuple[str, ...]
    rows: IntArray
    lengths: IntArray

    @classmethod
    def bind(cls, name: str, feature: StoredFeature, track_ids: Sequence[str]) -> Input:
        """Look the tracks up in the feature's store."""
        base, stride, all_lengths = feature.base, feature.view.stride, feature.lengths
        if feature.clip_frames is not None:
            base, stride = JoinedExcerpts(base, feature.clip_frames, stride), 1
            all_lengths = base.lengths
        rows = feature.rows_of(track_ids)
        lengths = np.where(rows < 0, -1, all_lengths[rows]) if len(all_lengths) else np.full_like(rows, -1)
        return cls(name, feature, base, stride, tuple(track_ids), rows, lengths)

    def take(self, places: IntArray) -> Input:
        """Return the input with some of its tracks only."""
        ids = tuple(self.track_ids[place] for place in places.tolist())
        return replace(self, track_ids=ids, rows=self.rows[places], lengths=self.lengths[places])

    @property
    def lead(self) -> tuple[int, ...]:
        """Axes of one track before time, as it is stored."""
        return self.base.item_shape

    @property
    def n_rows(self) -> int:
        """Rows that the axes before time make."""
        return math.prod(self.lead)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a stored frame."""
        return self.n_rows * self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored type."""
        return self.base.dtype

    @property
    def seconds(self) -> Fraction:
        """Seconds between frames."""
        return frame_seconds(self.feature.spec)

    @property
    def held_bytes(self) -> int:
        """Bytes that the listed tracks take in memory, in their stored type and at the feature's own hop."""
        return int(np.maximum(self.lengths, 0).sum()) * self.frame_bytes

    @cached_property
    def decoder(self) -> Decoder:
        """How codes become values."""
        return Decoder(self.feature.encoding, self.feature.view)

    def read(self, track: int, start: int, count: int) -> AnyArray:
        """Codes ``(*lead, count)`` of a track from frame ``start`` on; a view of the file where that is possible.

        Raises
        ------
        CorruptFeature
            When stored bytes are damaged.
        """
        step = self.stride
        stop = (start + count - 1) * step + 1 if count else start * step
        codes = self.base.read(int(self.rows[track]), start * step, stop)
        return codes[..., ::step] if step > 1 else codes

    def expect(self, track: int, chunk: int) -> None:
        """Say that a chunk of a track's stored base will be read soon."""
        self.base.expect(int(self.rows[track]), chunk)

    def mapped_chunk(self, track: int, chunk: int) -> tuple[mmap.mmap, int, int] | None:
        """Where a chunk of a track's stored base is mapped: see :meth:`StoredCodes.mapped_chunk`."""
        return self.base.mapped_chunk(int(self.rows[track]), chunk)

    def read_chunk(self, track: int, chunk: int) -> AnyArray:
        """Codes ``(*lead, chunk_frames)`` of a chunk of a track's stored base; its last one goes on behind the end."""
        return self.base.read_chunk(int(self.rows[track]), chunk)

    def values(self, track: int, start: int, count: int) -> FloatArray:
        """Decoded values ``(*shape_of_item, count)`` of a track from frame ``start`` on; NaN where one is missing."""
        decoded = self.feature.encoding.decode(self.read(track, start, count))
        return np.asarray(self.feature.view.apply(decoded))

    def check(self, track: int, start: int, count: int) -> None:
        """Read a crop, which checks its bytes, and refuse codes that stand for *missing*."""
        hole = first_hole(self.read(track, start, count), self.decoder.fill)
        if hole is not None:
            frame = (start + hole) * self.stride
            raise CorruptFeature(
                f"track {self.track_ids[track]} holds no value (NaN or fill) at stored frame {frame}",
                self.feature.name,
                "Check the store with: featstore store verify; repair it, or leave the track out of the track table",
            )


def check_stored(inputs: Sequence[Input], missing: str) -> None:
    """Refuse tracks that a store lacks, or log how many are left out."""
    if missing not in ("error", "skip"):
        raise ConfigError(f"missing={missing!r} is unknown", "loader", "Use error or skip")
    for one in inputs:
        absent = np.flatnonzero(one.lengths < 0)
        if len(absent) == 0:
            continue
        shown = ", ".join(one.track_ids[i] for i in absent[:3])
        found = f"{len(absent)} of {len(one.lengths)} tracks are not stored: {shown}{' …' if len(absent) > 3 else ''}"
        if missing == "error" or len(absent) == len(one.lengths):
            fix = "See featstore status --failures, extract again with --retry, or leave them out with missing='skip'"
            raise DatasetError(found, f"input {one.name!r}, {one.feature.name}", fix)
        logger.warning("%s [input %r]; they are left out", found, one.name)


def plan_inputs(
    inputs: Sequence[Input], *, mode: Mode, crop_frames: int | None, window_stride: int | None = None, **settings: Any
) -> CropPlan:
    """Lay out the items of an epoch of some inputs, with the settings of :func:`~featstore.loaders.crops.plan_crops`.

    Raises
    ------
    ConfigError, DatasetError
        As ``plan_crops``; and when a crop is not one excerpt, or inputs with excerpts are combined with inputs without.
    """
    return plan_crops(
        [one.lengths for one in inputs],
        [one.seconds for one in inputs],
        inputs[0].track_ids,
        [one.name for one in inputs],
        mode=mode,
        crop_frames=crop_frames,
        window_stride=window_stride,
        segment=_segment_of(inputs, mode, crop_frames, window_stride),
        **settings,
    )


def _segment_of(inputs: Sequence[Input], mode: str, crop_frames: int | None, window_stride: int | None) -> int | None:
    """Frames of the excerpts that the inputs consist of, None where they have none."""
    features = [one.feature for one in inputs]
    segments = {(each.clip_frames, str(each.spec.clip) if each.clip_frames else "") for each in features}
    one = next((each for each in features if each.clip_frames), None)
    if one is None or one.clip_frames is None:
        return None
    segment, where = one.clip_frames, one.name
    if len(segments) > 1:
        found = "excerpts of one feature cannot be cut to the same seconds as another one's"
        raise ConfigError(found, where, "Load it alone, or extract all inputs with the same clip and hop")
    if mode == "whole" or crop_frames != segment:
        found = f"mode={mode!r} with crop_frames={crop_frames}: the feature is excerpts of {segment} frames"
        raise ConfigError(found, where, f"Use crop_frames={segment} with random crops or windows: each is one excerpt")
    if window_stride is not None and window_stride % segment:
        found = f"window_stride={window_stride} is no whole number of excerpts of {segment} frames"
        raise ConfigError(found, where, f"Use a multiple of {segment}, or leave it out for all excerpts")
    return segment
