"""How many workers a shared file system feeds: measured costs of a track, a closed form, and a simulation of it.

``python -m tests.bench.cluster_model --bandwidth 2e9 --metadata-rate 5000`` extracts some clips, once as the resolution
study's 88 configurations and once as one uint8 mel, counts what a track costs, and prints one JSON line for each:
CPU seconds, bytes read and written, metadata operations (files made, renamed or removed, folders made, flushes), and
the number of workers at which the file system is the limit. ``--out`` keeps the lines.

The model is a closed queueing network. A worker computes a shard, then its operations wait for the metadata server and
its bytes for the data servers, one request after the other. With ``Z`` seconds of computing and ``D`` seconds at each
server for a shard, throughput cannot exceed ``N / (Z + sum(D))`` nor ``1 / max(D)``; they meet at the saturation point
``N = (Z + sum(D)) / max(D)`` (P. J. Denning and J. P. Buzen, "The operational analysis of queueing network models",
ACM Computing Surveys 10 (1978), section on bottlenecks). Workers that compute a shard while the last one is flushed
reach the limit a little earlier.
"""

from __future__ import annotations

import argparse
import builtins
import heapq
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.bench.bench_audio_common import clip_table, machine, make_clips, one_thread, versions, write

CALLS = ("fsync", "fdatasync", "replace", "rename", "unlink", "mkdir", "rmdir")  # of os; files made are counted by open
FEATURES = {"88 configurations": "ferraro2020", "one uint8 mel": "mel(n_mels=96,scale=db)@uint8"}
SIMULATED = 400  # shards that each worker does


@dataclass(frozen=True)
class Cost:
    """What a shard costs.

    Attributes
    ----------
    tracks : int
    cpu_s : float
    size_bytes : float
        Read and written.
    operations : float
        Of metadata.
    """

    tracks: int
    cpu_s: float
    size_bytes: float
    operations: float


@dataclass(frozen=True)
class FileSystem:
    """A shared file system.

    Attributes
    ----------
    bandwidth : float
        Bytes per second, of all clients together.
    metadata_rate : float
        Operations per second.
    """

    bandwidth: float
    metadata_rate: float

    def demands(self, cost: Cost) -> tuple[float, float]:
        """Seconds that a shard keeps the metadata server and the data servers busy."""
        return cost.operations / self.metadata_rate, cost.size_bytes / self.bandwidth


def saturation(cost: Cost, system: FileSystem) -> float:
    """Workers at which the file system is the limit: more of them add less than they cost."""
    demands = system.demands(cost)
    return (cost.cpu_s + sum(demands)) / max(demands)


def bound(cost: Cost, system: FileSystem, workers: int) -> float:
    """Tracks per second that ``workers`` cannot exceed."""
    demands = system.demands(cost)
    return cost.tracks * min(workers / (cost.cpu_s + sum(demands)), 1 / max(demands))


def simulate(cost: Cost, system: FileSystem, workers: int, *, shards: int = SIMULATED, seed: int = 0) -> float:
    """Tracks per second of ``workers``, each of which does some shards; times of computing vary by a fifth."""
    rng = np.random.default_rng(seed)
    demands = system.demands(cost)
    free = [0.0] * len(demands)  # when each server is done with what it has
    computing = cost.cpu_s * rng.uniform(0.8, 1.2, (workers, shards + 1))
    # (time, worker, shard, server that it comes to)
    events = [(float(rng.uniform(0, cost.cpu_s)), worker, 0, 0) for worker in range(workers)]
    heapq.heapify(events)
    ended = []
    while events:
        now, worker, shard, server = heapq.heappop(events)
        free[server] = max(free[server], now) + demands[server]
        if server + 1 < len(demands):
            heapq.heappush(events, (free[server], worker, shard, server + 1))
            continue
        ended.append(free[server])
        if shard + 1 < shards:
            heapq.heappush(events, (free[server] + float(computing[worker, shard + 1]), worker, shard + 1, 0))
    ended.sort()
    first, last = len(ended) // 4, 3 * len(ended) // 4  # the beginning and the end have idle workers
    return cost.tracks * (last - first) / (ended[last] - ended[first])


# ---- what a track costs ------------------------------------------------------------------------------------------


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count calls that change metadata, and flushes, made by this process."""
    from featstore.store import write_behind

    seen: Counter[str] = Counter()

    def counting(name: str, call: Any) -> Any:
        def counted_call(*arguments: Any, **options: Any) -> Any:
            seen[name] += 1
            return call(*arguments, **options)

        return counted_call

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        seen["make"] += "w" in mode or "x" in mode
        return plain_open(file, mode, *arguments, **options)

    plain_open = builtins.open
    with (
        mock.patch.object(builtins, "open", opened),
        mock.patch.object(write_behind, "_flush", counting("fdatasync", write_behind._flush)),
        mock.patch.multiple(os, **{name: counting(name, getattr(os, name)) for name in CALLS}),
    ):
        yield seen


def measure(folder: Path, feature: str, clips: Sequence[Path], shard_tracks: int) -> tuple[Cost, dict[str, int]]:
    """Cost of a shard: what two of them take more than one, so that starting up does not count."""
    from featstore.extract import ExtractOptions, extract
    from featstore.specs import expand_features
    from tests.bench.bench_mel import SECONDS, study

    name, _, encoding = feature.partition("@")
    names = [spec.canonical() for spec in study()] if name == "ferraro2020" else [name]
    found = []
    for shards in (1, 1, 3):  # the first one warms up
        table = clip_table([clips[number % len(clips)] for number in range(shards * shard_tracks)], SECONDS)
        options = ExtractOptions(jobs=1, scheduler="sync", progress="none", shard_tracks=shard_tracks)
        with tempfile.TemporaryDirectory(dir=folder) as store, counted() as seen:
            began = time.process_time()
            report = extract(table, expand_features(names, encoding or None), Path(store) / "s.zarr", options)
            found.append((time.process_time() - began, report.written_bytes, seen))
    (cpu_one, bytes_one, calls_one), (cpu_more, bytes_more, calls_more) = found[1:]
    read = sum(clips[number % len(clips)].stat().st_size for number in range(shard_tracks))
    calls = {name: (count - calls_one[name]) // 2 for name, count in sorted(calls_more.items())}
    size_bytes = (bytes_more - bytes_one) / 2 + read
    return Cost(shard_tracks, (cpu_more - cpu_one) / 2, size_bytes, sum(calls.values())), calls


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bandwidth", type=float, default=2e9, help="bytes per second of the shared file system")
    options.add_argument("--metadata-rate", type=float, default=5000, help="its operations per second")
    options.add_argument("--shard-tracks", type=int, default=64)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    one_thread()
    system, records = FileSystem(chosen.bandwidth, chosen.metadata_rate), []
    with tempfile.TemporaryDirectory(prefix="cluster_model_") as folder:
        clips = make_clips(Path(folder) / "clips", "16 kHz mono mp3", 4)
        for name, feature in FEATURES.items():
            cost, calls = measure(Path(folder), feature, clips, chosen.shard_tracks)
            records.append(
                {"benchmark": "cluster_model", "row": name, "a_shard": asdict(cost), "calls": calls}
                | report(cost, system)
            )
    write([record | {"machine": machine(), "versions": versions()} for record in records], chosen.out)


def report(cost: Cost, system: FileSystem) -> dict[str, Any]:
    """Saturation, and tracks per second around it, by the closed form and by simulation."""
    limit = saturation(cost, system)
    metadata, data = system.demands(cost)
    around = sorted({max(1, round(limit * share)) for share in (0.25, 0.5, 1, 2)})
    return {
        "file_system": asdict(system),
        "workers_at_saturation": round(limit, 1),
        "limit": "metadata" if metadata > data else "bandwidth",
        "tracks_per_second": {
            str(workers): {
                "at_most": round(bound(cost, system, workers), 1),
                "simulated": round(simulate(cost, system, workers, shards=60), 1),
            }
            for workers in around
        },
    }


if __name__ == "__main__":
    main()
