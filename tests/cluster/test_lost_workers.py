"""Workers that die or hang on a real cluster of processes: the run goes on, and the guilty track is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from featstore.store import open_store
from featstore.store.ledger import read_ledger
from featstore.testing.audio import make_collection
from tests.cluster.poison import environment, extract_command

pytestmark = [pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")]


def collection(folder: Path, *bad: str, n_tracks: int = 8) -> Path:
    make_collection(folder, n_tracks=n_tracks, seconds=(0.5, 1.0))
    for name in bad:
        shutil.copy(folder / "a" / "0000.wav", folder / "b" / name)
    return folder


def finish(command: list[str], env: dict[str, str], timeout_s: float = 240) -> tuple[int, dict, list[dict]]:
    """Exit code, the document on stdout, and the events on stderr."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s)
    assert done.stdout, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return done.returncode, json.loads(done.stdout), events


def ledger(store: Path) -> dict[str, tuple[str, str]]:
    rows = read_ledger(open_store(store))
    return {Path(path).name: (status, error) for path, status, error in rows[["path", "status", "error"]].to_numpy()}


LIMITS = ("--track-timeout", "8", "--track-memory", "900MB")


@pytest.mark.slow
def test_tracks_that_kill_hang_or_bloat_their_worker_are_left_out_by_name(tmp_path: Path) -> None:
    music = collection(tmp_path / "m", "killer.wav", "hanger.wav", "eater.wav")
    command = extract_command(music, tmp_path / "s.zarr", "--shard-tracks", "4", "-j", "2", "--json", *LIMITS)
    code, report, events = finish(command, environment(tmp_path / "trap"))
    assert code == 2
    assert (report["ok"], report["failed"], report["pending"]) == (8, 3, 0)
    assert report["by_reason"] == {"quarantined": 2, "timeout": 1}
    assert 3 <= report["lost_workers"] <= 9 and report["shards_given_up"] == []
    said = ledger(tmp_path / "s.zarr")
    assert {name: status for name, (status, _) in said.items()} == {
        "killer.wav": "quarantined",
        "hanger.wav": "timeout",
        "eater.wav": "quarantined",
    }
    assert "3 times now (the last time: ended by signal SIGKILL)" in said["killer.wav"][1]
    assert "the last time: not done after 8 s" in said["hanger.wav"][1]
    assert "needed more than 0.90 GB of memory" in said["eater.wav"][1]
    assert not list((tmp_path / "s.zarr" / "staging").glob("*/work.*")), "notes are cleared"
    assert not list((tmp_path / "s.zarr" / "log").glob("running-*"))
    assert events[0]["event"] == "start" and events[-1]["event"] == "end"
    # without the trap the same tracks are as good as any: asked for again, they are computed
    code, report, _ = finish([*command, "--retry", "all", "--scheduler", "sync"], dict(os.environ))
    assert code == 0 and report["ok"] == 11 and report["failed"] == 0


@pytest.mark.slow
def test_a_decoder_that_crashes_or_keeps_the_lock(tmp_path: Path) -> None:
    """A fault inside a library, and a hang that stops every thread of the worker."""
    music = collection(tmp_path / "m", "crasher.wav", "stopper.wav", n_tracks=4)
    command = extract_command(music, tmp_path / "s.zarr", "--shard-tracks", "4", "-j", "2", "--json", *LIMITS)
    code, report, _ = finish(command, environment(tmp_path / "trap"))
    assert code == 2 and report["ok"] == 4 and report["by_reason"] == {"quarantined": 1, "timeout": 1}
    assert "signal SIGSEGV" in ledger(tmp_path / "s.zarr")["crasher.wav"][1]


@pytest.mark.slow
def test_workers_killed_from_outside_cost_nothing_but_time(tmp_path: Path) -> None:
    """Every worker is killed in the middle; the store equals that of a run left alone."""
    music = collection(tmp_path / "m", *(f"slow{n}.wav" for n in range(4)))
    env = environment(tmp_path / "trap", SLOW_S="0.7")
    arguments = ("--shard-tracks", "2", "-j", "2", "--json")
    store = tmp_path / "s.zarr"
    process = subprocess.Popen(extract_command(music, store, *arguments), env=env, stdout=-1, stderr=-3, text=True)
    deadline = time.monotonic() + 120
    while not list(store.glob("commits/*/*.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    victims = {int(path.name.rsplit("-", 3)[1]) for path in store.glob("staging/*")} - {process.pid}
    for pid in victims:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=240)
    report = json.loads(out)
    assert process.returncode == 0 and report["ok"] == 12 and victims
    assert report["lost_workers"] >= 1
    calm = extract_command(music, tmp_path / "calm.zarr", "--shard-tracks", "2", "--json", "--scheduler", "sync")
    finish(calm, dict(os.environ))
    assert contents(store) == contents(tmp_path / "calm.zarr")


def contents(store: Path) -> dict[str, bytes]:
    """Every file that counts."""
    inside = {path.relative_to(store): path for path in store.rglob("*") if path.is_file()}
    return {str(n): path.read_bytes() for n, path in inside.items() if n.parts[0] not in ("log", "leases", "staging")}


@pytest.mark.slow
def test_a_run_that_one_track_kills_again_and_again_ends_by_itself(tmp_path: Path) -> None:
    """Without worker processes the run dies with the track; the next run remembers, and tries it elsewhere first."""
    music = collection(tmp_path / "m", "killer.wav", n_tracks=4)
    env = environment(tmp_path / "trap")
    command = extract_command(music, tmp_path / "s.zarr", "--shard-tracks", "8", "--scheduler", "sync", "--json")
    first = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert first.returncode == -signal.SIGKILL
    code, report, _ = finish(command, env)
    assert code == 2 and report["ok"] == 4 and report["by_reason"] == {"quarantined": 1}
