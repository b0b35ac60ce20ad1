"""Features with an axis of excerpts, as loaders see them: the excerpts of a track one after the other along time.

An excerpt is a segment of its track: a random crop is one of its excerpts, the evaluation windows are all of them, and
scores of segments become the track's as they do for windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError

__all__ = ["along_time", "check_segments", "segment_of"]


class _JoinedBase:
    """Stored excerpts of a track joined along time: ``(*lead, excerpts * frames)``, at the feature's own hop."""

    def __init__(self, reader: Any) -> None:
        base, self._frames, self._stride = reader.base, int(reader.clip_frames), int(reader.view.stride)
        self._base, self.dtype = base, base.dtype
        self.lengths = np.where(base.lengths < 0, -1, base.lengths * self._frames)
        layout = getattr(base, "layout", None)
        self.layout = None if layout is None else dataclasses.replace(
            layout, chunk_frames=self._frames, slab_frames=self._frames
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        return int(self._base.nbytes)

    def read(self, row: int, start: int, stop: int) -> NDArray[Any]:
        """Codes of frames ``start`` to ``stop``; a view of the file where they lie in one excerpt and one chunk."""
        first, last = start // self._frames, -(-stop // self._frames)
        excerpts = self._base.read(row, first, last)[..., :: self._stride]
        joined = excerpts[0] if len(excerpts) == 1 else _join(excerpts)
        return joined[..., start - first * self._frames : stop - first * self._frames]


def _join(excerpts: NDArray[Any]) -> NDArray[Any]:
    """Excerpts (n, *lead, frames) one after the other: (*lead, n * frames)."""
    return np.moveaxis(excerpts, 0, -2).reshape(*excerpts.shape[1:-1], -1)


class _JoinedReader:
    """A reader of excerpts under the surface of a reader of frames."""

    def __init__(self, reader: Any) -> None:
        self._reader, self.segment_frames = reader, int(reader.clip_frames)
        self.base, self.clip_frames = _JoinedBase(reader), None
        self.spec, self.encoding, self.name = reader.spec, reader.encoding, reader.name
        self.view = dataclasses.replace(reader.view, stride=1)  # the stride is inside each excerpt: the base does it
        self.lengths = self.base.lengths
        self.shape_of_item, self.shard_rows, self.track_ids = reader.shape_of_item, reader.shard_rows, reader.track_ids

    def row_of(self, track_id: str) -> int:
        return int(self._reader.row_of(track_id))

    def read_row(self, row: int, start: int, stop: int) -> NDArray[Any]:
        values: NDArray[Any] = self.view.apply(self.encoding.decode(self.base.read(row, start, stop)))
        return values


def along_time(reader: Any) -> Any:
    """Return a reader of frames: the reader itself, or its excerpts joined along time."""
    return reader if getattr(reader, "clip_frames", None) is None else _JoinedReader(reader)


def segment_of(reader: Any) -> int | None:
    """Frames of an excerpt where the reader joins excerpts (or has them), else None."""
    frames = getattr(reader, "segment_frames", None) or getattr(reader, "clip_frames", None)
    return None if frames is None else int(frames)


def check_segments(readers: Sequence[Any], mode: str, crop_frames: int | None, window_stride: int | None) -> int | None:
    """Frames of the excerpts that a loader deals in, None where its inputs have none.

    Raises
    ------
    ConfigError
        When a crop is not one excerpt, or inputs with excerpts and without meet.
    """
    segments = {(segment_of(reader), str(reader.spec.clip) if segment_of(reader) else "") for reader in readers}
    if segments == {(None, "")}:
        return None
    one = next(reader for reader in readers if segment_of(reader))
    segment = segment_of(one) or 1
    where = str(one.name)
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
