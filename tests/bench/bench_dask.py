"""What Dask itself costs a shard: the round trip of a task that does nothing, beside the time a real shard takes.

``python -m tests.bench.bench_dask --out docs/benchmarks/dask.jsonl`` sends tasks that do nothing, then extracts the 14
arrays of the resolution study from clips of music, with the same workers; the share must stay below 2 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.datasets.table import TableInfo
from featstore.extract import ExtractOptions, extract
from featstore.extract.dispatch import Dispatch
from featstore.extract.failures import FailurePolicy
from featstore.extract.plan import Graph
from featstore.extract.worker import ShardReport, ShardTask
from featstore.specs import expand_features
from featstore.store.location import open_location
from tests.bench.bench_audio_common import machine, make_clips, versions, write


def no_work(task: ShardTask) -> ShardReport:
    """What a worker does here: nothing."""
    return ShardReport(task.shard)


def round_trip_ms(folder: Path, jobs: int, tasks: int) -> float:
    """Milliseconds of the whole cluster between two reports, without work."""
    options = ExtractOptions(jobs=jobs)
    todo = [ShardTask(str(folder), shard, ("key",), Graph((), {}, {})) for shard in range(tasks)]
    times = []
    policy = FailurePolicy(open_location(folder), "bench")
    for _ in Dispatch(todo, options, policy, run_shard=no_work).reports():
        times.append(time.perf_counter())
    return 1000 * (times[-1] - times[0]) / (len(times) - 1)


def shard_s(folder: Path, jobs: int, clips: int, shard_tracks: int) -> float:
    """Worker seconds of a shard of the resolution study's 14 arrays; shards of the default size hold more tracks."""
    paths = make_clips(folder / "clips", "44.1 kHz stereo mp3", clips)
    frame = pd.DataFrame({"track_id": [path.name for path in paths], "path": [str(path) for path in paths]})
    table = TrackTable(frame.assign(duration_s=29.2), TableInfo(name="clips"))
    options = ExtractOptions(jobs=jobs, shard_tracks=shard_tracks, progress="none")
    report = extract(table, expand_features(["ferraro2020"]), folder / "s.zarr", options)
    return report.worker_s / report.shards


def main() -> None:
    """Measure both, several times."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, help="file to write the JSON line to (default: stdout)")
    options.add_argument("-j", "--jobs", type=int, default=cpu_count())
    options.add_argument("--tasks", type=int, default=200)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--clips", type=int, default=16)
    options.add_argument("--shard-tracks", type=int, default=4)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trips = [round_trip_ms(Path(folder), chosen.jobs, chosen.tasks) for _ in range(chosen.rounds)]
        work_s = shard_s(Path(folder), chosen.jobs, chosen.clips, chosen.shard_tracks)
    # a worker waits for as long as the cluster needs for one report of each worker
    share = chosen.jobs * statistics.median(trips) / 1000 / work_s
    record: dict[str, Any] = {
        "benchmark": "dask",
        "workers": chosen.jobs,
        "ms_a_task": round(statistics.median(trips), 3),
        "lowest": round(min(trips), 3),
        "highest": round(max(trips), 3),
        "tracks_a_shard": chosen.shard_tracks,
        "worker_s_a_shard": round(work_s, 3),
        "share": round(share, 5),
        "machine": machine(),
        "versions": versions(),
    }
    write([record], chosen.out)


if __name__ == "__main__":
    main()
