"""What loaders and training need of a stored feature and of its store; ``featstore.store`` implements it."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from featstore.arrays import AnyArray, FloatArray, IntArray
from featstore.specs import Encoding, FeatureRequest, FeatureSpec, View

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FeatureStore", "StoredCodes", "StoredFeature"]


class StoredCodes(Protocol):
    """Encoded values of any track and any stretch of frames.

    See Also
    --------
    featstore.store.base_array.BaseArray : The implementation of both file formats.
    featstore.loaders.excerpts.JoinedExcerpts : Excerpts of a track, joined along time.
    """

    @property
    def key(self) -> str:
        """Path-safe name of the array in its store."""

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
    def chunk_frames(self) -> int:
        """Frames of a chunk."""

    @property
    def mapped(self) -> bool:
        """Whether reads of a chunk return a view of the mapped file; else chunks must be decoded."""

    def stage(self) -> None:
        """Keep local copies of remote files that are read from now on, where the disk has room."""

    def expect(self, row: int, chunk: int) -> None:
        """Say that a chunk will be read soon."""

    def mapped_chunk(self, row: int, chunk: int) -> tuple[mmap.mmap, int, int] | None:
        """File, address and bytes of a mapped chunk that nobody has checked: its crc32c lies behind it.

        None where there is no such chunk: :meth:`read_chunk` checks it, or says what is wrong.
        """

    def read_chunk(self, row: int, chunk: int) -> AnyArray:
        """Encoded values of a whole chunk, of which the bytes are checked."""

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
    def item_dims(self) -> tuple[str, ...]:
        """Names of the axes of one track, time last."""

    @property
    def bytes_alone(self) -> int:
        """Bytes of the feature stored on its own."""

    @property
    def bytes_added(self) -> int:
        """Bytes that the feature adds to a store that holds its base."""

    @property
    def shard_rows(self) -> Sequence[range]:
        """Rows of each committed shard, in storage order."""

    @property
    def track_ids(self) -> Sequence[str]:
        """Tracks for which the feature is stored, in storage order."""

    def row_of(self, track_id: str) -> int:
        """Row of a track in the store; raises a ``LookupError`` for a track that it does not know."""

    def rows_of(self, track_ids: Sequence[str]) -> IntArray:
        """Row of each track in the store, -1 for tracks that it does not know."""

    def read_row(self, row: int, start: int = 0, stop: int | None = None) -> FloatArray:
        """Decoded values of a track."""

    def __getitem__(self, track_id: str) -> FloatArray:
        """Decoded values of a whole track."""

    def __len__(self) -> int:
        """Tracks for which the feature is stored."""


class FeatureStore(Protocol):
    """A store of features and its table of tracks.

    See Also
    --------
    featstore.open_store : Open one.
    """

    @property
    def features(self) -> Sequence[str]:
        """Names of what is stored, then of the views that were asked for."""

    @property
    def tracks(self) -> pd.DataFrame:
        """Tracks by id, with the columns of the ledger."""

    @property
    def location(self) -> Any:
        """Folder, file or URL; its text names it in messages."""

    @property
    def table(self) -> Any:
        """Stored table of tracks; its ``facts`` are name, task, classes and label column of the data set."""

    @property
    def fingerprint(self) -> str:
        """Digest of the content."""

    def extract_seconds(self, key: str) -> float | None:
        """Worker seconds that computing an array took, None where they are unknown."""

    def weights_note(self, digest: str) -> Mapping[str, Any]:
        """What the extraction knew of the weights behind an array; empty where that is unknown."""

    def __getitem__(self, feature: str | FeatureSpec | FeatureRequest) -> StoredFeature:
        """Return a feature, stored or derived."""
