"""One feature as a loader sees it: which row holds each listed track, and how stored codes become values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError, CorruptFeature, DatasetError
from featstore.loaders.codes import Decoder, first_hole
from featstore.loaders.crops import frame_seconds
from featstore.loaders.excerpts import along_time

__all__ = ["Input", "check_stored"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """A reader bound to a list of tracks.

    Attributes
    ----------
    name : str
        Key of the batches.
    reader : FeatureReader
    track_ids : tuple of str
    rows : numpy.ndarray
        int64 ``(n_tracks,)`` row in the reader's store, -1 where the store lacks the track.
    lengths : numpy.ndarray
        int64 ``(n_tracks,)`` frames of the feature, -1 where it is not stored.
    """

    name: str
    reader: Any
    track_ids: tuple[str, ...]
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def bind(cls, name: str, reader: Any, track_ids: Sequence[str]) -> Input:
        """Look the tracks up in the reader's store; excerpts are joined along time."""
        reader = along_time(reader)
        all_lengths = getattr(reader, "lengths", None)
        if all_lengths is None:
            raise DatasetError(
                f"the feature of input {name!r} has no lengths",
                str(getattr(reader, "name", reader)),
                "Extract it again",
            )
        rows = np.array([_row_or_none(reader, track_id) for track_id in track_ids], dtype=np.int64)
        lengths = np.full(len(rows), -1, dtype=np.int64)
        known = rows >= 0
        lengths[known] = np.asarray(all_lengths, dtype=np.int64)[rows[known]]
        return cls(name, reader, tuple(track_ids), rows, lengths)

    @property
    def lead(self) -> tuple[int, ...]:
        """Axes of one track before time, as it is stored."""
        codes = getattr(self.reader.view, "codes", "")  # tokens that vectors are looked up for have axes of their own
        return tuple(self.reader.base.item_shape if codes else self.reader.shape_of_item)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored type."""
        dtype: np.dtype[Any] = np.dtype(self.reader.base.dtype)
        return dtype

    @property
    def seconds(self) -> Fraction:
        """Seconds between frames."""
        return frame_seconds(self.reader.spec)

    @property
    def stride(self) -> int:
        """Base frames per frame of the feature."""
        return int(self.reader.view.stride)

    @property
    def held_bytes(self) -> int:
        """Bytes that the listed tracks take in memory, in their stored type and at the feature's own hop."""
        return int(np.maximum(self.lengths, 0).sum()) * int(np.prod(self.lead, dtype=np.int64)) * self.dtype.itemsize

    @cached_property
    def decoder(self) -> Decoder:
        """How codes become values."""
        return Decoder(self.reader.encoding, self.reader.view)

    def read(self, track: int, start: int, count: int) -> NDArray[Any]:
        """Codes ``(*lead, count)`` of a track from frame ``start`` on; a view of the file where that is possible.

        Raises
        ------
        CorruptFeature
            When stored bytes are damaged.
        """
        step = self.stride
        codes = self.read_base(track, start * step, (start + count - 1) * step + 1 if count else start * step)
        return codes[..., ::step] if step > 1 else codes

    def read_base(self, track: int, start: int, stop: int) -> NDArray[Any]:
        """Codes ``(*lead, …)`` of the stored base, from its frame ``start`` to ``stop`` or the end of the track."""
        base, row = self.reader.base, int(self.rows[track])
        codes: NDArray[Any] = base.read(row, start, min(stop, int(base.lengths[row])))
        return codes

    def check(self, codes: NDArray[Any], track: int, start: int, step: int) -> None:
        """Refuse codes that stand for *missing*; they are every ``step``-th stored frame from frame ``start`` on."""
        hole = first_hole(codes, self.decoder.fill)
        if hole is not None:
            raise CorruptFeature(
                f"track {self.track_ids[track]} holds no value (NaN or fill) at stored frame {start + hole * step}",
                str(self.reader.name),
                "Check the store with: featstore store verify; repair it, or leave the track out of the track table",
            )


def _row_or_none(reader: Any, track_id: str) -> int:
    try:
        return int(reader.row_of(track_id))
    except LookupError:
        return -1


def check_stored(inputs: Sequence[Input], missing: str) -> None:
    """Refuse tracks that a store lacks, or say how many are left out."""
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
            raise DatasetError(found, f"input {one.name!r}, {one.reader.name}", fix)
        logger.warning("%s [input %r]; they are left out", found, one.name)
