"""Small stores with known content."""

import numpy as np
import pandas as pd

from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.missing import find_missing
from featstore.store.writing import add_arrays, write_shard

SPEC = parse_spec("mel(n_mels=8,scale=db)")


def header_of(encoding: str = "float32") -> ArrayHeader:
    return ArrayHeader(SPEC, Encoding.parse(encoding, SPEC), (SPEC.n_mels,), ("band", "frame"), None)


def track_frame(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "track_id": [f"t{i:03d}" for i in range(n)],
            "path": [f"/music/{i}.wav" for i in range(n)],
            "labels": [["a"]] * n,
            "duration_s": [30.0] * n,
        }
    )


def values_of(row: int, n_frames: int) -> np.ndarray:
    return np.random.default_rng(row).uniform(-99, 39, (8, n_frames)).astype(np.float32)


LENGTHS = {row: 1 + 477 * row for row in range(10) if row != 5}


def write_shards(store: Store, header: ArrayHeader, lengths: dict[int, int] = LENGTHS) -> None:
    """Write every missing shard; rows without a length fail."""
    for shard, keys in find_missing(store, [header.key]):
        with write_shard(store, shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot, f"source-{row}")
                if row not in lengths:
                    writer.fail(slot, "failed", "decode", "cannot be decoded", f"/music/{row}")
                    continue
                writer.append(header.key, values_of(row, lengths[row]))
                writer.end()
            writer.commit({"featstore": "test"})
    consolidate(store)


def make_store(url: str, *encodings: str) -> Store:
    """Ten tracks in three shards, row 5 failed."""
    headers = [header_of(encoding) for encoding in encodings or ("float32",)]
    store = create_store(url, track_frame(10), headers, shard_tracks=4)
    add_arrays(store, headers)
    for header in headers:
        write_shards(store, header)
    return open_store(url)
