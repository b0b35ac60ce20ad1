"""Vectors of tracks out of a store: as a Parquet table, as an array with its track ids, and as pairs that agree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featstore.arrays import FloatArray
from featstore.atomic import atomic_path, write_text
from featstore.errors import ConfigError
from featstore.store.reader import FeatureReader
from featstore.training.columns import write_columns

__all__ = ["NearPair", "export_npy", "export_parquet", "near_pairs", "track_vectors"]

_ROWS = 1024  # compared at a time: memory is this many rows of cosines


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two tracks whose vectors agree.

    Attributes
    ----------
    first, second : str
        Track ids.
    cosine : float
    splits : tuple of str
        Of the two; empty where they have none.
    """

    first: str
    second: str
    cosine: float
    splits: tuple[str, str] = ("", "")

    @property
    def crosses(self) -> bool:
        """Whether the two are on different sides of a split."""
        return self.splits[0] != self.splits[1]


def track_vectors(reader: FeatureReader) -> tuple[list[str], FloatArray]:
    """Ids of the stored tracks, and float32 (tracks, layers, dimensions): the mean over the windows of each.

    Raises
    ------
    ConfigError
        For a feature that is no embedding, or has no track.
    """
    if not reader.spec.takes_ranges:
        raise ConfigError(f"{reader.spec.short()} holds no vectors of tracks", "export", "Name an embedding")
    tracks = [track for track in reader.track_ids if int(reader.lengths[reader.row_of(track)]) > 0]
    if not tracks:
        raise ConfigError("no track is stored yet", reader.name, "Extract the feature first")
    return tracks, np.stack([reader[track].mean(axis=-1, dtype=np.float64).astype(np.float32) for track in tracks])


def export_npy(reader: FeatureReader, path: str | Path) -> int:
    """Write float32 (tracks, layers, dimensions) as ``.npy``, and the ids beside it as ``.json``; number of tracks."""
    path = Path(path)
    tracks, values = track_vectors(reader)
    with atomic_path(path) as part, open(part, "wb") as file:
        np.save(file, values, allow_pickle=False)
    about = {"feature": reader.name, "shape": list(values.shape), "track_ids": tracks}
    write_text(path.with_suffix(".json"), json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    return len(tracks)


def export_parquet(reader: FeatureReader, path: str | Path) -> int:
    """Write one row a track and layer: ``track_id``, ``layer`` (place in the array), ``vector``; number of tracks."""
    import pyarrow as pa

    tracks, values = track_vectors(reader)
    layers, width = values.shape[1:]
    columns = {
        "track_id": pa.array([track for track in tracks for _ in range(layers)], pa.string()),
        "layer": pa.array(list(range(layers)) * len(tracks), pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), width),
    }
    write_columns(Path(path), columns, {"feature": reader.name})
    return len(tracks)


def near_pairs(reader: FeatureReader, *, bound: float, splits: Mapping[str, str] | None = None) -> list[NearPair]:
    """Pairs of tracks whose vectors, centred on the mean of all, have a cosine of at least ``bound``; nearest first.

    Centred, because the vectors of an encoder share a large common part: without it, all cosines are near one.

    Parameters
    ----------
    reader : FeatureReader
        Of an embedding; all its layers count.
    bound : float in (0, 1]
    splits : mapping of str to str, optional
        Track to the name of its split.
    """
    if not 0 < bound <= 1:
        raise ConfigError(f"the bound {bound} of the cosine is not in (0, 1]", "duplicates", "Give one like 0.99")
    tracks, values = track_vectors(reader)
    flat: NDArray[np.float64] = values.reshape(len(tracks), -1).astype(np.float64)
    flat -= flat.mean(axis=0)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    known = splits or {}
    found = []
    for at in range(0, len(tracks), _ROWS):
        cosine = flat[at : at + _ROWS] @ flat.T
        for row, column in np.argwhere(np.triu(cosine >= bound, at + 1)).tolist():
            pair = sorted((tracks[at + row], tracks[column]))
            sides = (str(known.get(pair[0], "")), str(known.get(pair[1], "")))
            found.append(NearPair(pair[0], pair[1], float(cosine[row, column]), sides))
    return sorted(found, key=lambda pair: (-pair.cosine, pair.first, pair.second))
