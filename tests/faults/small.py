"""A tiny store made without audio, what it must hold, and how processes that are to be killed are started."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import featstore.store.leases as leases
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.garbage import collect_garbage
from featstore.store.location import open_location
from featstore.store.missing import find_missing
from featstore.store.verify import verify
from featstore.store.writing import add_arrays, note_request, write_shard

SPEC = parse_spec("mel(sample_rate=8000,n_fft=256,n_mels=4,scale=db)")
HEADERS = [ArrayHeader(SPEC, Encoding.parse(name, SPEC), (4,), ("band", "frame")) for name in ("float32", "uint8")]
LENGTHS = {row: 7 + 400 * row for row in range(4) if row != 2}  # one track fails
PRELOAD = [
    "tests.faults.small",
    "tests.faults.gate",
    "featstore.extract",
    "featstore.workflows.repair",
    "h5py",
    "pyarrow.parquet",
    "numcodecs",
]


def values_of(row: int) -> np.ndarray:
    return np.random.default_rng(row).uniform(-90, 30, (4, LENGTHS[row])).astype(np.float32)


def build(path: Path, backend: str, *, again: tuple[tuple[str, int], ...] = (), arrays: int = 2) -> Store:
    """Bring the store to its end, from wherever an earlier attempt left it, as an extraction does."""
    frame = pd.DataFrame({"track_id": [f"t{i}" for i in range(4)], "path": [f"/music/{i}.wav" for i in range(4)]})
    headers = HEADERS[:arrays]
    store = create_store(path, frame, headers, shard_tracks=2, backend=backend)
    add_arrays(store, headers)
    note_request(store, [header.name for header in headers])
    for shard, keys in find_missing(store, [header.key for header in headers], again=again):
        with write_shard(store, shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot, f"{row}:source")
                if row not in LENGTHS:
                    writer.append(keys[0], np.zeros((4, 3), dtype=np.float32))
                    writer.fail(slot, "failed", "decode", "cannot be decoded", f"/music/{row}.wav")
                    continue
                for key in keys:
                    writer.append(key, values_of(row))
                writer.end()
            writer.commit({"featstore": "test"})
    collect_garbage(store.location)
    store.refresh()
    consolidate(store, finished=not find_missing(store))
    return open_store(path)


def snapshot(path: Path) -> dict[str, str]:
    """Digests of all files that count, by name: where two stores differ, a test shows which files do."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.relative_to(path).parts[0] not in ("log", "leases", "staging")
    }


def check_readable(path: Path) -> int:
    """Whatever a store shows is right, whenever its writer died; how many (track, array) pairs it shows."""
    if not (path / "zarr.json").exists() and not (path / "store.json").exists():
        return 0
    assert verify(path) == []
    store, shown = open_store(path), 0
    for key, array in store.arrays.items():
        reader = store[f"{SPEC}@{array.header.encoding}"]
        assert reader.base.header.key == key
        for row, n_frames in enumerate(reader.lengths):
            if n_frames >= 0:
                codes, _ = array.header.encoding.encode(values_of(row))
                assert np.array_equal(reader.base.read(row), codes)
                shown += 1
    return shown


def clean(path: Path) -> None:
    """Nothing of a dead writer is left, once a lease that it created and never filled is old enough to be given up."""
    time.sleep(1.2 * leases.HEARTBEAT_S if _unfilled(path) else 0)
    collect_garbage(open_location(path))
    left = [file for folder in ("leases", "staging") for file in (path / folder).rglob("*") if file.is_file()]
    assert left == [] and not list(path.rglob("*.part"))


def _unfilled(path: Path) -> bool:
    return any(file.stat().st_size == 0 for file in (path / "leases").rglob("*.json"))


def fast_leases(seconds: float = 0.1) -> None:
    """A lease that was created and never filled is given up sooner than in five seconds."""
    leases.HEARTBEAT_S = seconds


def forked(target: Callable[..., None], *args: Any) -> int:
    """Exit code of a child of this very process: quick, and enough where no compiled threads are at work."""
    child = os.fork()
    if child == 0:
        try:
            target(*args)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def process(target: Callable[..., None], *args: Any) -> multiprocessing.process.BaseProcess:
    """Start a process that shares nothing with this one; modules are imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    started = context.Process(target=target, args=args, daemon=True)
    started.start()
    return started


def die() -> None:
    """End this process as kill -9 does: nothing is flushed, closed or tidied."""
    os._exit(9)
