"""Features with an axis of excerpts, as loaders see them: the excerpts of a track joined along time.

An excerpt is a segment of its track: a random crop is one of its excerpts, the evaluation windows are all of them, and
scores of segments are combined into the track's as they are for windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from featstore.arrays import AnyArray, IntArray
from featstore.loaders.stored_feature import StoredCodes

__all__ = ["JoinedExcerpts"]


class JoinedExcerpts:
    """Stored excerpts joined along time: ``(*item_shape, excerpts * frames)``, at the feature's own hop.

    Parameters
    ----------
    base : StoredCodes
        Array with an axis of excerpts.
    frames : int
        Frames of an excerpt, at the feature's hop.
    stride : int
        Stored frames per frame of the feature; it starts again in every excerpt.
    """

    def __init__(self, base: StoredCodes, frames: int, stride: int) -> None:
        self._base, self._frames, self._stride = base, frames, stride
        self.key, self.item_shape = base.key, base.item_shape
        self.dtype: np.dtype[Any] = base.dtype
        self.lengths: IntArray = np.where(base.lengths < 0, -1, base.lengths * frames)
        self.chunk_frames, self.mapped = frames, base.mapped

    def stage(self) -> None:
        """See :meth:`StoredCodes.stage`."""
        self._base.stage()

    def expect(self, row: int, chunk: int) -> None:
        """Excerpts share chunks: they are fetched when they are read."""

    def mapped_chunk(self, row: int, chunk: int) -> None:
        """None: the bytes of an excerpt are checked with those of its neighbours."""

    def read_chunk(self, row: int, chunk: int) -> AnyArray:
        """Codes of one excerpt."""
        return self.read(row, chunk * self._frames, (chunk + 1) * self._frames)

    def read(self, row: int, start: int, stop: int) -> AnyArray:
        """Codes of frames ``start`` to ``stop``; a view of the file where they lie in one excerpt and one chunk."""
        first, last = start // self._frames, -(-stop // self._frames)
        excerpts = self._base.read(row, first, last)[..., :: self._stride]
        joined = excerpts[0] if len(excerpts) == 1 else _join(excerpts)
        return joined[..., start - first * self._frames : stop - first * self._frames]


def _join(excerpts: AnyArray) -> AnyArray:
    """Excerpts (n, *item_shape, frames) one after the other: (*item_shape, n * frames)."""
    return np.moveaxis(excerpts, 0, -2).reshape(*excerpts.shape[1:-1], -1)
