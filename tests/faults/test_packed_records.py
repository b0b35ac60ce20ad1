"""Packed commit records under kill -9, refused writes and damage: readers see every pair once, none is lost."""

import errno
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import featstore.store.leases as leases
from featstore.errors import StoreError, StoreLocked
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.store import open_store, record_pack
from featstore.store.verify import verify
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks
from featstore.workflows.repair import repair
from tests.faults.gate import WRITES, Gate, through
from tests.faults.small import HEADERS, build, check_readable, clean, die, fast_leases, forked, snapshot
from tests.faults.test_verify_repair import damage

BACKENDS = ["zarr", "hdf5"]
SYNC = ExtractOptions(scheduler="sync", shard_tracks=3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(record_pack, "PACK_FROM", 2)


def ready_to_pack(path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished store with a file for each record, as earlier versions leave it."""
    monkeypatch.setattr(record_pack, "PACK_FROM", 10**9)
    build(path, backend, arrays=1)
    monkeypatch.setattr(record_pack, "PACK_FROM", 2)


def finish(path: Path, backend: str) -> None:
    """Run again until a lease that a dead process never filled is given up."""
    for _ in range(50):
        try:
            build(path, backend, arrays=1)
            return
        except StoreLocked:
            time.sleep(0.1)
    raise AssertionError("the dead writer's lease was never given up")


def _build_and_die(path: Path, backend: str, at: int, again: tuple = ()) -> None:
    fast_leases()
    with through(Gate(at, die)):
        build(path, backend, again=again, arrays=1)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_every_step_of_packing(backend: str, quick_disk: Path, tally, monkeypatch) -> None:
    ready_to_pack(quick_disk / "loose", backend, monkeypatch)
    build(quick_disk / "whole", backend, arrays=1)
    expected, path, killed = snapshot(quick_disk / "whole"), quick_disk / "s", 0
    assert f"commits/{HEADERS[0].key}/{record_pack.PACK}" in expected
    for at in range(1000):
        shutil.copytree(quick_disk / "loose", path)
        code = forked(_build_and_die, path, backend, at)
        if code == 0:
            break
        assert code == 9, f"step {at}"
        killed += 1
        assert check_readable(path) == 3, f"after a kill at step {at}"
        finish(path, backend)
        assert snapshot(path) == expected, f"after a kill at step {at}"
        clean(path)
        shutil.rmtree(path)
    assert killed > 15
    row = f"killed (`-9`) at every step of packing records, {backend}"
    tally(row, faults=killed, half_written_readable=0, same_bytes_afterwards=killed)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_while_a_packed_shard_is_replaced(backend: str, quick_disk: Path, tally) -> None:
    build(quick_disk / "whole", backend, arrays=1)
    pair = ((HEADERS[0].key, 1),)
    values = {row: open_store(quick_disk / "whole")[HEADERS[0].name].read_row(row) for row in (0, 1, 3)}
    killed, path = 0, quick_disk / "s"
    for at in range(1000):
        shutil.copytree(quick_disk / "whole", path)
        code = forked(_build_and_die, path, backend, at, pair)
        if code == 0:
            break
        assert code == 9
        killed += 1
        assert check_readable(path) in (2, 3)  # the shard that is replaced, or nothing of it
        finish(path, backend)
        assert verify(path) == []
        reader = open_store(path)[HEADERS[0].name]
        assert all(np.array_equal(reader.read_row(row), expected) for row, expected in values.items())
        assert list((path / "commits").rglob("*.json")) == []
        clean(path)
        shutil.rmtree(path)
    assert killed > 10
    row = f"killed (`-9`) at every step of replacing a packed shard, {backend}"
    tally(row, faults=killed, half_written_readable=0, same_values_afterwards=killed)


@pytest.mark.slow
def test_a_refused_write_while_packing_loses_nothing(quick_disk: Path, tally, monkeypatch) -> None:
    ready_to_pack(quick_disk / "loose", "zarr", monkeypatch)
    build(quick_disk / "whole", "zarr", arrays=1)
    expected, path = snapshot(quick_disk / "whole"), quick_disk / "s"

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    refused = harmless = 0
    for at in range(1000):
        shutil.copytree(quick_disk / "loose", path)
        gate = Gate(at, refuse, WRITES)
        try:
            with through(gate):
                build(path, "zarr", arrays=1)
            if not gate.tripped:
                break
            harmless += 1
        except StoreError as error:
            refused += 1
            assert os.strerror(errno.ENOSPC) in str(error) and error.fix, str(error)
        assert check_readable(path) == 3
        build(path, "zarr", arrays=1)
        assert snapshot(path) == expected, f"at step {at} ({gate.tripped})"
        shutil.rmtree(path)
    assert refused > 10
    count = refused + harmless
    tally("disk full at the n-th write of packing records", faults=count, reported=refused, same_bytes_afterwards=count)


@pytest.fixture(scope="module", params=BACKENDS)
def sound(request, tmp_path_factory):
    """A track table and a healthy store with packed records."""
    folder = make_collection(tmp_path_factory.mktemp("music"), n_tracks=7, seconds=(0.5, 1.5))
    (folder / "a" / "broken.wav").write_bytes(b"")
    table, path = index_tracks("folder", folder), tmp_path_factory.mktemp("store") / "s"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_pack, "PACK_FROM", 2)
        options = ExtractOptions(scheduler="sync", shard_tracks=3, backend=request.param)
        extract(table, expand_features(["mel(n_mels=16,scale=db)", "mel(n_mels=8,scale=db)@uint8"]), path, options)
    return table, path, request.param


def test_a_packed_store_is_whole_and_counted(sound) -> None:
    _, path, _ = sound
    assert verify(path) == [] and verify(path, quick=True) == []
    assert sorted(file.name for file in (path / "commits").rglob("*") if file.is_file()) == [record_pack.PACK] * 2


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "delete", "flip of the index"])
def test_damage_to_packed_records_is_noticed_named_and_mended(sound, tmp_path: Path, how: str, tally) -> None:
    table, healthy, backend = sound
    path = tmp_path / "s"
    shutil.copytree(healthy, path)
    victim = sorted(path.glob(f"commits/*/{record_pack.PACK}"))[0]
    name = str(victim.relative_to(path))
    if how == "flip of the index":
        content = bytearray(victim.read_bytes())
        content[-40] ^= 1
        victim.write_bytes(content)
    else:
        damage(victim, how)
    for problems in (verify(path), verify(path, quick=True)):
        assert any(problem.file == name for problem in problems), [str(problem) for problem in problems]
    report = repair(path, tracks=table, options=SYNC)
    assert report.found and report.left == []
    assert snapshot(path) == snapshot(healthy)
    assert report.shards == (1 if how == "flip" else 0)  # what is gone altogether is not counted as damaged
    row = f"packed records cut, emptied, deleted or one bit flipped, {backend}"
    tally(row, faults=1, reported=1, same_bytes_afterwards=1)


def test_a_retry_of_a_packed_store_does_only_what_failed(sound, tmp_path: Path) -> None:
    table, healthy, backend = sound
    path = tmp_path / "s"
    shutil.copytree(healthy, path)
    features = expand_features(["mel(n_mels=16,scale=db)", "mel(n_mels=8,scale=db)@uint8"])
    options = ExtractOptions(scheduler="sync", backend=backend)
    assert extract(table, features, path, options).shards == 0 and snapshot(path) == snapshot(healthy)
    again = ExtractOptions(scheduler="sync", backend=backend, retry=("failed",))
    assert extract(table, features, path, again).shards == 1
    store = open_store(path)
    assert verify(path) == [] and list((path / "commits").rglob("*.json")) == []
    for key in store.arrays:
        generations = [record.generation for record in store.records(key).values()]
        assert sorted(generations) == [1, 1, 2]
