"""Planning and dispatching an extraction of the resolution study's 14 arrays over synthetic tables of many tracks.

``python -m tests.bench.bench_scale --out docs/benchmarks/scale.jsonl`` writes one JSON line for each of 10^3, 10^4,
10^5 and 10^6 tracks, each in a process of its own: seconds from a table in memory to the list of tasks, seconds for
sending every task through a real Dask cluster whose workers do nothing, peak memory of the process that plans and of
the scheduler's own process, futures alive at most, and the files that the finished store would have.
``--shard-tracks 16`` makes shards as small as they come: 62,500 of them for 10^6 tracks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.datasets.table import TableInfo
from featstore.extract import ExtractOptions
from featstore.extract.dispatch import Dispatch
from featstore.extract.failures import FailurePolicy
from featstore.extract.forecast import forecast
from featstore.extract.plan import make_plan
from featstore.extract.run import make_tasks, prepare
from featstore.extract.worker import ShardReport, ShardTask
from featstore.process_memory import peak_resident_bytes
from featstore.specs import expand_features
from featstore.store.missing import find_missing
from tests.bench.bench_audio_common import machine, versions, write

SIZES = (1_000, 10_000, 100_000, 1_000_000)
PRESET = "ferraro2020"
START_S = 60.0


def no_work(task: ShardTask) -> ShardReport:
    """What a worker does here: nothing."""
    return ShardReport(task.shard)


def synthetic_table(n_tracks: int) -> TrackTable:
    """Probed tracks of three to five minutes, with a label and a split."""
    rng = np.random.default_rng(0)
    names = [f"artist{number // 12:06d}/track{number:07d}.mp3" for number in range(n_tracks)]
    frame = pd.DataFrame(
        {
            "track_id": names,
            "path": ["/music/" + name for name in names],
            "labels": [["rock"] if number % 2 else ["jazz"] for number in range(n_tracks)],
            "split": np.where(np.arange(n_tracks) % 10 < 8, "train", "test"),
            "duration_s": rng.uniform(180, 300, n_tracks),
            "source_sample_rate": 44100,
            "channels": 2,
            "size_bytes": 4_000_000,
        }
    )
    return TrackTable(frame, TableInfo(name="synthetic", task="single_label", classes=("jazz", "rock")))


def measure(n_tracks: int, jobs: int, *, dispatched: bool = True, shard_tracks: int | None = None) -> dict[str, Any]:
    """One point of the curve."""
    requests = expand_features([PRESET])
    table = synthetic_table(n_tracks)
    peak_before = peak_resident_bytes()
    with tempfile.TemporaryDirectory() as folder:
        started, cpu_started = time.perf_counter(), time.process_time()
        plan = make_plan(requests)
        options = ExtractOptions(jobs=jobs, shard_tracks=shard_tracks)
        store = prepare(table, plan, Path(folder) / "s.zarr", options)
        prepared = time.perf_counter()
        tasks = make_tasks(store, table, find_missing(store, plan.keys), options, "bench")
        planned, cpu_planned = time.perf_counter(), time.process_time()
        peak_planned = peak_resident_bytes()
        told = _dispatch(tasks, jobs, FailurePolicy(store.location, "bench"), Path(folder)) if dispatched else {}
    files = forecast(table, requests, sample=0, shard_tracks=shard_tracks).n_files
    return {
        "benchmark": "scale",
        "preset": PRESET,
        "arrays": len(plan.keys),
        "tracks": n_tracks,
        "shards": len(tasks),
        "files_when_done": files,
        "plan_s": round(planned - started, 3),
        "plan_cpu_s": round(cpu_planned - cpu_started, 3),
        "of_that_store_s": round(prepared - started, 3),
        "peak_rss_bytes": {"table": peak_before, "planned": peak_planned, "dispatched": peak_resident_bytes()},
        "machine": machine(),
        "versions": versions(),
    } | told


def _dispatch(tasks: list[ShardTask], jobs: int, policy: FailurePolicy, folder: Path) -> dict[str, Any]:
    """Send every task through a scheduler in a process of its own to workers that do nothing."""
    with _cluster(jobs, folder) as (address, scheduler):
        idle = _peak_of(scheduler)
        dispatch = Dispatch(tasks, ExtractOptions(jobs=jobs, scheduler=address), policy, run_shard=no_work)
        times = [time.perf_counter() for _ in dispatch.reports()]
        assert len(times) == len(tasks)
        busy = _peak_of(scheduler)
    seconds = times[-1] - times[0]
    return {
        "workers": jobs,
        "dispatch_s": round(seconds, 3),
        "dispatch_ms_a_shard": round(1000 * seconds / max(1, len(times) - 1), 3),
        "most_futures": dispatch.most_in_flight,
        "scheduler_peak_rss_bytes": {"idle": idle, "dispatched": busy},
    }


@contextlib.contextmanager
def _cluster(jobs: int, folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process of a Dask scheduler that has its workers; they end with the block."""
    told = folder / "scheduler.json"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": os.getcwd()}
    module = [sys.executable, "-m", "distributed.cli"]
    asked = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(told)]
    started = [subprocess.Popen([*module[:2], f"{module[2]}.dask_scheduler", *asked], **quiet)]
    try:
        deadline = time.monotonic() + START_S
        while not told.exists() or not told.read_text().strip():
            if time.monotonic() > deadline or started[0].poll() is not None:
                raise RuntimeError("the Dask scheduler did not start")
            time.sleep(0.1)
        address = str(json.loads(told.read_text())["address"])
        asked = [address, "--nworkers", str(jobs), "--nthreads", "1", "--dashboard-address", "127.0.0.1:0"]
        asked += ["--local-directory", str(folder / "workers"), "--no-dashboard"]
        started.append(subprocess.Popen([*module[:2], f"{module[2]}.dask_worker", *asked], **quiet))
        _await_workers(address, jobs)
        yield address, started[0].pid
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait(30)


def _peak_of(process: int) -> int:
    """Most memory that another process has had resident."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _await_workers(address: str, jobs: int) -> None:
    from distributed import Client

    with Client(address, timeout=START_S) as client:
        client.wait_for_workers(jobs, timeout=START_S)


def main() -> None:
    """Measure each size in a process of its own."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, help="file to write the JSON lines to (default: stdout)")
    options.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options.add_argument("-j", "--jobs", type=int, default=cpu_count())
    options.add_argument("--plan-only", action="store_true", help="leave the dispatching out")
    options.add_argument("--shard-tracks", type=int, help="tracks a shard (default: as an extraction chooses)")
    options.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        dispatched = not chosen.plan_only
        found = measure(chosen.one, chosen.jobs, dispatched=dispatched, shard_tracks=chosen.shard_tracks)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    records = []
    for size in chosen.sizes:
        command = [sys.executable, "-m", "tests.bench.bench_scale", "--one", str(size), "-j", str(chosen.jobs)]
        command += ["--plan-only"] if chosen.plan_only else []
        command += ["--shard-tracks", str(chosen.shard_tracks)] if chosen.shard_tracks else []
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        records.append(json.loads(done.stdout.splitlines()[-1]))
        sys.stderr.write(f"{size} tracks: {records[-1]['plan_s']} s\n")
        if chosen.out is not None:  # what is measured stays, whatever comes of the larger ones
            write(records, chosen.out)
    if chosen.out is None:
        write(records, None)


if __name__ == "__main__":
    main()
