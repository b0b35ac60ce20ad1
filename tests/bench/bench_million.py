"""A store of many tracks: how long it takes to open, to say where it stands, and to give a first batch.

``python -m tests.bench.bench_million --tracks 1000000`` prints one JSON line. The store holds one tiny feature of every
track, which is made first, off the clock. Each question is put to a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.bench_audio_common import machine, versions

SPEC = "mel(sample_rate=8000,n_mels=2,n_fft=256,hop_length=2000,scale=db)"
FRAMES = 4
QUESTIONS = {
    "open": "store = featstore.open_store(path); len(store.tracks), store.features",
    "status": "from featstore.store.ledger import read_status; read_status(featstore.open_store(path))",
    "first batch": (
        "store = featstore.open_store(path); "
        "data = featstore.torch_dataset(store, store.features[0], split='train', crop_frames=3, tier='disk'); "
        "next(iter(torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)))"
    ),
}
_ASK = """
import json, sys, time
import featstore, torch, pandas, pyarrow.parquet
from featstore.process_memory import peak_resident_bytes
path, before = sys.argv[1], peak_resident_bytes()
began = time.perf_counter()
{question}
print(json.dumps([round(time.perf_counter() - began, 3), before, peak_resident_bytes()]))
"""


def make_store(path: Path, tracks: int) -> None:
    """A finished store with a few frames of each track."""
    from featstore.specs import Encoding, parse_spec
    from featstore.store import ArrayHeader, create_store
    from featstore.store.consolidate import consolidate
    from featstore.store.missing import find_missing
    from featstore.store.writing import add_arrays, write_shard
    from tests.bench.bench_scale import synthetic_table

    spec = parse_spec(SPEC)
    header = ArrayHeader(spec, Encoding.parse("uint8", spec), (spec.n_mels,), ("band", "frame"))
    store = create_store(path, synthetic_table(tracks).frame, [header], shard_tracks=min(4096, tracks))
    add_arrays(store, [header])
    values = np.linspace(-80, 0, spec.n_mels * FRAMES, dtype=np.float32).reshape(spec.n_mels, FRAMES)
    for shard, keys in find_missing(store, [header.key]):
        rows = store.shard_rows(shard)
        if shard and len(rows) == store.shard_tracks:
            copy_shard(store, header.key, rows.start, shard)
            continue
        with write_shard(store, shard, keys) as writer:
            for slot in range(len(rows)):
                writer.begin(slot, "1000:0123456789abcdef")
                writer.append(header.key, values)
                writer.end()
            writer.commit({"featstore": "bench"})
    consolidate(store)


def copy_shard(store: Any, key: str, first_row: int, shard: int) -> None:
    """Commit the first shard's values for another one of the same size."""
    from featstore.store.records import read_record, record_name

    record = read_record(store.location, key, 0)
    files = {}
    for name, facts in record.files.items():
        renamed = name.replace("/c/0", f"/c/{shard}", 1)
        store.location.write(renamed, store.location.read(name))
        files[renamed] = facts
    copied = replace(record, shard=shard, first_row=first_row, files=files)
    store.location.write(record_name(key, shard), copied.to_bytes())


def measure(folder: Path, tracks: int) -> dict[str, Any]:
    """Seconds and memory of each question."""
    path = folder / "million.zarr"
    began = time.perf_counter()
    make_store(path, tracks)
    found: dict[str, Any] = {"tracks": tracks, "making_s": round(time.perf_counter() - began, 1)}
    for name, question in QUESTIONS.items():
        code = _ASK.format(question=question)
        done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, stdout=subprocess.PIPE, text=True)
        seconds, before, after = json.loads(done.stdout.splitlines()[-1])
        found[name] = {"seconds": seconds, "peak_rss_bytes": after, "peak_rss_bytes_before": before}
    return found | {"machine": machine(), "versions": versions()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tracks", type=int, default=1_000_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_million_") as folder:
        print(json.dumps(measure(Path(folder), chosen.tracks)))


if __name__ == "__main__":
    main()
