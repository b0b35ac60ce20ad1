"""What ``featstore plan`` predicts, against the extraction that follows: seconds, bytes and files.

``python -m tests.bench.bench_forecast --out docs/benchmarks/forecast.jsonl`` writes one JSON line a set of features and
number of workers, with the medians over the rounds of predicted and of measured, and of their ratio.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from featstore.datasets import TrackTable
from featstore.extract import ExtractOptions, extract
from featstore.extract.forecast import forecast
from featstore.specs import expand_features
from featstore.workflows.indexing import index_tracks
from tests.bench.bench_audio_common import FORMS, machine, make_clips, one_thread, parser, versions, write

SETS = {
    "ferraro2020": ["ferraro2020"],
    "mel in bytes and waveform": ["mel(scale=db)@uint8", "waveform()@int16"],
    "hpss": ["hpss(hop_length=128)", "hpss(hop_length=128,component=percussive)"],
}


def measure(tracks: TrackTable, features: Sequence[str], jobs: int, rounds: int, folder: Path) -> dict[str, object]:
    """Medians of predicted and measured."""
    requests = expand_features(features)
    predicted, measured = [], []
    for _ in range(rounds):
        result = forecast(tracks, requests, jobs=jobs)
        store = folder / "s.zarr"
        began = time.perf_counter()
        extract(tracks, requests, store, ExtractOptions(jobs=jobs))
        seconds = time.perf_counter() - began
        sizes = [file.stat().st_size for file in store.rglob("*") if file.is_file()]
        shutil.rmtree(store)
        predicted.append((result.seconds, result.n_bytes, result.n_files))
        measured.append((seconds, sum(sizes), len(sizes)))
    found: dict[str, object] = {"jobs": jobs, "rounds": rounds, "tracks": len(tracks.frame)}
    for place, name in enumerate(("seconds", "bytes", "files")):
        ratios = [p[place] / m[place] for p, m in zip(predicted, measured, strict=True)]
        found |= {
            f"{name}_predicted": round(statistics.median(p[place] for p in predicted), 3),
            f"{name}_measured": round(statistics.median(m[place] for m in measured), 3),
            f"{name}_ratio": round(statistics.median(ratios), 4),
            f"{name}_ratio_lowest": round(min(ratios), 4),
            f"{name}_ratio_highest": round(max(ratios), 4),
        }
    return found


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(rounds=3, clips=64)
    chosen = options.parse_args()
    one_thread()
    records = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        form = next(iter(FORMS))
        make_clips(folder / "music", form, chosen.clips)
        tracks = index_tracks("folder", folder / "music")
        for title, features in SETS.items():
            for jobs in (1, 2):
                found = measure(tracks, features, jobs, chosen.rounds, folder)
                records.append(
                    {"benchmark": "forecast", "features": title, "form": form}
                    | found
                    | {"machine": machine(), "versions": versions()}
                )
    write(records, chosen.out)


if __name__ == "__main__":
    main()
