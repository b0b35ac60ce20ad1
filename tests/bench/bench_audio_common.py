"""What the audio benchmarks share: clips like those of the resolution study, turns, and a line of JSON a contender."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featstore.process_memory import peak_resident_bytes

if TYPE_CHECKING:
    from featstore.datasets import TrackTable

PACKAGES = ("featstore", "numpy", "scipy", "torch", "llvmlite", "soundfile", "soxr", "librosa", "essentia")
FORMS = {"16 kHz mono mp3": (16000, 1, 0.85), "44.1 kHz stereo mp3": (44100, 2, 0.6)}  # rate, channels, compression

Contender = Callable[[Sequence[Path]], object]


def music(seconds: float, rate: int, channels: int, seed: int) -> np.ndarray:
    """Chords that change each second, with decay, a beat and some noise: (n, channels), busy enough for an encoder."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    time_s = np.arange(n) / rate
    wave = 0.004 * rng.standard_normal(n)
    for start in np.arange(0, seconds, 1.0):
        inside = slice(int(start * rate), min(n, int((start + 1.4) * rate)))
        since = time_s[inside] - start
        for pitch in 110 * 2 ** (rng.choice(36, 4, replace=False) / 12):
            for k in range(1, 7):
                if pitch * k < 0.45 * rate:
                    wave[inside] += 0.05 / k * np.sin(2 * np.pi * pitch * k * since) * np.exp(-2.5 * since)
    for beat in np.arange(0, seconds - 0.2, 0.5):
        inside = slice(int(beat * rate), int((beat + 0.15) * rate))
        hit = rng.standard_normal(inside.stop - inside.start)
        wave[inside] += 0.15 * hit * np.exp(-40 * (time_s[inside] - beat))
    stereo = np.stack([wave, 0.8 * np.roll(wave, 37)], axis=1)[:, :channels]
    return np.clip(stereo, -1, 1).astype(np.float32)


def make_clips(folder: Path, form: str, count: int, seconds: float = 29.2) -> list[Path]:
    """Write clips as constant-rate mp3; existing ones are used again."""
    import soundfile

    rate, channels, compression = FORMS[form]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(count):
        path = folder / f"{rate}_{channels}_{seconds:g}_{seed}.mp3"
        if not path.exists():
            wave = music(seconds, rate, channels, seed)
            soundfile.write(path, wave, rate, format="MP3", bitrate_mode="CONSTANT", compression_level=compression)
        paths.append(path)
    return paths


def clip_table(clips: Sequence[Path], seconds: float) -> TrackTable:
    """Track table of clips of one length; each may come many times."""
    import pandas

    from featstore.datasets import TableInfo, TrackTable

    frame = pandas.DataFrame(
        {
            "track_id": [f"{number}" for number in range(len(clips))],
            "path": [str(clip) for clip in clips],
            "labels": [[] for _ in clips],
            "duration_s": seconds,
        }
    )
    return TrackTable(frame, TableInfo(name="bench", task="none", classes=()))


def take_turns(contenders: dict[str, tuple[Contender, Sequence[Path]]], rounds: int) -> dict[str, list[float]]:
    """Seconds a clip of each contender in each round; all of them in turns, after one round that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-1, rounds):
        for name, (work, clips) in contenders.items():
            clips = clips[:1] if number < 0 else clips
            began = time.perf_counter()
            work(clips)
            spent = (time.perf_counter() - began) / len(clips)
            getattr(work, "after", lambda: None)()
            if number >= 0:
                seconds[name].append(spent)
            print(f"round {number} {name}: {1000 * spent:.1f} ms a clip", file=sys.stderr)
    return seconds


def lines(
    benchmark: str, seconds: dict[str, list[float]], audio_s: float, against: Sequence[str], **common
) -> list[dict]:
    """One record a contender; ratios are medians of the ratios within each round."""
    peak = peak_resident_bytes()
    surroundings = {"peak_rss_bytes": peak, "machine": machine(), "versions": versions()}
    return [
        {
            "benchmark": benchmark,
            "contender": name,
            "ms_a_clip": round(1000 * statistics.median(values), 2),
            "lowest": round(1000 * min(values), 2),
            "highest": round(1000 * max(values), 2),
            "rounds": len(values),
            "clips_per_second": round(1 / statistics.median(values), 3),
            "real_time_factor": round(audio_s / statistics.median(values), 1),
            "times_as_long_as": {
                other: round(statistics.median(a / b for a, b in zip(values, seconds[other], strict=True)), 3)
                for other in against
                if other in seconds and other != name
            },
            **common,
            **surroundings,
        }
        for name, values in seconds.items()
    ]


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    try:
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(row.split(":", 1)[1].strip() for row in rows if row.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of the packages that take part, as far as they are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def one_thread() -> None:
    """Start this program again with numerical libraries on one thread, unless they are."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    if any(os.environ.get(name) != "1" for name in names):
        os.environ.update(dict.fromkeys(names, "1"))
        os.execv(sys.executable, sys.orig_argv)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that all benchmarks have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, help="file to write the JSON lines to (default: stdout)")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--clips", type=int, default=4, help="clips a turn (slow contenders take one)")
    return options


def write(records: list[dict], out: Path | None) -> None:
    """Print the lines, or write them to a file."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    if out is None:
        sys.stdout.write(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
