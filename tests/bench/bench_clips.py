"""Clips of waveforms for training: from a store, and by decoding each epoch; and what an hour of them costs to keep.

``python -m tests.bench.bench_clips --music FOLDER`` prints JSON lines: one for each form of the audio files (as they
are, and as 16-bit WAV at 22.05 kHz, which GTZAN is), with steps a second of both ways, by themselves and before a
training step; and one for each feature with its bytes an hour. Both ways take turns in one process with one thread. A
step is that of the study: clips of 3 s of 8 tracks, 4 of each, at 16 kHz.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch

from featstore.audio import decode_audio, resample_signal
from featstore.audio.streams import mix_down
from featstore.datasets import TableInfo, TrackTable
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features
from featstore.loaders import BatchLoader
from featstore.models import create
from featstore.store import Store, open_store
from tests.bench.bench_audio_common import machine, make_clips, versions

RATE, TRACKS, CLIPS, GRID = 16_000, 8, 4, 8000
WAVEFORMS = [f"waveform(sample_rate=16000)@{name}" for name in ("float32", "float16", "int16", "mulaw8")]
SPECTRA = [
    f"mel(sample_rate=16000,n_fft=512,hop_length={hop},n_mels={bands},scale=db)@{name}"
    for hop, bands in ((125, 160), (256, 96))
    for name in ("float32", "uint8")
]

Batches = Callable[[int], Iterator[torch.Tensor]]


def from_store(store: Store, n_samples: int) -> Batches:
    """Clips of the int16 waveforms, as training reads them."""
    loader = BatchLoader(
        {"wave": store[WAVEFORMS[2]]},
        [str(track) for track in store.tracks.index],
        batch_size=TRACKS * CLIPS,
        crop_frames=n_samples,
        crops_per_track=CLIPS,
        distinct=True,
        start_grid=GRID,
        ragged="pad",
    )

    def batches(epoch: int) -> Iterator[torch.Tensor]:
        loader.set_epoch(epoch)
        for batch in loader:
            yield batch["wave"][:, None]

    return batches


def by_decoding(paths: Sequence[Path], n_samples: int) -> Batches:
    """Clips of files that are decoded and resampled whole for each batch, as the study's code does."""

    def batches(epoch: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(epoch)
        order = rng.permutation(len(paths))
        for first in range(0, len(paths) - TRACKS + 1, TRACKS):
            clips = []
            for place in order[first : first + TRACKS]:
                samples, rate = decode_audio(paths[place])
                whole = resample_signal(mix_down(samples), source_rate=rate, sample_rate=RATE)
                starts = GRID * rng.choice(max(1, (len(whole) - n_samples) // GRID + 1), CLIPS, replace=False)
                clips += [whole[start : start + n_samples] for start in starts]
            yield torch.from_numpy(np.stack(clips))[:, None]

    return batches


def step_of(settings: dict[str, Any], n_samples: int) -> Callable[[torch.Tensor], None]:
    """One training step of MS-SincResNet."""
    torch.manual_seed(0)
    model = create("ms-sinc-resnet", n_samples=n_samples, n_classes=10, **settings).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

    def step(x: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long)).backward()
        optimizer.step()

    return step


def steps_per_s(ways: dict[str, Batches], step: Callable[[torch.Tensor], None] | None, turns: int) -> dict[str, Any]:
    """Median over the turns of the steps a second of each way, and their ratio; by the clock and by the processor."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, batches in ways.items():
            clock, used, n = time.perf_counter(), time.process_time(), 0
            for x in batches(turn):
                if step is not None:
                    step(x)
                n += 1
            if turn:  # the first one warms up
                rates[name].append((n / (time.perf_counter() - clock), n / (time.process_time() - used)))
    found: dict[str, Any] = {}
    for place, unit in enumerate(("by_clock", "by_processor")):
        medians = {name: statistics.median(each[place] for each in pairs) for name, pairs in rates.items()}
        ratio = medians["store"] / medians["decoding"]
        found[unit] = {name: round(value, 3) for name, value in medians.items()} | {"ratio": round(ratio, 2)}
    return found


def make_store(paths: Sequence[Path], place: Path, features: Sequence[str]) -> Store:
    """Store of these files."""
    frame = pd.DataFrame({"track_id": [f"t{i:04d}" for i in range(len(paths))], "path": [str(path) for path in paths]})
    extract(
        TrackTable(frame, TableInfo(name="bench")),
        expand_features(list(features)),
        place,
        ExtractOptions(scheduler="sync"),
    )
    return open_store(place)


def measure(
    paths: Sequence[Path], folder: Path, form: str, *, clip_s: float, turns: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Compare both ways on some files."""
    n_samples = round(clip_s * RATE)
    store = make_store(paths, folder / f"{form}.zarr", WAVEFORMS[2:3])
    ways = {"store": from_store(store, n_samples), "decoding": by_decoding(paths, n_samples)}
    return {
        "bench": "clips",
        "files": form,
        "tracks": len(paths),
        "tracks_a_step": TRACKS,
        "clips_a_track": CLIPS,
        "clip_s": clip_s,
        "turns": turns,
        "input_alone_steps_per_s": steps_per_s(ways, None, turns),
        "training_steps_per_s": steps_per_s(ways, step_of(settings, n_samples), turns),
        "model": {"name": "ms-sinc-resnet", **settings},
    }


def as_wav(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The same music as GTZAN has it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i, path in enumerate(paths):
        samples, rate = decode_audio(path)
        made.append(folder / f"{i}.wav")
        mono = resample_signal(mix_down(samples), source_rate=rate, sample_rate=22_050)
        soundfile.write(made[-1], np.clip(mono, -1, 1), 22_050, subtype="PCM_16")
    return made


def sizes(paths: Sequence[Path], folder: Path) -> Iterator[dict[str, Any]]:
    """Bytes an hour of each feature as it is stored, by the sizes of its files."""
    store = make_store(paths, folder / "sizes.zarr", [*WAVEFORMS, *SPECTRA])
    hours = sum(soundfile.info(str(path)).duration for path in paths) / 3600
    for name in (*WAVEFORMS, *SPECTRA):
        reader = store[name]
        place = Path(str(store.location)) / "features" / reader.base.key
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        line = {"bench": "bytes", "feature": reader.name, "encoding": str(reader.encoding), "tracks": len(paths)}
        yield line | {"bytes_an_hour": round(size / hours), "audio_hours": round(hours, 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--music", help="folder of mp3 files of 30 s; synthetic ones by default")
    parser.add_argument("--tracks", type=int, default=24)
    parser.add_argument("--clip-s", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--columns", type=int, default=128)
    parser.add_argument("--width", type=float, default=0.125)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = {"filters": chosen.filters, "columns": chosen.columns, "width": chosen.width, "fc_hidden": 64}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if chosen.music:
            mp3 = sorted(Path(chosen.music).rglob("*.mp3"))[: chosen.tracks]
        else:
            mp3 = make_clips(folder / "mp3", "16 kHz mono mp3", chosen.tracks)
        common = {"machine": machine(), "versions": versions(), "threads": 1}
        for form, paths in (("mp3", mp3), ("wav", as_wav(mp3, folder / "wav"))):
            rate = soundfile.info(str(paths[0])).samplerate
            found = measure(paths, folder, form, clip_s=chosen.clip_s, turns=chosen.turns, settings=settings)
            print(json.dumps(found | {"source_rate": rate} | common), flush=True)
        for line in sizes(mp3, folder):
            print(json.dumps(line | common), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
