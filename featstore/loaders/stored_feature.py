"""What the loaders need of a stored feature; the store's readers have this shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from featstore.arrays import AnyArray, FloatArray, IntArray
from featstore.specs import Encoding, FeatureSpec, View

__all__ = ["StoredCodes", "StoredFeature"]


class StoredCodes(Protocol):
    """Encoded values of any track and any stretch of frames.

    See Also
    --------
    featstore.store.reader.BaseArray : The implementation of both file formats.
    featstore.loaders.excerpts.JoinedExcerpts : Excerpts of a track, joined along time.
    """

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the encoded values."""

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Axes of one track before time."""

    @property
    def lengths(self) -> IntArray:
        """Frames of every row, -1 where nothing is stored."""

    @property
    def mapped_frames(self) -> int:
        """Frames of a chunk that reads return as a view of the mapped file; 0 where chunks must be decoded."""

    def stage(self) -> None:
        """Keep local copies of remote files that are read from now on, where the disk has room."""

    def read(self, row: int, start: int, stop: int) -> AnyArray:
        """Encoded values ``(*item_shape, stop - start)``; of excerpts ``(stop - start, *item_shape, frames)``."""


class StoredFeature(Protocol):
    """A feature of a store, stored or derived.

    See Also
    --------
    featstore.store.reader.FeatureReader : The implementation.
    """

    @property
    def name(self) -> str:
        """Canonical name with the encoding of what is stored."""

    @property
    def spec(self) -> FeatureSpec:
        """The feature."""

    @property
    def encoding(self) -> Encoding:
        """How the values of :attr:`base` are encoded."""

    @property
    def view(self) -> View:
        """How the feature follows from :attr:`base`."""

    @property
    def base(self) -> StoredCodes:
        """The stored array."""

    @property
    def clip_frames(self) -> int | None:
        """Frames of an excerpt, where a track is a list of excerpts."""

    @property
    def lengths(self) -> IntArray:
        """Frames of every row of the store (excerpts, where there are any), -1 where nothing is stored."""

    @property
    def shape_of_item(self) -> tuple[int, ...]:
        """Axes of the values of one track before time."""

    @property
    def shard_rows(self) -> Sequence[range]:
        """Rows of each committed shard, in storage order."""

    @property
    def track_ids(self) -> Sequence[str]:
        """Tracks for which the feature is stored, in storage order."""

    def row_of(self, track_id: str) -> int:
        """Row of a track in the store; raises a ``LookupError`` for a track that it does not know."""

    def read_row(self, row: int, start: int = 0, stop: int | None = None) -> FloatArray:
        """Decoded values of a track."""
