"""Small stores with known content, made without audio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from featstore.arrays import FloatArray
from featstore.specs import Encoding, FeatureSpec, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.missing import find_missing
from featstore.store.writing import add_arrays, write_shard

__all__ = ["LENGTHS", "SPEC", "header_of", "make_store", "track_frame", "values_for", "values_of", "write_shards"]

SPEC = parse_spec("mel(n_mels=8,scale=db)")
LENGTHS = {row: 1 + 477 * row for row in range(10) if row != 5}
"""Frames by row of :func:`make_store`; row 5 fails."""


def header_of(encoding: str = "float32", spec: FeatureSpec = SPEC, fixed: int | None = None) -> ArrayHeader:
    """Header of mel bands in an encoding."""
    bands: int = spec.n_mels  # type: ignore[attr-defined]
    return ArrayHeader(spec, Encoding.parse(encoding, spec), (bands,), ("band", "frame"), fixed)


def track_frame(n: int) -> pd.DataFrame:
    """Table of ``n`` tracks, ``t000`` and so on."""
    return pd.DataFrame(
        {
            "track_id": [f"t{i:03d}" for i in range(n)],
            "path": [f"/music/{i}.wav" for i in range(n)],
            "labels": [["a"]] * n,
            "duration_s": [30.0] * n,
        }
    )


def values_of(row: int, n_frames: int, shape: tuple[int, ...] = (8,)) -> FloatArray:
    """Values (*shape, n_frames) of a row, within the range of the integer encodings of dB."""
    values: FloatArray = np.random.default_rng(row).uniform(-99, 39, (*shape, n_frames)).astype(np.float32)
    return values


def values_for(header: ArrayHeader, row: int, n_frames: int) -> FloatArray:
    """Values of a row of an array; of excerpts, as many as ``n_frames`` says."""
    if header.clip_frames is None:
        return values_of(row, n_frames, header.item_shape)
    return np.moveaxis(values_of(row, n_frames, (*header.item_shape, header.clip_frames)), -1, 0)


def write_shards(
    store: Store,
    header: ArrayHeader,
    lengths: Mapping[int, int] = LENGTHS,
    *,
    block: int = 333,
    only: Iterable[int] | None = None,
) -> None:
    """Write the missing shards in blocks of frames, and consolidate; rows without a length fail halfway."""
    for shard, keys in find_missing(store, [header.key]):
        if only is not None and shard not in only:
            continue
        with write_shard(store, shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot, f"source-{row}")
                if row not in lengths:
                    writer.append(header.key, values_for(header, row, 5))
                    writer.fail(slot, "failed", "decode", "cannot be decoded", f"/music/{row}")
                    continue
                values = values_for(header, row, lengths[row])
                for start in range(0, lengths[row], block):
                    writer.append(header.key, header.stretch(values, start, start + block))
                writer.end()
            writer.commit({"featstore": "test"})
    consolidate(store)


def make_store(url: str, *encodings: str, backend: str = "zarr", compression: str = "none") -> Store:
    """Make a store of ten tracks in three shards; float32 where no encodings are given."""
    headers = [header_of(encoding) for encoding in encodings or ("float32",)]
    store = create_store(url, track_frame(10), headers, shard_tracks=4, backend=backend)
    add_arrays(store, headers, compression)
    for header in headers:
        write_shards(store, header)
    return open_store(url)
