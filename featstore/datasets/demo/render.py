"""From events to sound: every instrument is played on its own by the synthesizer, then mixed at a level of its own."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.atomic import atomic_path
from featstore.datasets.demo.arrange import CLIP_MS, Clip, Event
from featstore.datasets.demo.instruments import INSTRUMENTS, KITS
from featstore.datasets.demo.packages import font_path
from featstore.recorded_writes import recorded_writes

if TYPE_CHECKING:
    from featstore.arrays import FloatArray

__all__ = ["SAMPLE_RATES", "Loudness", "measure", "n_samples_of", "render", "write_audio"]

SAMPLE_RATES = (16_000, 22_050, 44_100, 48_000)
"""Rates that clips are made at, in Hz. Lower ones would bring loops of the font below one step of the synthesizer."""

_RMS_DB = -20.0
_PEAK = 0.98
_LEAST_RMS_DB = -60.0
_MOST_SILENT = 0.3
_SILENT_RMS = 1e-4
_FRAME_S = 0.064


@dataclass(frozen=True, slots=True)
class Loudness:
    """What a clip sounds like, in numbers.

    Attributes
    ----------
    rms_db : float
        Level before it is set, in dB re full scale.
    peak : float
        Largest magnitude after the level is set.
    silent_share : float
        Share of frames of 64 ms with an rms under -80 dBFS.
    """

    rms_db: float
    peak: float
    silent_share: float

    @property
    def is_silent(self) -> bool:
        """True for a clip that the data set leaves out."""
        return self.rms_db < _LEAST_RMS_DB or self.silent_share > _MOST_SILENT


def n_samples_of(sample_rate: int) -> int:
    """Length of a clip in samples."""
    return CLIP_MS * sample_rate // 1000


def render(clip: Clip, *, sample_rate: int, channels: int, font: Path | None = None) -> tuple[FloatArray, Loudness]:
    """Play a clip.

    Parameters
    ----------
    clip : Clip
    sample_rate : int
        One of ``SAMPLE_RATES``.
    channels : 1 or 2
        Two places each sound somewhere between left and right.
    font : path, optional
        Another sound font than the data set's own. Levels of the sounds were set for that one.

    Returns
    -------
    float32 (channels, n_samples) at an rms of -20 dBFS, or less where the peak would pass 0.98
    Loudness
    """
    mix = np.zeros((channels, n_samples_of(sample_rate)), np.float32)
    by_sound: dict[str, list[Event]] = {}
    for each in clip.events:
        by_sound.setdefault(each.sound, []).append(each)
    for sound in sorted(by_sound):
        stem = _play(by_sound[sound], sound, sample_rate, font or font_path())
        length = min(len(stem), mix.shape[1])
        decibels = KITS[sound] if sound in KITS else INSTRUMENTS[sound].gain_db
        gains = 10 ** (decibels / 20) * _placed(sound, channels)
        mix[:, :length] += gains[:, None].astype(np.float32) * stem[:length]
    return _levelled(mix, sample_rate)


def _play(events: list[Event], sound: str, sample_rate: int, font: Path) -> FloatArray:
    """One sound alone, mono.

    A tick of the score is half a sample, and notes start on odd ticks: so the synthesizer's conversion to seconds and
    back, however it rounds, lands on the sample that is meant. Every rendering has a synthesizer of its own (a few
    milliseconds): one that has played a program plays others that share its samples differently.
    """
    from symusic import Note, Score, Synthesizer, Tempo, Track

    drums = sound in KITS
    score: Any = Score(2 * sample_rate)
    score.tempos.append(Tempo(0, 60.0))
    track: Any = Track(sound, 0 if drums else INSTRUMENTS[sound].program, drums)
    for each in events:
        start = each.onset_ms * sample_rate // 1000
        end = max(start + 1, (each.onset_ms + each.duration_ms) * sample_rate // 1000)
        track.notes.append(Note(2 * start + 1, 2 * (end - start), each.key, 100))
    score.tracks.append(track)
    synthesizer = Synthesizer(str(font), sample_rate, 0)
    return np.ascontiguousarray(synthesizer.render(score, False)[0])


def _placed(sound: str, channels: int) -> np.ndarray:
    """Gain for each channel: at equal power, between a third left and a third right, by a hash of the name."""
    if channels == 1:
        return np.ones(1)
    share = int(hashlib.sha256(sound.encode()).hexdigest()[:8], 16) / 2**32
    angle = math.pi / 4 * (1 + (2 * share - 1) / 3)
    return math.sqrt(2) * np.array([math.cos(angle), math.sin(angle)])


def _levelled(mix: FloatArray, sample_rate: int) -> tuple[FloatArray, Loudness]:
    rms = float(np.sqrt(np.mean(np.square(mix, dtype=np.float64))))
    if rms == 0.0:
        return mix, Loudness(-math.inf, 0.0, 1.0)
    peak = float(np.abs(mix).max())
    audio = mix * np.float32(min(10 ** (_RMS_DB / 20) / rms, _PEAK / peak))
    share, top = measure(audio, sample_rate)
    return audio, Loudness(20 * math.log10(rms), top, share)


def measure(audio: FloatArray, sample_rate: int) -> tuple[float, float]:
    """Share of silent frames, and peak, of audio (channels, n_samples)."""
    frame = round(_FRAME_S * sample_rate)
    count = audio.shape[1] // frame
    frames = audio[:, : count * frame].reshape(len(audio), count, frame)
    power = np.mean(np.square(frames, dtype=np.float64), axis=(0, 2))
    return float(np.mean(power < _SILENT_RMS**2)), float(np.abs(audio).max())


def write_audio(path: str | os.PathLike[str], audio: FloatArray, *, sample_rate: int, format: str) -> None:
    """Write a clip as ``mp3`` or ``flac`` in one atomic step."""
    import soundfile

    with atomic_path(path) as part, recorded_writes(part) as file:
        soundfile.write(file, audio.T, sample_rate, format=format.upper())
