"""Sizes of one corpus in every encoding and compression, what the encodings cost, and how fast both backends read.

    python -m tests.bench.bench_encodings --out docs/benchmarks/encodings.jsonl && python -m tests.bench.encodings_page

Each clip is extracted once for each compression, in all encodings, by the library itself; the stores are converted to
HDF5, and whole tracks are read from both with the page cache warm, in turns. ``--audio FOLDER`` takes music of yours.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from featstore.datasets import TrackTable
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.chunks import compress
from featstore.store.convert import convert
from featstore.store.sizes import describe_features
from featstore.workflows.indexing import index_tracks
from tests.bench.bench_audio_common import machine, make_clips, parser, versions, write

SPEC = "mel(sample_rate=16000,n_fft=512,hop_length=256,n_mels=96,scale=db)"
ENCODINGS = ("float32", "float16", "uint16", "uint8")
COMPRESSIONS = ("none", "lz4", "zstd")
TOKENS = 10335  # of 30 s at the lowest level of the Jukebox codec


def make_stores(folder: Path, table: TrackTable) -> dict[tuple[str, str], Path]:
    """One store for each backend and compression, with all encodings."""
    stores = {}
    features = expand_features([f"{SPEC}@{encoding}" for encoding in ENCODINGS])
    for compression in COMPRESSIONS:
        options = ExtractOptions(scheduler="sync", compression=compression)
        stores["zarr", compression] = folder / f"{compression}.zarr"
        stores["hdf5", compression] = folder / f"{compression}.hdf5"
        extract(table, features, stores["zarr", compression], options)
        convert(stores["zarr", compression], stores["hdf5", compression])
    return stores


def read_seconds(path: Path, encoding: str) -> tuple[float, int]:
    """Seconds to read and decode every track of an array, opened again, and the bytes of float32 that came out."""
    reader = open_store(path)[f"{SPEC}@{encoding}"]
    began, size = time.perf_counter(), 0
    for row in np.flatnonzero(reader.lengths >= 0):
        size += reader.read_row(int(row)).nbytes
    return time.perf_counter() - began, size


def measure(stores: dict[tuple[str, str], Path], rounds: int, corpus: dict[str, Any]) -> list[dict[str, Any]]:
    """One record for each backend, encoding and compression."""
    arrays = [(backend, compression, encoding) for backend, compression in stores for encoding in ENCODINGS]
    speeds: dict[tuple[str, str, str], list[float]] = {array: [] for array in arrays}
    for number in range(-1, rounds):
        for backend, compression, encoding in arrays:
            seconds, size = read_seconds(stores[backend, compression], encoding)
            if number >= 0:
                speeds[backend, compression, encoding].append(size / seconds / 1e6)
    records = []
    for backend, compression, encoding in arrays:
        rows = describe_features(open_store(stores[backend, compression]))
        row = next(row for row in rows if row["encoding"].partition("(")[0] == encoding)
        kept = ("bytes", "bytes_per_track", "bytes_per_hour", "ratio_to_float32", "ratio_to_audio", "bound")
        errors = {name: row[name] or 0.0 for name in ("max_error", "mean_error", "saturated")}
        values = speeds[backend, compression, encoding]
        records.append(
            {
                "benchmark": "encodings",
                "backend": backend,
                "encoding": encoding,
                "compression": compression,
                **{name: row[name] for name in kept},
                **errors,
                "read_mb_per_second": round(statistics.median(values), 1),
                "lowest": round(min(values), 1),
                "highest": round(max(values), 1),
                "rounds": rounds,
                "spec": SPEC,
                **corpus,
            }
        )
    return records


def measure_tokens(corpus: dict[str, Any]) -> list[dict[str, Any]]:
    """Bytes of one clip's tokens, evenly spread over the vocabulary: what no compression can use."""
    tokens = np.random.default_rng(0).integers(0, 2048, (1, TOKENS)).astype("<u2")
    chunks = {"uint16": "none", "uint16, lz4": "lz4", "uint16, zstd": "zstd"}
    sizes = {name: len(compress(tokens, compression)) for name, compression in chunks.items()}
    return [
        {"benchmark": "encodings of tokens", "encoding": name, "tokens": TOKENS, "bytes": size, **corpus}
        for name, size in sizes.items()
    ]


def run(folder: Path, audio: Path, rounds: int) -> list[dict[str, Any]]:
    """Make the stores of a folder of audio and measure them."""
    table = index_tracks("folder", audio)
    stores = make_stores(folder, table)
    store = open_store(stores["zarr", "none"])
    hours = describe_features(store)[0]["hours"]
    about = {"tracks": len(store.tracks), "hours": hours, "machine": machine(), "versions": versions()}
    return measure(stores, rounds, about) + measure_tokens({"machine": machine(), "versions": versions()})


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--audio", type=Path, help="folder of music; clips in the manner of the others by default")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="featstore-encodings-"))
    try:
        if given.audio is None:
            make_clips(folder / "clips" / "all", "44.1 kHz stereo mp3", given.clips)
        records = run(folder, given.audio or folder / "clips", given.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(records)} records", file=sys.stderr)
    write(records, given.out)


if __name__ == "__main__":
    main()
