"""kill -9 at every step of a commit and at random moments: then the same bytes as undisturbed, nothing half-written."""

import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import featstore.store.leases as leases
from featstore.errors import StoreLocked
from featstore.store import open_store
from featstore.store.verify import verify
from featstore.testing.audio import make_collection
from tests.faults.gate import Gate, through
from tests.faults.small import HEADERS, build, check_readable, clean, die, fast_leases, forked, process, snapshot

BACKENDS = ["zarr", "hdf5"]


@pytest.fixture(autouse=True)
def quick_leases(monkeypatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.1)


def patiently(path: Path, backend: str, arrays: int = 2) -> None:
    """Build again; a lease that its owner never filled is waited for, as an extraction waits."""
    for _ in range(50):
        try:
            build(path, backend, arrays=arrays)
            return
        except StoreLocked:
            time.sleep(0.1)
    raise AssertionError("the dead writer's lease was never given up")


def _build_and_die(path: Path, backend: str, at: int, again: tuple = (), arrays: int = 2) -> None:
    fast_leases()
    with through(Gate(at, die)):
        build(path, backend, again=again, arrays=arrays)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_every_step_of_making_a_store(backend: str, quick_disk: Path, tally) -> None:
    build(quick_disk / "whole", backend, arrays=1)
    expected = snapshot(quick_disk / "whole")
    shown, path = [], quick_disk / "s"
    for at in range(1000):
        code = forked(_build_and_die, path, backend, at, (), 1)
        if code == 0:
            break
        assert code == 9, f"step {at}"
        shown.append(check_readable(path))
        patiently(path, backend, 1)
        assert snapshot(path) == expected, f"after a kill at step {at}"
        clean(path)
        shutil.rmtree(path)
    assert len(shown) > 40 and 0 in shown and max(shown) == 3
    row = f"killed (`-9`) at every step of making a store, {backend}"
    tally(row, faults=len(shown), half_written_readable=0, same_bytes_afterwards=len(shown))


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_while_a_shard_is_replaced(backend: str, quick_disk: Path, tally) -> None:
    build(quick_disk / "whole", backend)
    pair = ((HEADERS[0].key, 1),)
    values = {row: open_store(quick_disk / "whole")[HEADERS[0].name].read_row(row) for row in (0, 1, 3)}
    killed, path = 0, quick_disk / "s"
    for at in range(0, 1000, 2):
        shutil.copytree(quick_disk / "whole", path)
        code = forked(_build_and_die, path, backend, at, pair)
        if code == 0:
            break
        killed += 1
        assert code == 9
        check_readable(path)
        patiently(path, backend)
        assert verify(path) == []
        reader = open_store(path)[HEADERS[0].name]
        assert all(np.array_equal(reader.read_row(row), expected) for row, expected in values.items())
        clean(path)
        shutil.rmtree(path)
    assert killed > 10
    row = f"killed (`-9`) at every step of replacing a shard, {backend}"
    tally(row, faults=killed, half_written_readable=0, same_values_afterwards=killed)


def _extract(table: str, path: str, backend: str) -> None:
    from featstore.datasets import TrackTable
    from featstore.extract import ExtractOptions, extract
    from featstore.specs import expand_features

    fast_leases()
    features = expand_features(
        ["mel(n_mels=16,scale=db)", "mel(n_mels=8,scale=db)@uint8", "waveform(sample_rate=8000)"]
    )
    options = ExtractOptions(scheduler="sync", shard_tracks=2, backend=backend)
    extract(TrackTable.read(table), features, path, options)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "kills"), [("zarr", 30), ("hdf5", 20)])
def test_killed_at_random_moments(backend: str, kills: int, quick_disk: Path, tally) -> None:
    """One extraction is killed again and again and goes on each time; a finished one is compared and started again."""
    from featstore.workflows.indexing import index_tracks

    table = quick_disk / "tracks.parquet"
    index_tracks("folder", make_collection(quick_disk / "music", n_tracks=6, seconds=(3.0, 6.0))).write(table)
    for name in ("first", "whole"):  # the first process imports everything, for all that follow
        started = time.monotonic()
        whole = process(_extract, str(table), str(quick_disk / name), backend)
        whole.join(120)
        lasts = time.monotonic() - started
        assert whole.exitcode == 0
    expected, path, rng = snapshot(quick_disk / "whole"), quick_disk / "s", random.Random(0)
    done, finished = 0, 0
    deadline = time.monotonic() + 240
    while done < kills and time.monotonic() < deadline:
        child = process(_extract, str(table), str(path), backend)
        child.join(rng.uniform(0.1, 0.9) * lasts)
        if child.is_alive():
            child.kill()
            child.join()
        if child.exitcode == -signal.SIGKILL:  # it may have ended just before
            done += 1
            if (path / "tracks.parquet").exists() and any(
                (path / root).exists() for root in ("zarr.json", "store.json")
            ):
                assert verify(path) == [], "what a killed extraction shows is whole"
            continue
        assert child.exitcode == 0
        assert snapshot(path) == expected
        finished += 1
        shutil.rmtree(path)
    last = process(_extract, str(table), str(path), backend)
    last.join(120)
    assert last.exitcode == 0 and snapshot(path) == expected
    clean(path)
    assert done == kills
    row = f"extraction killed (`-9`) at a random moment, {backend}"
    tally(row, faults=done, half_written_readable=0, same_bytes_afterwards=done)
