"""Ranges of vectors by dimension, measured on a stated sample of a store; and what an encoding costs the vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import CorruptFeature, MissingFeature
from featstore.specs import Encoding, FeatureRequest
from featstore.specs.ranges import Ranges
from featstore.store.reader import FeatureReader
from featstore.store.store import Store
from featstore.workflows.alter import first_tracks

__all__ = ["SAMPLE_TRACKS", "measure_ranges", "ranged", "vector_cost"]

SAMPLE_TRACKS = 1000
"""Tracks of the calibration sample: the first ones in the order of the sha256 of their ids."""

_NEIGHBOURS = 10
_MOST_COMPARED = 2000


def measure_ranges(reader: FeatureReader) -> Ranges:
    """Lowest and highest value of each dimension over all vectors of the calibration sample.

    Raises
    ------
    MissingFeature
        When no track is stored.
    CorruptFeature
        When a value is not finite; the track is named.
    """
    least, most = [], []
    for track in first_tracks(reader.track_ids, SAMPLE_TRACKS):
        values = reader[track]
        if values.shape[-1] == 0:
            continue
        if not np.isfinite(values).all():
            raise CorruptFeature(f"track {track} holds values that are not finite", reader.name, "Verify the store")
        least.append(values.min(axis=-1))
        most.append(values.max(axis=-1))
    if not least:
        raise MissingFeature("no vector is stored yet", reader.name, "Extract it first")
    return Ranges(np.min(least, axis=0), np.max(most, axis=0))


def ranged(store: Store, request: FeatureRequest, encoding: Encoding, source: FeatureReader) -> Encoding:
    """Encoding with the ranges that the store has for a feature already, or with measured ones."""
    known = (array.header.encoding for array in store.arrays.values() if array.spec == request.spec)
    return next(filter(encoding.admits, known), None) or encoding.with_ranges(measure_ranges(source))


def vector_cost(store: Store, request: FeatureRequest) -> dict[str, float]:
    """What an encoding does to the vectors of tracks, each the mean over its windows.

    Returns
    -------
    dict
        ``n_tracks`` compared (2,000 at most), ``mean_cosine`` and ``min_cosine`` between a track's float32 vector and
        its decoded one, and ``retrieval_at_10``: share of the ten nearest tracks by cosine that stay the same.
    """
    exact, kept = store[FeatureRequest(request.spec, Encoding())], store[request]
    tracks = first_tracks(set(exact.track_ids) & set(kept.track_ids), _MOST_COMPARED)
    one, other = (_unit(reader, tracks) for reader in (exact, kept))
    cosine = (one * other).sum(axis=1)
    found = {"n_tracks": len(tracks), "mean_cosine": float(cosine.mean()), "min_cosine": float(cosine.min())}
    k = min(_NEIGHBOURS, len(tracks) - 1)
    if k > 0:
        same = [len(set(a) & set(b)) for a, b in zip(_nearest(one, k), _nearest(other, k), strict=True)]
        found["retrieval_at_10"] = float(np.mean(same)) / k
    return found


def _unit(reader: FeatureReader, tracks: list[str]) -> NDArray[np.float64]:
    rows = np.stack([np.asarray(reader[track], np.float64).mean(axis=-1).ravel() for track in tracks])
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _nearest(unit: NDArray[np.float64], k: int) -> NDArray[Any]:
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2.0)
    return np.asarray(np.argsort(-cosine, axis=1, kind="stable")[:, :k])
