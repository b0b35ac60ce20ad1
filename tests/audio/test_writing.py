"""Written sound: its format by its ending, never louder than full scale, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore.audio.writing import FORMATS, write_audio
from featstore.errors import ConfigError
from featstore.testing.audio import tone

WAVE = tone(1.0, 16000)


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_the_ending_names_the_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix.upper()}"
    count, peak = write_audio(path, [WAVE[:9000], WAVE[9000:]], sample_rate=16000)
    assert (count, peak) == (16000, pytest.approx(float(np.abs(WAVE).max())))
    info = soundfile.info(path)
    assert (info.format, info.samplerate, info.channels, info.frames) == (FORMATS[suffix], 16000, 1, 16000)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name], "nothing is left beside it"


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.wave"])
def test_an_ending_that_names_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="names no audio format"):
        write_audio(tmp_path / name, [WAVE], sample_rate=16000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 4.0])
def test_beyond_full_scale_is_scaled_down(tmp_path: Path, gain: float) -> None:
    wave = np.float32(gain) * WAVE / np.abs(WAVE).max()
    _, peak = write_audio(tmp_path / "a.wav", [wave], sample_rate=16000)
    got = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    assert peak == pytest.approx(gain)
    expected = wave * min(1.0, 0.999 / gain) if gain else wave
    assert np.abs(got - expected).max() < 1e-4


def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    def blocks():
        yield WAVE
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_audio(tmp_path / "a.wav", blocks(), sample_rate=16000)
    assert not list(tmp_path.iterdir())
