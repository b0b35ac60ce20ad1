"""Planning and dispatching an extraction of the resolution study's 14 arrays over synthetic tables of many tracks.

``python -m tests.bench.bench_scale --out docs/benchmarks/scale.jsonl`` writes one JSON line for each of 10^3, 10^4,
10^5 and 10^6 tracks, each in a process of its own: seconds from a table in memory to the list of tasks, seconds for
sending every task through a real Dask cluster whose workers do nothing, peak memory of the process that holds both plan
and scheduler, futures alive at most, and the files that the finished store would have.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
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
from tests.bench.bench_audio_common import machine, versions, write

SIZES = (1_000, 10_000, 100_000, 1_000_000)
PRESET = "ferraro2020"


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


def measure(n_tracks: int, jobs: int, *, dispatched: bool = True) -> dict[str, Any]:
    """One point of the curve."""
    requests = expand_features([PRESET])
    table = synthetic_table(n_tracks)
    peak_before = _peak()
    with tempfile.TemporaryDirectory() as folder:
        started, cpu_started = time.perf_counter(), time.process_time()
        plan = make_plan(requests)
        options = ExtractOptions(jobs=jobs)
        store = prepare(table, plan, Path(folder) / "s.zarr", options)
        prepared = time.perf_counter()
        tasks = make_tasks(store, table, store.missing(plan.keys), options, "bench")
        planned, cpu_planned = time.perf_counter(), time.process_time()
        peak_planned = _peak()
        told = _dispatch(tasks, options, FailurePolicy(store.location, "bench")) if dispatched else {}
    files = forecast(table, requests, sample=0).n_files
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
        "peak_rss_bytes": {"table": peak_before, "planned": peak_planned, "dispatched": _peak()},
        "machine": machine(),
        "versions": versions(),
    } | told


def _dispatch(tasks: list[ShardTask], options: ExtractOptions, policy: FailurePolicy) -> dict[str, Any]:
    """Send every task through Dask to workers that do nothing."""
    dispatch = Dispatch(tasks, options, policy, run_shard=no_work)
    times = [time.perf_counter() for _ in dispatch.reports()]
    assert len(times) == len(tasks)
    seconds = times[-1] - times[0]
    return {
        "dispatch_s": round(seconds, 3),
        "dispatch_ms_a_shard": round(1000 * seconds / max(1, len(times) - 1), 3),
        "most_futures": dispatch.most_in_flight,
    }


def _peak() -> int:
    return peak_resident_bytes()


def main() -> None:
    """Measure each size in a process of its own."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, help="file to write the JSON lines to (default: stdout)")
    options.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options.add_argument("-j", "--jobs", type=int, default=cpu_count())
    options.add_argument("--plan-only", action="store_true", help="leave the dispatching out")
    options.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        sys.stdout.write(json.dumps(measure(chosen.one, chosen.jobs, dispatched=not chosen.plan_only)) + "\n")
        return
    records = []
    for size in chosen.sizes:
        command = [sys.executable, "-m", "tests.bench.bench_scale", "--one", str(size), "-j", str(chosen.jobs)]
        command += ["--plan-only"] if chosen.plan_only else []
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        records.append(json.loads(done.stdout.splitlines()[-1]))
        sys.stderr.write(f"{size} tracks: {records[-1]['plan_s']} s\n")
        if chosen.out is not None:  # what is measured stays, whatever comes of the larger ones
            write(records, chosen.out)
    if chosen.out is None:
        write(records, None)


if __name__ == "__main__":
    main()
