"""Worker processes of this machine: who gets them, and that one may be lost without the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from featstore.errors import StoreError
from featstore.extract import ExtractOptions, extract
from featstore.extract.scheduler_choice import choose_scheduler
from featstore.extract.worker import ShardReport, ShardTask
from featstore.own_workers import OwnWorkers, ThreadWorker, WorkerLost
from featstore.specs import parse_feature
from featstore.store.location import open_location
from featstore.testing.audio import make_collection
from tests.cluster.poison import environment, extract_command
from tests.cluster.test_lost_workers import collection, contents, finish, ledger

MEL = parse_feature("mel(n_mels=16,scale=db)").spec
ESSENTIA = parse_feature("mel(n_mels=16,scale=db,engine=essentia,framing=essentia,window_symmetric=true)").spec


@pytest.mark.parametrize(
    ("options", "specs", "shards", "chosen"),
    [
        ({"jobs": 2}, [MEL], 100, "forks"),
        ({"jobs": 16}, [MEL], 100, "forks"),
        ({"jobs": 2}, [ESSENTIA], 100, "processes"),
        ({"jobs": 2}, [ESSENTIA], 1, "forks"),  # one of them
        ({"jobs": 2, "track_memory": 1 << 30}, [MEL], 100, "processes"),
        ({"jobs": 2, "cluster": "slurm.yaml"}, [MEL], 1, "processes"),
        ({"jobs": 2, "scheduler": "processes"}, [MEL], 1, "processes"),
        ({"jobs": 2, "scheduler": "threads"}, [MEL], 9, "threads"),
        ({"jobs": 2, "scheduler": "sync"}, [MEL], 9, "sync"),
    ],
)
def test_who_does_the_work(tmp_path, options, specs, shards, chosen) -> None:
    assert choose_scheduler(ExtractOptions(**options), open_location(tmp_path), specs, shards) == chosen


def test_a_store_in_memory_is_written_by_its_own_process() -> None:
    assert choose_scheduler(ExtractOptions(jobs=2), open_location("memory://choice"), [MEL], 9) == "sync"


def index_and_extract(folder: Path) -> str:
    import featstore.workflows.indexing as indexing

    indexing._FORKED_FROM = 2
    tracks = indexing.index_tracks("folder", folder / "m", jobs=2)
    report = extract(
        tracks, [parse_feature("mel(n_mels=16,scale=db)")], folder / "s.zarr", ExtractOptions(jobs=2, shard_tracks=2)
    )
    return f"{len(tracks)} {report.status['ok']}"


def test_a_process_of_a_pool_does_all_by_itself(tmp_path: Path) -> None:
    """It is a daemon, and Python lets those have no children."""
    make_collection(tmp_path / "m", n_tracks=4, seconds=(0.5, 1.0))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(index_and_extract, (tmp_path,)) == "4 4"


# ---- the process by itself ------------------------------------------------------------------------------------------


def act(task: ShardTask, computed: Callable[[], None]) -> ShardReport:
    """What the tests ask of a worker: die, fail, or say where it ran."""
    if task.shard == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if task.shard == 7:
        raise StoreError("no room", "shard 7", "Make some")
    if task.shard == 99:
        time.sleep(60)
    if task.shard >= 50:  # these are computed quickly, and wait long for the disk
        computed()
        time.sleep(1)
    return ShardReport(task.shard, tracks=os.getpid())


def task(shard: int) -> ShardTask:
    return ShardTask("store", shard, (), None)


def gather(worker: ThreadWorker | OwnWorkers) -> ShardReport:
    for _ in range(100):
        report = worker.result(0.1)
        if report is not None:
            return report
    raise AssertionError("no report in ten seconds")


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_reports_and_errors_come_back(fresh: bool) -> None:
    with ThreadWorker(2, act, fresh=fresh) as worker:
        worker.submit(1, task(1))
        assert gather(worker).tracks not in (0, os.getpid()) and not worker.running
        worker.submit(7, task(7))
        with pytest.raises(StoreError, match="no room"):
            gather(worker)
        worker.submit(2, task(2))
        assert gather(worker).shard == 2


def test_a_lost_process_names_what_it_had() -> None:
    with ThreadWorker(2, act, fresh=False) as worker:
        worker.submit(99, task(99))
        worker.submit(13, task(13))
        with pytest.raises(WorkerLost) as lost:
            gather(worker)
    assert [one.shard for one in lost.value.tasks] == [99, 13]


@pytest.mark.slow
def test_shards_are_computed_while_others_are_committed() -> None:
    with ThreadWorker(1, act, fresh=False) as worker:
        began = time.monotonic()
        for shard in (50, 51):
            worker.submit(shard, task(shard))
        assert {gather(worker).shard, gather(worker).shard} == {50, 51}
        assert time.monotonic() - began < 1.9


def test_leaving_early_ends_the_process_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), ThreadWorker(2, act, fresh=False) as worker:
        worker.submit(99, task(99))
        raise KeyboardInterrupt
    assert time.monotonic() - began < 5 and not worker._process.is_alive()


# ---- several --------------------------------------------------------------------------------------------------------


def test_each_process_has_its_own_tasks_and_another_takes_the_place_of_a_lost_one() -> None:
    with OwnWorkers(3, 1, act, fresh=False) as workers:
        for shard in (50, 51, 52):
            workers.submit(shard, task(shard))
        first = {gather(workers).tracks for _ in range(3)}
        assert len(first) == 3 and os.getpid() not in first and workers.n_running == 0
        for shard in (13, 50, 51):
            workers.submit(shard, task(shard))
        with pytest.raises(WorkerLost) as lost:
            gather(workers)
        assert [one.shard for one in lost.value.tasks] == [13] and workers.n_running == 2
        workers.submit(52, task(52))
        later = {gather(workers).tracks for _ in range(3)}
        assert len(later) == 3 and len(later - first) == 1


def test_after_a_loss_threads_become_processes() -> None:
    with OwnWorkers(1, 3, act, fresh=False) as workers:
        workers.submit(13, task(13))
        with pytest.raises(WorkerLost):
            gather(workers)
        for shard in (1, 2, 3):
            workers.submit(shard, task(shard))
        assert len({gather(workers).tracks for _ in range(3)}) == 3


def test_there_is_room_for_two_tasks_a_thread() -> None:
    with pytest.raises(KeyboardInterrupt), OwnWorkers(2, 1, act, fresh=False) as workers:
        for shard in range(60, 64):
            assert workers.has_room
            workers.submit(shard, task(shard))
        assert not workers.has_room
        raise KeyboardInterrupt


# ---- whole runs -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["forks", "threads"])
def test_tracks_that_kill_or_hang_the_process_are_left_out_by_name(tmp_path: Path, scheduler: str) -> None:
    """Also a fault inside a library, and a hang that stops every thread of the process."""
    music = collection(tmp_path / "m", "killer.wav", "hanger.wav", "crasher.wav", "stopper.wav", n_tracks=6)
    limits = ("--scheduler", scheduler, "--shard-tracks", "5", "-j", "2", "--json", "--track-timeout", "4")
    code, report, _ = finish(extract_command(music, tmp_path / "s.zarr", *limits), environment(tmp_path / "trap"))
    assert code == 2
    assert (report["ok"], report["failed"], report["pending"]) == (6, 4, 0)
    assert report["by_reason"] == {"quarantined": 2, "timeout": 2} and report["lost_workers"] >= 1
    said = {name: status for name, (status, _) in ledger(tmp_path / "s.zarr").items()}
    assert said == {
        "killer.wav": "quarantined",
        "crasher.wav": "quarantined",
        "hanger.wav": "timeout",
        "stopper.wav": "timeout",
    }
    assert not list((tmp_path / "s.zarr" / "staging").glob("*"))


@pytest.mark.slow
def test_a_killed_command_takes_its_process_along(tmp_path: Path) -> None:
    """The worker notices within moments, and the next run gives the bytes of an undisturbed one."""
    music = make_collection(tmp_path / "m", n_tracks=8, seconds=(0.5, 1.0))
    store, arguments = tmp_path / "s.zarr", ("--shard-tracks", "1", "-j", "2")
    env = environment(tmp_path / "trap", SLOW_ALL="1", SLOW_S="0.2")
    command = subprocess.Popen(extract_command(music, store, *arguments), env=env, stdout=-3, stderr=-3)
    deadline = time.monotonic() + 60
    while not list(store.glob("commits/*/*.json")):
        assert time.monotonic() < deadline and command.poll() is None
        time.sleep(0.02)
    workers = psutil.Process(command.pid).children(recursive=True)
    command.kill()
    command.wait()
    assert workers and not psutil.wait_procs(workers, timeout=10)[1]
    code, report, _ = finish(extract_command(music, store, *arguments, "--json"), dict(os.environ))
    assert code == 0 and report["ok"] == 8
    finish(extract_command(music, tmp_path / "calm.zarr", "--shard-tracks", "1", "--json", "--scheduler", "sync"), None)
    assert contents(store) == contents(tmp_path / "calm.zarr")


@pytest.mark.slow
def test_an_interrupted_command_ends_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    music = make_collection(tmp_path / "m", n_tracks=4, seconds=(0.5, 1.0))
    store = tmp_path / "s.zarr"
    env = environment(tmp_path / "trap", SLOW_ALL="1", SLOW_S="2")
    words = extract_command(music, store, "--shard-tracks", "1", "-j", "2")
    command = subprocess.Popen(words, env=env, stdout=-3, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(store.glob("staging/*/work.*")):
        assert time.monotonic() < deadline and command.poll() is None
        time.sleep(0.02)
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to every process
    _, said = command.communicate(timeout=10)
    assert command.returncode == 130 and "interrupted" in said and "Traceback" not in said
