"""kill -9 at steps of derive, convert, pack and repair: a rerun ends as if undisturbed, and nothing is left behind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import featstore.store.leases as leases
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.convert import convert
from featstore.store.opening import CONVERSION
from featstore.store.pack import pack
from featstore.store.verify import verify
from featstore.workflows.derive import derive
from featstore.workflows.repair import repair
from tests.faults.gate import Gate, through
from tests.faults.small import HEADERS, SPEC, build, die, fast_leases, forked, snapshot

VIEW = f"{SPEC.replace(hop_length=2 * SPEC.hop_length)}@float32"
BACKENDS = ["zarr", "hdf5"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.1)
    monkeypatch.setenv("FEATSTORE_PROGRESS", "0")


def _die_at(at: int, work: Callable[[], object]) -> None:
    fast_leases()
    with through(Gate(at, die)):
        work()


def kills(work: Callable[[], object], step: int, start: Callable[[], object], check: Callable[[], object]) -> int:
    """Kill ``work`` at every ``step``-th of its steps, each time from ``start``; how many kills there were."""
    for number, at in enumerate(range(0, 2000, step)):
        start()
        code = forked(_die_at, at, work)
        if code == 0:
            return number
        assert code == 9, f"step {at}"
        check()
        work()
    raise AssertionError("the work never came to its end")


def nothing_left(folder: Path) -> None:
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("staging"))
    assert not [file for file in folder.rglob("leases/*/*") if file.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_while_views_are_derived(backend: str, quick_disk: Path, tally) -> None:
    build(quick_disk / "base", backend, arrays=1)
    path = quick_disk / "s"
    before = open_store(quick_disk / "base")[VIEW]
    values = {track: before[track] for track in before.track_ids}

    def work() -> None:
        derive(str(path), expand_features([VIEW]))

    def start() -> None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(quick_disk / "base", path)

    def check() -> None:
        reader = open_store(path)[VIEW]
        assert all(np.array_equal(reader[track], value) for track, value in values.items()), "the base serves all"

    start()
    work()
    whole = snapshot(path)

    def checked() -> None:
        work()
        assert snapshot(path) == whole and verify(path) == []
        nothing_left(path)

    count = kills(checked, 3, start, check)
    assert count > 10
    tally(f"derive killed (`-9`), {backend}", faults=count, half_written_readable=0, same_bytes_afterwards=count)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_while_a_store_is_converted(backend: str, quick_disk: Path, tally) -> None:
    other = BACKENDS[1 - BACKENDS.index(backend)]
    build(quick_disk / "base", other, arrays=1)
    path = quick_disk / "s"
    convert(quick_disk / "base", path, backend=backend)
    whole = snapshot(path)
    said = []

    def check() -> None:
        if not any((path / root).exists() for root in ("zarr.json", "store.json")):
            return
        problems = verify(path)
        if (path / CONVERSION).exists():
            assert [problem.file for problem in problems] == [CONVERSION]
            assert f"featstore store convert {quick_disk / 'base'} {path}" in problems[0].what
            said.append(problems)
        else:
            assert problems == []

    def work() -> None:
        convert(quick_disk / "base", path, backend=backend)
        assert snapshot(path) == whole and verify(path) == []
        nothing_left(path)

    count = kills(work, 3, lambda: shutil.rmtree(path, ignore_errors=True), check)
    assert count > 10 and len(said) > count // 2
    row = f"conversion to {backend} killed (`-9`)"
    tally(row, faults=count, reported=len(said), half_written_readable=0, same_bytes_afterwards=count)


@pytest.mark.slow
def test_killed_while_a_store_is_packed(quick_disk: Path, tally) -> None:
    build(quick_disk / "base", "zarr")
    folder = quick_disk / "out"
    pack(quick_disk / "base", folder / "one.h5")
    whole = (folder / "one.h5").read_bytes()

    def check() -> None:
        assert not (folder / "one.h5").exists() or (folder / "one.h5").read_bytes() == whole

    def work() -> None:
        if not (folder / "one.h5").exists():
            pack(quick_disk / "base", folder / "one.h5")
        assert (folder / "one.h5").read_bytes() == whole
        assert [file.name for file in folder.iterdir()] == ["one.h5"]

    count = kills(work, 1, lambda: shutil.rmtree(folder, ignore_errors=True), check)
    assert count > 5
    tally("pack killed (`-9`)", faults=count, half_written_readable=0, same_bytes_afterwards=count)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_while_a_store_is_repaired(backend: str, quick_disk: Path, tally) -> None:
    """Of what is mended without audio: root, array metadata, manifest."""
    build(quick_disk / "base", backend)
    whole, path = snapshot(quick_disk / "base"), quick_disk / "s"
    values = open_store(quick_disk / "base")[HEADERS[0].name].read_row(3)

    def start() -> None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(quick_disk / "base", path)
        backend_of = open_store(path).backend
        (path / backend_of.metadata_name(HEADERS[0].key)).write_bytes(b"{}")
        (path / backend_of.root).write_bytes(b"{}")

    def check() -> None:
        if verify(path) == []:
            assert np.array_equal(open_store(path)[HEADERS[0].name].read_row(3), values)

    def work() -> None:
        assert repair(path).left == [] and verify(path) == []
        assert snapshot(path) == whole
        nothing_left(path)

    count = kills(work, 2, start, check)
    assert count > 5
    tally(f"repair killed (`-9`), {backend}", faults=count, half_written_readable=0, same_bytes_afterwards=count)
