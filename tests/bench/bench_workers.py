"""Two worker processes against one: the 88 mel configurations out of mp3, through Dask, cluster and commit included.

``python -m tests.bench.bench_workers --out docs/benchmarks/workers.jsonl`` writes one JSON line a number of workers.
The clips are few and taken many times, each time as a track of its own; both runs start a cluster of their own.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.bench_audio_common import machine, make_clips, parser, versions, write
from tests.bench.bench_mel import SECONDS, study

REPEATS = 256  # tracks a clip
SHARD_TRACKS = 32


def seconds_of(clips: Sequence[Path], folder: Path, jobs: int, clip_s: float = SECONDS) -> float:
    """Seconds that an extraction with ``jobs`` workers takes, from the first import in them to the last commit."""
    import pandas

    from featstore.datasets import TableInfo, TrackTable
    from featstore.extract import ExtractOptions, extract
    from featstore.specs import FeatureRequest

    frame = pandas.DataFrame(
        {
            "track_id": [f"{number}" for number in range(len(clips))],
            "path": [str(clip) for clip in clips],
            "labels": [[] for _ in clips],
            "duration_s": clip_s,
        }
    )
    table = TrackTable(frame, TableInfo(name="bench", task="none", classes=()))
    requests = [FeatureRequest(spec) for spec in study(clip_s)]
    began = time.perf_counter()
    report = extract(table, requests, folder / "workers.zarr", ExtractOptions(jobs=jobs, shard_tracks=SHARD_TRACKS))
    spent = time.perf_counter() - began
    shutil.rmtree(folder / "workers.zarr")
    if report.tracks != len(clips):
        raise RuntimeError(f"{report.tracks} of {len(clips)} tracks were extracted")
    return spent


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=REPEATS, help="tracks that each clip stands for")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench_workers_"))
    taken: dict[int, list[float]] = {1: [], 2: []}
    try:
        clips = make_clips(folder / "clips", "16 kHz mono mp3", chosen.clips) * chosen.repeats
        for _ in range(chosen.rounds):
            for jobs, values in taken.items():
                values.append(seconds_of(clips, folder, jobs))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    times = [one / two for one, two in zip(taken[1], taken[2], strict=True)]
    surroundings = {"rounds": chosen.rounds, "tracks": len(clips), "machine": machine(), "versions": versions()}
    write(
        [
            {
                "benchmark": "workers",
                "workers": jobs,
                "seconds": round(statistics.median(values), 2),
                "lowest": round(min(values), 2),
                "highest": round(max(values), 2),
                "times_as_fast_as_one": 1.0 if jobs == 1 else round(statistics.median(times), 3),
                **surroundings,
            }
            for jobs, values in taken.items()
        ],
        chosen.out,
    )


if __name__ == "__main__":
    main()
