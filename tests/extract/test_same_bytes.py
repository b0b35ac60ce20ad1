"""Same input, same bytes: over compressions, backends, schedulers, threads, and conversions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.store.chunks import compress
from featstore.store.convert import convert
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks

FEATURES = ["waveform(sample_rate=16000)", "mel(n_mels=32,scale=db)@uint8"]


def contents(store: Path) -> dict[str, bytes]:
    """Files that count: not logs, nor what belongs to the living."""
    files = [file for file in sorted(store.rglob("*")) if file.is_file()]
    named = {str(file.relative_to(store)): file.read_bytes() for file in files}
    return {name: data for name, data in named.items() if name.split("/")[0] not in ("log", "leases", "staging")}


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    return index_tracks("folder", make_collection(tmp_path_factory.mktemp("music"), n_tracks=4, seconds=(9.0, 12.0)))


def make(tracks, path: Path, **settings) -> dict[str, bytes]:
    extract(tracks, expand_features(FEATURES), path, ExtractOptions(shard_tracks=2, **settings))
    return contents(path)


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_stores_are_equal(tracks, tmp_path, compression: str, backend: str) -> None:
    settings = {"compression": compression, "backend": backend}
    here = make(tracks, tmp_path / "sync", scheduler="sync", **settings)
    assert make(tracks, tmp_path / "threads", scheduler="threads", jobs=2, **settings) == here
    assert any("features" in name for name in here)
    other = {"zarr": "hdf5", "hdf5": "zarr"}[backend]
    for name in ("one", "two"):
        convert(tmp_path / "sync", tmp_path / name, backend=other, compression="zstd")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_processes_are_equal(tracks, tmp_path, compression: str) -> None:
    here = make(tracks, tmp_path / "sync", scheduler="sync", compression=compression)
    assert make(tracks, tmp_path / "processes", jobs=2, compression=compression) == here


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "lz4", "zstd", "gzip"])
def test_the_main_thread_compresses_as_any_other(compression: str) -> None:
    """Blosc with several threads stores the blocks of a chunk in the order in which they get ready."""
    blosc = pytest.importorskip("numcodecs.blosc")
    before = blosc.set_nthreads(4)
    try:
        values = np.random.default_rng(0).normal(size=(512, 1024)).astype(np.float32).round(2)
        here = {bytes(compress(values, compression)) for _ in range(20)}
        with ThreadPoolExecutor(1) as pool:
            assert here == {bytes(pool.submit(compress, values, compression).result())}
    finally:
        blosc.set_nthreads(before)
