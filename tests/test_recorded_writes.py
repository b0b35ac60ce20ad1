"""A disk that refuses while libsndfile writes ends as a refused write, with its reason."""

import io
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore.audio.writing import FORMATS, write_audio
from featstore.datasets.demo import render
from featstore.errors import StoreError
from featstore.recorded_writes import recorded_writes

WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 48000).astype(np.float32)


@contextmanager
def short_files(limit: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file of this process may become longer; for moments only, as the tests' own reports may go to a file."""
    monkeypatch.setattr(tempfile, "TemporaryFile", io.BytesIO)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 2000])
@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_sound_on_a_full_disk(tmp_path: Path, ending: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"cannot write: File too large .*sound"), short_files(limit, monkeypatch):
        write_audio(tmp_path / f"sound{ending}", [WAVE], sample_rate=16000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [0, 2000])
@pytest.mark.parametrize("format", ["mp3", "flac"])
def test_a_clip_on_a_full_disk(tmp_path: Path, format: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"cannot write: File too large .*clip"), short_files(limit, monkeypatch):
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
