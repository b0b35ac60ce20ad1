"""Training from a bucket: every tier gives the batches that it gives from disk."""

from multiprocessing.util import get_temp_dir
from pathlib import Path

import numpy as np
import pytest

from featstore.datasets import TrackTable
from featstore.extract import ExtractOptions
from featstore.extract.run import extract
from featstore.loaders import torch_dataset
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.testing.audio import make_collection
from featstore.testing.s3_server import S3Server
from featstore.workflows.indexing import index_tracks

FEATURE = "mel(n_mels=24,scale=db)"


@pytest.fixture
def two_stores(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, Path]:
    """(store on disk, the same in a bucket, folder of temporary files)."""
    music = make_collection(tmp_path / "music", n_tracks=8)
    table: TrackTable = index_tracks("folder", music)
    table = TrackTable(table.frame.assign(split="train"), table.info)
    extract(table, expand_features([FEATURE]), tmp_path / "x.zarr", ExtractOptions(scheduler="sync", shard_tracks=3))
    url = f"s3://{s3.new_bucket()}/x.zarr"
    for path in (tmp_path / "x.zarr").rglob("*"):
        if path.is_file():
            s3.replace(url, path.relative_to(tmp_path / "x.zarr").as_posix(), path.read_bytes())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    get_temp_dir()  # of the sockets of worker processes, whose paths must be short: made before the next line
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    return str(tmp_path / "x.zarr"), url, scratch


def batches(url: str, tier: str) -> list[np.ndarray]:
    data = torch_dataset(open_store(url), FEATURE, split="train", crop_frames=30, seed=0, tier=tier)
    data.set_epoch(0)
    return [np.asarray(next(iter(item.values()))) for item in data][:12]


@pytest.mark.parametrize("tier", ["disk", "ram"])
def test_batches_from_a_bucket_are_those_from_disk(two_stores: tuple[str, str, Path], tier: str) -> None:
    disk, url, _ = two_stores
    here, there = batches(disk, tier), batches(url, tier)
    assert len(here) == len(there) > 0
    for left, right in zip(here, there, strict=True):
        assert np.array_equal(left, right, equal_nan=True) if left.dtype.kind == "f" else (left == right).all()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_loader_read_from_a_bucket(two_stores: tuple[str, str, Path], method: str) -> None:
    from torch.utils.data import DataLoader

    disk, url, _ = two_stores
    found = []
    for place in (disk, url):
        data = torch_dataset(open_store(place), FEATURE, split="train", crop_frames=30, seed=0, tier="disk")
        data.set_epoch(0)
        next(iter(data))  # this process has a connection of its own, which the workers must not use
        loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=method)
        found.append([np.asarray(next(iter(item.values()))) for item in loader])
        del data, loader
    assert len(found[0]) == len(found[1]) > 0
    for left, right in zip(*found, strict=True):
        assert (left == right).all()


@pytest.mark.slow
def test_staged_copies_are_made_once_and_go_with_their_reader(
    two_stores: tuple[str, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url, scratch = two_stores
    reader = open_store(url)[FEATURE]
    reader.base.stage()
    values = [reader.read_row(row) for row in range(8)]
    copies = [path for path in scratch.rglob("*") if path.is_file()]
    assert len(copies) == 3
    reader.base.stage()
    again = open_store(url)[FEATURE]
    assert all(np.array_equal(again.read_row(row), values[row]) for row in range(8))
    del reader
    import gc

    gc.collect()
    assert not [path for path in scratch.rglob("*") if path.is_file()]
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("usage", (), {"free": 1000}))
    small = open_store(url)[FEATURE]
    small.base.stage()
    assert np.array_equal(small.read_row(3), values[3])
    assert not [path for path in scratch.rglob("*") if path.is_file()], "no room for copies: read by range"
