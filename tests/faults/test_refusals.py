"""A disk that refuses, a store that may not be written, two extractors at once, readers in every kind of process."""

import errno
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import featstore.store.leases as leases
from featstore.errors import StoreError, StoreLocked
from featstore.store import open_store
from featstore.store.consolidate import consolidate
from featstore.store.garbage import collect_garbage
from featstore.store.verify import verify
from featstore.store.writing import add_arrays, note_request, write_shard
from featstore.testing.audio import make_collection
from tests.faults.gate import WRITES, Gate, through
from tests.faults.small import SPEC, build, check_readable, clean, forked, process, snapshot, values_of
from tests.faults.test_kill import BACKENDS, _extract

REFUSALS = {"disk full": (errno.ENOSPC, 1), "I/O error": (errno.EIO, 3)}  # and every how many steps


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_a_refused_write_ends_with_a_clear_message(backend: str, name: str, quick_disk: Path, tally) -> None:
    """Each write, flush, rename and creation of a small run refuses once; the next run goes on."""
    code, stride = REFUSALS[name]

    def refuse() -> None:
        raise OSError(code, os.strerror(code))

    build(quick_disk / "whole", backend, arrays=1)
    expected, path = snapshot(quick_disk / "whole"), quick_disk / "s"
    refused, harmless = 0, 0
    for at in range(0, 1000, stride):
        gate = Gate(at, refuse, WRITES)
        try:
            with through(gate):
                build(path, backend, arrays=1)
            if not gate.tripped:
                break
            harmless += 1  # a flush of a folder, or a heartbeat: nothing depends on it
            assert snapshot(path) == expected
        except StoreError as error:
            refused += 1
            assert os.strerror(code) in str(error) and error.fix, str(error)
        if path.exists():
            check_readable(path)
            assert not list((path / "leases").rglob("*.json")), "a refused run lets go of its leases"
        build(path, backend, arrays=1)
        assert snapshot(path) == expected, f"after {name} at step {at} ({gate.tripped})"
        clean(path)
        shutil.rmtree(path)
    assert refused > 60 // stride
    tally(
        f"{name} at the n-th write, {backend}",
        faults=refused + harmless,
        reported=refused,
        same_bytes_afterwards=refused + harmless,
    )


def _as_nobody(path: Path) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    store = open_store(path)
    assert np.array_equal(store[SPEC].read_row(3), values_of(3)) and verify(path) == []
    for attempt in (
        lambda: note_request(store, ["mel"]),
        lambda: write_shard(store, 0, list(store.arrays)).__enter__(),
        lambda: add_arrays(store, []) or consolidate(store),
    ):
        try:
            attempt()
        except StoreError as error:
            assert "ermission" in str(error) or "ead-only" in str(error), str(error)
        else:
            raise AssertionError("a read-only store was written")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_read_only_store_is_read_and_never_written(backend: str, tally) -> None:
    folder = Path(tempfile.mkdtemp(prefix="featstore-"))  # pytest's own folders are closed to others
    try:
        folder.chmod(0o755)
        build(folder / "s", backend)
        before = snapshot(folder / "s")
        for place in [folder / "s", *(folder / "s").rglob("*")]:
            place.chmod(0o555 if place.is_dir() else 0o444)
        assert forked(_as_nobody, folder / "s") == 0
        assert snapshot(folder / "s") == before
        tally("read-only store", faults=3, reported=3)
    finally:
        for place in [folder, *folder.rglob("*")]:
            place.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_extractors_started_together(backend: str, tmp_path: Path, tally) -> None:
    from featstore.workflows.indexing import index_tracks

    table = tmp_path / "tracks.parquet"
    index_tracks("folder", make_collection(tmp_path / "music", n_tracks=6, seconds=(1.0, 2.0))).write(table)
    whole = process(_extract, str(table), str(tmp_path / "whole"), backend)
    whole.join(120)
    both = [process(_extract, str(table), str(tmp_path / "s"), backend) for _ in range(2)]
    for child in both:
        child.join(120)
    assert 0 in [child.exitcode for child in both], "one of them gets through"
    last = process(_extract, str(table), str(tmp_path / "s"), backend)
    last.join(120)
    assert last.exitcode == 0 and snapshot(tmp_path / "s") == snapshot(tmp_path / "whole")
    assert verify(tmp_path / "s") == []
    tally("two extractors started together", faults=1, same_bytes_afterwards=1)


def test_a_stale_lease_is_taken_over_and_a_living_one_is_not(tmp_path: Path, monkeypatch, tally) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.1)
    build(tmp_path / "whole", "zarr")

    def hold_and_die() -> None:
        store = build(tmp_path / "s", "zarr", arrays=1)
        write_shard(store, 0, list(store.arrays)).__enter__()
        os._exit(9)

    assert forked(hold_and_die) == 9
    assert list((tmp_path / "s" / "leases").rglob("0.json"))
    store = build(tmp_path / "s", "zarr")
    clean(tmp_path / "s")
    with write_shard(store, 0, list(store.arrays)[:1]), pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        build(tmp_path / "s", "zarr", again=((next(iter(store.arrays)), 0),))
    assert collect_garbage(store.location) == []
    tally("stale lease", faults=1, taken_over=1)
    tally("lease of a living writer", faults=1, reported=1)


def _read(path: str, reader: object, queue: object) -> None:
    fresh = open_store(path)[SPEC]
    again = np.array_equal(reader.read_row(3), values_of(3)) and np.array_equal(fresh.read_row(1), values_of(1))
    queue.put(bool(again))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_readers_in_every_kind_of_process(method: str, backend: str, tmp_path: Path, tally) -> None:
    build(tmp_path / "s", backend)
    reader = open_store(tmp_path / "s")[SPEC]
    assert np.array_equal(reader.read_row(0), values_of(0)), "mapped before the process starts"
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=_read, args=(str(tmp_path / "s"), reader, queue)) for _ in range(2)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [True, True]
    for child in children:
        child.join(60)
    tally("readers by fork, forkserver and spawn", faults=2, reported=0, same_values_afterwards=2)
