"""Mean and deviation of each band over the training split: computed once, kept in checkpoints, never in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import CorruptFeature, DatasetError
from featstore.loaders.excerpts import along_time
from featstore.loaders.targets import track_id_column

__all__ = ["BandStatistics", "band_statistics"]


@dataclass(frozen=True)
class BandStatistics:
    """Moments of each band.

    Attributes
    ----------
    mean, std : numpy.ndarray
        float64 ``(*bands,)``; ``std`` divides by the number of frames.
    n_frames : int
        Frames that went in.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    n_frames: int


def band_statistics(reader: Any, tracks: Any, *, block_frames: int = 8192) -> BandStatistics:
    """Mean and deviation of each band over all frames of ``tracks``.

    Blocks of frames are joined by the pairwise update of Chan, Golub and LeVeque (1983), in float64, so memory
    is bounded by a block and a large mean does not cost digits of the deviation.

    Parameters
    ----------
    reader : FeatureReader
    tracks : pandas.DataFrame or sequence of str
        Tracks of the training split; tracks that the store lacks are left out.
    block_frames : int
        Frames read at a time.

    Raises
    ------
    DatasetError
        When none of the tracks is stored with at least one frame.
    CorruptFeature
        When a track holds NaN; it is named.
    """
    reader = along_time(reader)
    shape = tuple(reader.shape_of_item)
    count, mean, moment = 0, np.zeros(shape), np.zeros(shape)
    for track_id, row in _stored_rows(reader, track_id_column(tracks)):
        length = int(reader.lengths[row])
        for start in range(0, length, block_frames):
            block = np.asarray(reader.read_row(row, start, min(start + block_frames, length)), dtype=np.float64)
            n = block.shape[-1]
            block_mean = block.mean(axis=-1)
            if not np.isfinite(block_mean).all():
                fix = "Check the store with: featstore store verify; repair it, or leave the track out"
                raise CorruptFeature(f"track {track_id} holds values that are not finite", str(reader.name), fix)
            shift = block_mean - mean
            moment += ((block - block_mean[..., None]) ** 2).sum(axis=-1) + shift**2 * (count * n / (count + n))
            mean += shift * (n / (count + n))
            count += n
    if count == 0:
        raise DatasetError("none of the tracks has a stored frame", str(reader.name), "Check the split and the store")
    return BandStatistics(mean, np.sqrt(moment / count), count)


def _stored_rows(reader: Any, track_ids: Sequence[str]) -> list[tuple[str, int]]:
    """Tracks that are stored, in the order of their rows: files are read from front to back."""
    known = set(reader.track_ids)
    rows = [(track_id, int(reader.row_of(track_id))) for track_id in track_ids if track_id in known]
    return sorted(rows, key=lambda pair: pair[1])
