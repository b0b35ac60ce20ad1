"""Synthetic audio for tests: small collections with known content, and files with known faults."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featstore.arrays import FloatArray

__all__ = ["FAULTS", "make_collection", "make_faulty", "tone"]


def tone(seconds: float, sample_rate: int = 22050, *, seed: int = 0) -> FloatArray:
    """A few partials with vibrato over quiet noise, (n_samples,), peak about 0.5, the same for the same seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    pitch = rng.uniform(110, 880)
    wave = sum(np.sin(2 * np.pi * pitch * k * time + 0.3 * np.sin(9 * time)) / k for k in range(1, 5))
    beat = 0.6 + 0.4 * np.sign(np.sin(2 * np.pi * rng.uniform(1, 4) * time))
    return np.asarray(0.2 * wave * beat + 0.01 * rng.standard_normal(len(time)), dtype=np.float32)


def make_collection(
    folder: str | Path,
    *,
    n_tracks: int = 12,
    seconds: tuple[float, float] = (1.0, 4.0),
    suffixes: tuple[str, ...] = (".wav",),
) -> Path:
    """Write ``a/`` and ``b/`` with short tones; lengths, pitches and formats follow from the track's number."""
    import soundfile

    folder = Path(folder)
    for number in range(n_tracks):
        label = folder / "ab"[number % 2]
        label.mkdir(parents=True, exist_ok=True)
        length = seconds[0] + (seconds[1] - seconds[0]) * ((number * 7) % n_tracks) / max(1, n_tracks - 1)
        suffix = suffixes[number % len(suffixes)]
        soundfile.write(label / f"{number:04d}{suffix}", tone(length, seed=number), 22050)
    return folder


def _short_header(path: Path) -> None:
    """Write a WAV header that claims six hours over a kilobyte of data."""
    size = 6 * 3600 * 22050 * 2
    header = (
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 22050, 44100, 2, 16)
    )
    path.write_bytes(header + b"data" + struct.pack("<I", size) + bytes(1024))


def _half_mp3(path: Path) -> None:
    import soundfile

    soundfile.write(path, tone(8.0), 22050, format="MP3")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _write(path: Path, wave: FloatArray, *, sample: float | None = None) -> None:
    """Write a wave, one sample of which may be replaced."""
    import soundfile

    if sample is not None:
        wave[100] = sample
    soundfile.write(path, wave, 22050, subtype="FLOAT")


# file name -> (how to make it, the ledger's word for it)
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.wav": (lambda path: path.write_bytes(b""), "failed"),
    "page.mp3": (lambda path: path.write_text("<html><body>404</body></html>"), "failed"),
    "no_frames.wav": (lambda path: _write(path, np.zeros(0, np.float32)), "failed"),
    "six_hours.wav": (_short_header, "short"),
    "half.mp3": (_half_mp3, "short"),
    "nan.wav": (lambda path: _write(path, tone(2.0), sample=float("nan")), "non_finite"),
    "inf.wav": (lambda path: _write(path, tone(2.0), sample=float("-inf")), "non_finite"),
    "silent.wav": (lambda path: _write(path, np.zeros(22050, np.float32)), "silent"),
    "loud.wav": (lambda path: _write(path, np.clip(tone(2.0) * 40, -1, 1)), "clipped"),
}


def make_faulty(folder: str | Path) -> dict[str, str]:
    """Write one file of each known fault; name to the status that the ledger must give it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, _) in FAULTS.items():
        make(folder / name)
    return {name: status for name, (_, status) in FAULTS.items()}
