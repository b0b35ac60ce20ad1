"""Writing sound: blocks of samples into a file that appears whole or not at all, never louder than full scale."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.atomic import atomic_path
from featstore.errors import ConfigError, check_known
from featstore.recorded_writes import recorded_writes

__all__ = ["FORMATS", "write_audio", "write_mp3"]

FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".aiff": "AIFF", ".mp3": "MP3"}
_BLOCK = 1 << 20


def write_audio(path: str | Path, blocks: Iterable[FloatArray], *, sample_rate: int) -> tuple[int, float]:
    """Write blocks of mono samples to an audio file; its ending names the format.

    The samples are kept in a temporary file first, and are scaled down where their peak exceeds full scale.

    Parameters
    ----------
    blocks : iterable of float32 (n,)
        Full scale is 1.

    Returns
    -------
    tuple of (int, float)
        Samples written, and their peak before scaling.

    Raises
    ------
    ConfigError
        For an ending that names no format.
    StoreError
        When the disk refuses.
    """
    path = Path(path)
    ending = path.suffix.lower()
    check_known(ending, FORMATS, f"{path.suffix or 'no ending'!r} names no audio format", str(path))
    return _write(path, blocks, sample_rate, format=FORMATS[ending])


def _write(path: Path, blocks: Iterable[FloatArray], sample_rate: int, **settings: Any) -> tuple[int, float]:
    """Write blocks with settings of soundfile; samples written, and their peak before scaling."""
    import soundfile

    count, peak = 0, 0.0
    with tempfile.TemporaryFile() as held:
        for block in blocks:
            held.write(np.ascontiguousarray(block, np.float32).tobytes())
            count += len(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
        held.seek(0)
        gain = np.float32(min(1.0, 0.999 / peak) if peak else 1.0)
        with (
            atomic_path(path) as aside,
            recorded_writes(aside) as target,
            soundfile.SoundFile(target, "w", sample_rate, 1, **settings) as file,
        ):
            while data := held.read(4 * _BLOCK):
                file.write(np.frombuffer(data, np.float32) * gain)
    return count, peak


# sample rates of mp3, and the least and greatest bit rate of each, in kbit/s
_MP3_RATES = {
    **dict.fromkeys((32000, 44100, 48000), (32, 320)),
    **dict.fromkeys((16000, 22050, 24000), (8, 160)),
    **dict.fromkeys((8000, 11025, 12000), (8, 64)),
}


def write_mp3(path: str | Path, signal: FloatArray, *, sample_rate: int, bit_rate: int) -> None:
    """Write a mono signal as mp3 at a constant bit rate.

    Parameters
    ----------
    signal : float32 (n,)
        Full scale is 1; a louder signal is scaled down.
    bit_rate : int
        Bit per second; the encoder takes the nearest rate that mp3 has.

    Raises
    ------
    ConfigError
        For a sample rate that mp3 does not have, or a bit rate that it does not have there.
    StoreError
        When the disk refuses.
    """
    if sample_rate not in _MP3_RATES:
        listing = ", ".join(map(str, sorted(_MP3_RATES)))
        raise ConfigError(f"mp3 has no sample rate of {sample_rate} Hz", str(path), f"It has {listing}")
    low, high = _MP3_RATES[sample_rate]
    if not 1000 * low <= bit_rate <= 1000 * high:
        found = f"mp3 at {sample_rate} Hz has no {bit_rate / 1000:g} kbit/s"
        raise ConfigError(found, str(path), f"It has {low} to {high} kbit/s there")
    level = (high - bit_rate / 1000) / (high - low)  # libsndfile's scale, which is linear in the bit rate
    _write(Path(path), [signal], sample_rate, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
