"""What a run says while it goes on: JSON lines on stderr, and `status` from anywhere that sees the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from featstore.errors import FeatstoreError
from featstore.extract import ExtractOptions, extract
from featstore.extract.run_progress import runs_under_way
from featstore.extract.work_notes import owner_of
from featstore.owner import Owner
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.location import open_location
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks
from featstore_cli.main import cli
from tests.cluster.poison import environment, extract_command

FEATURES = expand_features(["mel(n_mels=16,scale=db)"])


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("m"), n_tracks=6, seconds=(0.5, 1.0))


@pytest.mark.slow
def test_json_leaves_one_document_on_stdout_and_lines_on_stderr(music: Path, tmp_path: Path) -> None:
    command = extract_command(music, tmp_path / "s.zarr", "--scheduler", "sync", "--shard-tracks", "2", "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    report = json.loads(done.stdout)
    assert report["tracks_done"] == 6 and report["ok"] == 6
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert next(event["event"] for event in events) == "start" and events[-1]["event"] == "end"
    last = events[-1]
    assert last["ok"] is True and last["tracks_done"] == last["tracks"] == 6 and last["remaining_s"] == 0.0
    for name in ("tracks_per_s", "real_time", "mb_per_s", "failed", "lost_workers"):
        assert last[name] >= 0
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert json.loads(again.stdout)["shards_done"] == 0
    assert not [line for line in again.stderr.splitlines() if line.startswith("{")]
    quiet = subprocess.run(command, capture_output=True, env=os.environ | {"FEATSTORE_PROGRESS": "0"}, timeout=120)
    assert quiet.stderr == b""


@pytest.mark.slow
def test_status_tells_of_a_run_and_of_one_that_was_killed(music: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    command = extract_command(music, store, "--scheduler", "sync", "--shard-tracks", "2")
    env = environment(tmp_path / "trap", SLOW_ALL="1", SLOW_S="0.5")
    process = subprocess.Popen(command, env=env, stdout=-1, stderr=-3)
    try:
        deadline = time.monotonic() + 100
        while not list(store.glob("commits/*/*.json")) or not list(store.glob("staging/*/work.*")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        (run,) = runs_under_way(open_location(store))
        assert run["state"] == "running" and run["pid"] == process.pid and run["tracks"] == 6
        told = CliRunner().invoke(cli, ["status", str(store)])
        assert f"running: process {process.pid} on" in told.output, told.output
        shown = json.loads(CliRunner().invoke(cli, ["status", str(store), "--json"]).stdout)
        assert shown["tracks"] == 6 and shown["pending"] > 0 and shown["runs"][0]["state"] == "running"
    finally:
        process.kill()
        process.wait()
    assert runs_under_way(open_location(store))[0]["state"] == "interrupted"
    assert "interrupted: process" in CliRunner().invoke(cli, ["status", str(store)]).output
    assert extract(index_tracks("folder", music), FEATURES, store, ExtractOptions(scheduler="sync")).status["ok"] == 6
    assert runs_under_way(open_location(store)) == []
    assert not [name for name in os.listdir(store / "log") if name.startswith("running")]


def test_threads_give_the_same_bytes(music: Path, tmp_path: Path) -> None:
    tables = index_tracks("folder", music)
    for name, scheduler in (("a", "threads"), ("b", "sync")):
        extract(tables, FEATURES, tmp_path / name, ExtractOptions(scheduler=scheduler, jobs=3, shard_tracks=2))
    assert open_store(tmp_path / "a").fingerprint == open_store(tmp_path / "b").fingerprint


@pytest.mark.slow
def test_a_running_scheduler_is_joined_and_its_loss_costs_nothing_committed(music: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    store = tmp_path / "s.zarr"
    env = environment(tmp_path / "trap", SLOW_ALL="1", SLOW_S="0.3")
    address_file = tmp_path / "scheduler.json"
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen(
        [*words, "--no-dashboard", "--scheduler-file", str(address_file)], env=env, stdout=-3, stderr=-3
    )
    worker = None
    try:
        deadline = time.monotonic() + 60
        while not address_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        address = json.loads(address_file.read_text())["address"]
        words = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        worker = subprocess.Popen([*words, "--local-directory", str(tmp_path / "w")], env=env, stdout=-3, stderr=-3)
        command = extract_command(music, store, "--scheduler", address, "--shard-tracks", "1", "--json")
        process = subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True)
        deadline = time.monotonic() + 120
        while len(list(store.glob("commits/*/*.json"))) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        scheduler.kill()
        _out, err = process.communicate(timeout=180)
        assert process.returncode == 1 and "error: the Dask scheduler was lost" in err, err[-2000:]
    finally:
        for each in (scheduler, worker):
            if each is not None:
                each.kill()
                each.wait()
    done = len(list(store.glob("commits/*/*.json")))
    assert 2 <= done < 6
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        options = ExtractOptions(scheduler=cluster.scheduler_address)
        report = extract(index_tracks("folder", music), FEATURES, store, options)
    assert report.status["ok"] == 6 and report.shards == 6 - done


@pytest.mark.slow
def test_no_scheduler_there(music: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatstoreError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        extract(index_tracks("folder", music), FEATURES, tmp_path / "s", ExtractOptions(scheduler="tcp://127.0.0.1:9"))


def test_the_owner_of_a_staging_folder_is_read_from_its_name() -> None:
    own = Owner.this_process()
    found = owner_of(f"{own.label}-0a1b2c3d")
    assert found is not None and found.is_local and found.pid == own.pid and not found.is_gone(1e6)
    assert owner_of("not-a-label") is None
