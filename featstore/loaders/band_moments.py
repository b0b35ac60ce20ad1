"""Mean and deviation of each band over the training split: computed once, kept in checkpoints, never in the store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.errors import CorruptFeature, DatasetError
from featstore.loaders.inputs import Input
from featstore.loaders.stored_feature import StoredFeature
from featstore.loaders.targets import Tracks, track_id_column

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


def band_statistics(feature: StoredFeature, tracks: Tracks, *, block_frames: int = 8192) -> BandStatistics:
    """Mean and deviation of each band over all frames of ``tracks``.

    Blocks of frames are joined by the pairwise update of Chan, Golub and LeVeque (1983), in float64, so memory
    is bounded by a block and a large mean does not cost digits of the deviation.

    Parameters
    ----------
    feature : StoredFeature
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

    See Also
    --------
    featstore.models.layers.InputNorm : The layer that these moments make.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", The American Statistician
    37 (1983), 242-247.
    """
    source = Input.bind("", feature, track_id_column(tracks))
    stored = np.flatnonzero(source.lengths > 0)
    shape = feature.shape_of_item
    count, mean, moment = 0, np.zeros(shape), np.zeros(shape)
    for track in stored[np.argsort(source.rows[stored], kind="stable")].tolist():  # files are read from front to back
        length = int(source.lengths[track])
        for start in range(0, length, block_frames):
            block = source.values(track, start, min(block_frames, length - start)).astype(np.float64)
            n = block.shape[-1]
            block_mean = block.mean(axis=-1)
            if not np.isfinite(block_mean).all():
                fix = "Check the store with: featstore store verify; repair it, or leave the track out"
                raise CorruptFeature(
                    f"track {source.track_ids[track]} holds values that are not finite", feature.name, fix
                )
            shift = block_mean - mean
            moment += ((block - block_mean[..., None]) ** 2).sum(axis=-1) + shift**2 * (count * n / (count + n))
            mean += shift * (n / (count + n))
            count += n
    if count == 0:
        raise DatasetError("none of the tracks has a stored frame", feature.name, "Check the split and the store")
    return BandStatistics(mean, np.sqrt(moment / count), count)
