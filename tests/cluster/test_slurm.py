"""Extraction through a real SLURM of one node, with a job cancelled in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.poison import environment, extract_command
from tests.cluster.test_lost_workers import contents, finish

SCRIPT = Path(__file__).with_name("slurm_node.sh")


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A running cluster; the reason is printed where there can be none."""
    reason = subprocess.run([SCRIPT, "why"], capture_output=True, text=True, timeout=30).stdout.strip()
    if reason:
        pytest.skip(reason)
    started = subprocess.run([SCRIPT, "up"], capture_output=True, text=True, timeout=600)
    if started.returncode:
        pytest.skip(f"SLURM does not start here: {started.stderr.strip()[-300:]}")
    yield
    subprocess.run([SCRIPT, "down"], timeout=60, check=False)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest demo set: one clip a style."""
    pytest.importorskip("symusic", reason="the demo music needs the extra [demo]")
    folder = tmp_path_factory.mktemp("demo")
    words = ["datasets", "index", "demo", str(folder / "demo"), "--size", "1", "-o", str(folder / "tracks.parquet")]
    command = [sys.executable, "-m", "featstore_cli.main", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return folder / "tracks.parquet"


def squeue() -> list[tuple[str, str]]:
    """(job, state) of all jobs in the queue."""
    done = subprocess.run(["squeue", "--noheader", "--format", "%i %T"], capture_output=True, text=True, check=True)
    return [tuple(line.split()) for line in done.stdout.splitlines()]  # type: ignore[misc]


def cluster_file(folder: Path, *, adaptive: bool) -> Path:
    """Two jobs of one worker; the trap that slows every track down is set in the jobs alone."""
    env = environment(folder / "trap")
    content = f"""
kind: slurm
jobs: 2
adaptive: {str(adaptive).lower()}
cores: 1
memory: 2GB
walltime: "00:20:00"
queue: debug
interface: lo
environment:
  PYTHONPATH: {env["PYTHONPATH"]}
  SLOW_ALL: "1"
  SLOW_S: "0.5"
log_directory: {folder / "jobs"}
local_directory: {folder / "scratch"}
"""
    path = folder / "slurm.yaml"
    path.write_text(content)
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
def test_the_demo_set_through_slurm_with_a_job_cancelled(
    slurm: None, music: Path, tmp_path: Path, adaptive: bool
) -> None:
    store, log = tmp_path / "s.zarr", []
    file = cluster_file(tmp_path, adaptive=adaptive)
    command = extract_command(music, store, "--cluster", str(file), "--shard-tracks", "1", "--json")
    started = time.monotonic()

    def note(text: str) -> None:
        log.append(f"{time.monotonic() - started:6.1f} s  {text}")

    note("$ featstore " + " ".join(command[3:]).replace(str(tmp_path), "~"))
    errors = tmp_path / "stderr"
    with open(errors, "w", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, env=dict(os.environ), stdout=-1, stderr=stderr, text=True)
    cancelled = ""
    seen: list[tuple[str, str]] = []
    while process.poll() is None:
        assert time.monotonic() - started < 300, errors.read_text()
        if squeue() != seen:
            seen = squeue()
            note("squeue: " + (", ".join(f"{job} {state}" for job, state in seen) or "empty"))
        done = len(list(store.glob("commits/*/*.json")))
        running = [job for job, state in seen if state == "RUNNING"]
        if not cancelled and done >= 2 and running:
            cancelled = running[0]
            subprocess.run(["scancel", cancelled], check=True)
            note(f"$ scancel {cancelled}    ({done} of 12 shards are committed)")
        time.sleep(0.2)
    out = process.communicate()[0]
    report = json.loads(out)
    note(
        f"exit code {process.returncode}: {report['ok']} of {report['tracks']} tracks ok, workers lost: "
        f"{report['lost_workers']}"
    )
    print("\n".join(log))
    assert cancelled, "no job was cancelled"
    assert process.returncode == 0 and report["ok"] == 12 and report["shards_given_up"] == []
    deadline = time.monotonic() + 30
    while squeue() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not squeue(), "jobs are given back at the end"
    code, _, _ = finish(
        extract_command(music, tmp_path / "calm.zarr", "--shard-tracks", "1", "--scheduler", "sync", "--json"),
        dict(os.environ),
    )
    assert code == 0 and contents(store) == contents(tmp_path / "calm.zarr")
