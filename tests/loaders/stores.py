"""Small real stores, written through the store room."""

from __future__ import annotations

import numpy as np
import pandas as pd

from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.writing import add_arrays, write_shard


def write_store(
    path,
    arrays,
    features,
    *,
    shard_tracks=4,
    splits=None,
    labels=None,
    failed=(),
    compression="none",
    fixed_frames=None,
    backend="zarr",
):
    """Make a store of ``arrays`` (track id -> float32 (bands, frames)) under each of ``features`` (text, encoding)."""
    ids = list(arrays)
    frame = pd.DataFrame(
        {
            "track_id": ids,
            "path": [f"{track}.wav" for track in ids],
            "split": splits or ["train"] * len(ids),
            "labels": labels or [["jazz"] if i % 2 else ["rock", "pop"] for i in range(len(ids))],
        }
    )
    headers = []
    for text, encoding in features:
        spec = parse_spec(text)
        headers.append(
            ArrayHeader(spec, Encoding.parse(encoding, spec), (spec.n_mels,), ("band", "frame"), fixed_frames)
        )
    store = create_store(path, frame, headers, shard_tracks=shard_tracks, backend=backend)
    add_arrays(store, headers, compression)
    rows = {int(row): track for track, row in store.tracks["row"].items()}
    for shard in range(store.n_shards):
        with write_shard(store, shard, [header.key for header in headers]) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot)
                if rows[row] in failed:
                    writer.fail(slot, "failed", "decode", "not audio")
                    continue
                for header in headers:
                    writer.append(header.key, np.asarray(arrays[rows[row]], dtype=np.float32))
                writer.end()
            writer.commit({})
    consolidate(store)
    return open_store(path)
