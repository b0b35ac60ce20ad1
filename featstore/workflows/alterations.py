"""Alterations of a recording under which its labels stay: what a representation, or a model on it, loses by each.

A name such as ``noise-20dB`` holds all settings of an alteration: it is what one writes in a recipe, the name of a
folder of copies, and part of the name of a column.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio import decode_audio, resample_signal
from featstore.audio.writing import write_audio, write_mp3
from featstore.errors import ConfigError, DatasetError, did_you_mean
from featstore.registry import Registry

__all__ = ["ALTERATIONS", "Alteration", "SignalAlteration", "mono", "parse_alteration"]

ALTERATIONS = Registry(
    "alteration",
    {
        "gain": "featstore.workflows.alterations:Gain",
        "mp3": "featstore.workflows.alterations:Mp3",
        "noise": "featstore.workflows.alterations:Noise",
        "resample": "featstore.workflows.alterations:Resample",
        "scramble": "featstore.workflows.scramble:Scramble",
        "timbre": "featstore.workflows.timbre:Timbre",
    },
)
"""First word of a name -> class; the rest of the name is read by the class."""


@dataclass(frozen=True, slots=True)
class Alteration(ABC):
    """One way to alter a track.

    Attributes
    ----------
    name : str
        Its whole name.
    value : str
        What the group ``value`` of ``pattern`` matched; empty without one.
    """

    name: str
    value: str = ""

    pattern: ClassVar[str]
    """Regular expression of the names that the class reads."""
    example: ClassVar[str]
    """One such name."""
    suffix: ClassVar[str] = ".flac"
    """Ending of the copies."""

    @abstractmethod
    def write(self, track: Mapping[str, Any], target: Path, *, rng: np.random.Generator) -> None:
        """Write the altered copy of a track, a row of a track table.

        Raises
        ------
        FeatstoreError
            When the track cannot be read or altered.
        """


class SignalAlteration(Alteration):
    """An alteration of the mono signal."""

    def write(self, track: Mapping[str, Any], target: Path, *, rng: np.random.Generator) -> None:
        """Decode, alter and write as FLAC."""
        signal, sample_rate = mono(track)
        altered, sample_rate = self.altered(signal, sample_rate=sample_rate, rng=rng)
        write_audio(target, [altered], sample_rate=sample_rate)

    @abstractmethod
    def altered(self, signal: FloatArray, *, sample_rate: int, rng: np.random.Generator) -> tuple[FloatArray, int]:
        """Return the altered signal (n_samples,) and its sample rate."""


class Gain(SignalAlteration):
    """Less level, in decibels: ``gain-6dB``. Copies have 16 bits: very soft ones lose resolution, too."""

    pattern, example = r"gain-(?P<value>\d+(\.\d+)?)dB", "gain-6dB"

    def altered(self, signal: FloatArray, *, sample_rate: int, rng: np.random.Generator) -> tuple[FloatArray, int]:
        """Scale by a constant factor."""
        return signal * np.float32(10 ** (-float(self.value) / 20)), sample_rate


class Noise(SignalAlteration):
    """White Gaussian noise at a ratio of the powers of the whole track and the noise: ``noise-20dB``.

    Where the sum exceeds full scale, the copy is scaled down as a whole. Silence stays silent.
    """

    pattern, example = r"noise-(?P<value>\d+(\.\d+)?)dB", "noise-20dB"

    def altered(self, signal: FloatArray, *, sample_rate: int, rng: np.random.Generator) -> tuple[FloatArray, int]:
        """Add noise."""
        level = np.sqrt(np.mean(np.square(signal, dtype=np.float64))) if len(signal) else 0.0
        deviation = np.float32(level * 10 ** (-float(self.value) / 20))
        return signal + deviation * rng.standard_normal(len(signal), dtype=np.float32), sample_rate


class Resample(SignalAlteration):
    """A lower sample rate, which extraction brings up again: ``resample-8k`` in kHz, or ``resample-half``."""

    pattern, example = r"resample-(?P<value>half|\d+(\.\d+)?k)", "resample-8k"

    def altered(self, signal: FloatArray, *, sample_rate: int, rng: np.random.Generator) -> tuple[FloatArray, int]:
        """Resample; a track that has no higher rate than asked for is refused."""
        target = sample_rate // 2 if self.value == "half" else round(1000 * float(self.value.removesuffix("k")))
        if target >= sample_rate:
            fix = "Ask for a lower rate, or for resample-half"
            raise DatasetError(f"the track has {sample_rate} Hz, which {self.name} would not lower", "", fix)
        return resample_signal(signal, source_rate=sample_rate, sample_rate=target), target


class Mp3(Alteration):
    """Coded as mono mp3 at a constant bit rate in kbit/s: ``mp3-64k``."""

    pattern, example, suffix = r"mp3-(?P<value>\d+)k", "mp3-64k", ".mp3"

    def write(self, track: Mapping[str, Any], target: Path, *, rng: np.random.Generator) -> None:
        """Encode."""
        signal, sample_rate = mono(track)
        write_mp3(target, signal, sample_rate=sample_rate, bit_rate=1000 * int(self.value))


def mono(track: Mapping[str, Any]) -> tuple[FloatArray, int]:
    """Mean of a track's channels (n_samples,), and the sample rate."""
    channels, sample_rate = decode_audio(str(track["path"]))
    return channels.mean(axis=0, dtype=np.float32), sample_rate


def parse_alteration(name: str) -> Alteration:
    """Read the name of an alteration.

    Raises
    ------
    ConfigError
        For a name that no alteration has; the message lists an example of each.

    Examples
    --------
    >>> parse_alteration("noise-20dB").value
    '20'
    """
    first = str(name).partition("-")[0]
    kind: type[Alteration] | None = ALTERATIONS.load(first) if first in ALTERATIONS else None
    match = re.fullmatch(kind.pattern, str(name)) if kind else None
    if kind is None or match is None:
        examples = [ALTERATIONS.load(each).example for each in ALTERATIONS]
        raise ConfigError(f"unknown alteration {name!r}", "", did_you_mean(str(name), examples))
    return kind(str(name), match.groupdict().get("value") or "")
