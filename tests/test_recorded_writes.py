"""A disk that refuses while libsndfile writes ends as a refused write, with its reason."""

import io
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore.audio.writing import FORMATS, write_audio
from featstore.datasets.demo import render
from featstore.errors import StoreError
from featstore.recorded_writes import recorded_writes

WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 48000).astype(np.float32)


@pytest.fixture(params=[0, 2000])
def small_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file of this process may be longer than this."""
    monkeypatch.setattr(tempfile, "TemporaryFile", io.BytesIO)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (request.param, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_sound_on_a_full_disk(tmp_path: Path, ending: str, small_files: None) -> None:
    with pytest.raises(StoreError, match=r"cannot write: File too large .*sound"):
        write_audio(tmp_path / f"sound{ending}", [WAVE], sample_rate=16000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["mp3", "flac"])
def test_a_clip_on_a_full_disk(tmp_path: Path, format: str, small_files: None) -> None:
    with pytest.raises(StoreError, match=r"cannot write: File too large .*clip"):
        render.write_audio(tmp_path / "clip", WAVE[None], sample_rate=16000, format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["WAV", "FLAC", "AIFF", "MP3"])
def test_bytes_are_those_of_a_path(tmp_path: Path, format: str) -> None:
    soundfile.write(tmp_path / "path", WAVE, 16000, format=format)
    with recorded_writes(tmp_path / "file") as file:
        soundfile.write(file, WAVE, 16000, format=format)
    assert (tmp_path / "file").read_bytes() == (tmp_path / "path").read_bytes()


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), recorded_writes(tmp_path / "file"):
        raise ValueError("mine")
