"""What an extraction costs in seconds, by doing a little of it.

A few tracks go through the graph into a store that is thrown away.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featstore.errors import DecodeError
from featstore.extract.execute import run_track
from featstore.extract.plan import Plan
from featstore.extract.worker import versions
from featstore.process_memory import keep_freed_memory
from featstore.store import Store, create_store
from featstore.store.layout import mean_duration
from featstore.store.writing import add_arrays, write_shard

__all__ = ["Cost", "expected_durations", "time_sample"]

logger = logging.getLogger(__name__)

FLUSH_BYTES = 16 << 20  # written to see how fast the disk is
SAMPLE_BYTES = 2 << 30  # what the sample may write before it is thrown away
_START = """
import sys, time
import distributed, featstore.extract.worker
from featstore.extract.execute import run_track
from featstore.extract.plan import make_plan
from featstore.specs import expand_features
graph = make_plan(expand_features(sys.argv[2:])).graph
for _ in range(2):
    began = time.perf_counter()
    run_track(sys.argv[1], graph, lambda key, block: None)
    print(time.perf_counter() - began, flush=True)
"""
START_IMPORTS = 2.5  # scheduler, then nanny, then worker with its compiled code: partly beside each other
ENOUGH_S = 20.0  # of work are enough for an estimate: further tracks of the sample are left out


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one core.

    Attributes
    ----------
    per_audio_s : float
        For a second of audio: decoding, computing, encoding, writing.
    per_shard, per_byte : float
        For committing a shard, and for each byte that it flushes to the disk.
    ratio : float
        Bytes of chunks on the disk for one without compression.
    tracks : int
        Timed tracks.
    start_s : float
        Until a local cluster of processes is at work.
    """

    per_audio_s: float
    per_shard: float
    per_byte: float
    ratio: float
    tracks: int
    start_s: float

    def seconds(self, audio_s: float, n_shards: int, n_bytes: float) -> float:
        """Seconds of one core for a whole extraction."""
        return self.per_audio_s * audio_s + self.per_shard * n_shards + self.per_byte * n_bytes


@dataclass(slots=True)
class _Shard:
    """What a shard of the sample took."""

    compute_s: float = 0.0
    audio_s: float = 0.0
    commit_s: float = 0.0
    data_bytes: int = 0
    plain_bytes: int = 0
    tracks: int = 0


def expected_durations(tracks: pd.DataFrame) -> pd.Series[float]:
    """Seconds of each track: as probed, 0 where it cannot be read, and the mean of the others where it is unknown."""
    durations_s = tracks["duration_s"].astype(np.float64).mask(tracks["probe_error"].notna(), 0.0)
    return durations_s.fillna(mean_duration(tracks["duration_s"]))


def time_sample(
    plan: Plan,
    tracks: pd.DataFrame,
    *,
    sample: int,
    compression: str = "none",
    backend: str = "zarr",
) -> Cost | None:
    """Extract some tracks, drawn at random but always the same, into a store in a temporary folder.

    Parameters
    ----------
    plan : Plan
    tracks : pandas.DataFrame
        With ``path`` and ``duration_s``: long ones are not taken where they would fill the temporary folder.
    sample : int
        Tracks to time. Two go before them, uncounted: another one, and the first of them: they compile and warm up.

    Returns
    -------
    Cost or None
        None where not one of them could be decoded.
    """
    paths = [str(path) for path in tracks["path"]]
    durations_s = expected_durations(tracks).to_numpy(dtype=np.float64)
    bytes_per_second = sum(header.frame_bytes * header.frames_per_second for header in plan.headers)
    affordable = np.flatnonzero(durations_s * bytes_per_second < SAMPLE_BYTES / (sample + 1))
    if len(affordable) == 0:
        logger.warning("every track is too long to be tried out: no seconds are forecast")
        return None
    order = np.random.default_rng(0).permutation(affordable)[: sample + 1]
    shards = [[paths[order[0]]], [paths[i] for i in (order[1:] if len(order) > 1 else order)]]
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="featstore-plan-") as folder:
        width = max(map(len, shards))
        rows = [f"{shard}-{slot}" for shard in (0, 1) for slot in range(width)]
        frame = pd.DataFrame({"track_id": rows, "path": ""})
        store = create_store(Path(folder) / "s", frame, plan.headers, shard_tracks=width, backend=backend)
        add_arrays(store, plan.headers, compression)
        _run(store, plan, 0, shards[0])
        _warm_up(plan, shards[1])
        second = _run(store, plan, 1, shards[1])
        per_byte = _flush_seconds(Path(folder)) / FLUSH_BYTES
    if second.audio_s == 0:
        return None
    per_shard = max(0.0, second.commit_s - per_byte * second.data_bytes)
    ratio = 1.0 if compression == "none" else second.data_bytes / max(1, second.plain_bytes)
    return Cost(
        second.compute_s / second.audio_s,
        per_shard,
        per_byte,
        ratio,
        second.tracks,
        _start_seconds(plan, paths[order[0]]),
    )


def _warm_up(plan: Plan, paths: list[str]) -> None:
    """Take the first readable one of the tracks to be timed through the graph: what it needs is compiled then.

    The track before may be unreadable, or have other channels, rates or lengths that need code of their own.
    """
    for path in paths:
        with suppress(DecodeError, OSError):
            run_track(path, plan.graph, lambda key, block: None)
            return


def _flush_seconds(folder: Path) -> float:
    """Seconds that the disk takes for :data:`FLUSH_BYTES`.

    The commits of two small shards say nothing of it: their difference is noise.
    """
    started = time.perf_counter()
    with open(folder / "flush", "wb") as file:
        file.write(bytes(FLUSH_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - started


def _start_seconds(plan: Plan, path: str) -> float:
    """Seconds until a local cluster is at work, from those of one process that does what a worker does at first.

    It imports, and takes one track twice: by how much the first time is longer, compiled code was loaded.
    """
    names = [header.spec.canonical() for header in plan.headers]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _START, path, *names], check=False, capture_output=True, text=True)
    spent = time.perf_counter() - began
    times = [float(text) for text in done.stdout.split()]
    if len(times) < 2:  # a feature that needs more than its name, or a track that cannot be decoded
        return START_IMPORTS * spent
    return START_IMPORTS * (spent - sum(times)) + max(0.0, times[0] - times[1])


def _run(store: Store, plan: Plan, number: int, paths: list[str]) -> _Shard:
    """Do as a worker does with a shard, by the clock."""
    seen = _Shard()
    with write_shard(store, number, plan.keys) as writer:
        for slot in range(len(store.shard_rows(number))):
            if slot >= len(paths) or seen.compute_s > ENOUGH_S:
                writer.fail(slot, "pending", "", "not timed")
                continue
            started = time.perf_counter()
            writer.begin(slot)
            try:
                report = run_track(paths[slot], plan.graph, writer.append)
                frames = writer.end(source=report.fingerprint, short=report.short)
            except (DecodeError, OSError) as error:
                logger.debug("%s is left out of the sample: %s", paths[slot], error)
                writer.fail(slot, "failed", "decode", str(error))
                continue
            seen.compute_s += time.perf_counter() - started
            seen.audio_s += report.duration_s
            seen.tracks += 1
            for header in plan.headers:
                seen.plain_bytes += store.arrays[header.key].layout.data_bytes(header, [frames[header.key]])
        started = time.perf_counter()
        records = writer.commit(versions())
        seen.commit_s = time.perf_counter() - started
    seen.data_bytes = sum(int(size) for record in records for size, _ in record.files.values())
    return seen
