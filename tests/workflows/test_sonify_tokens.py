"""Sound of stored tokens: what the decoder makes of them, whole or in part."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import featstore.features.weights as places
import featstore.workflows.sonify_tokens as module
from featstore.errors import CheckpointError
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features, resolve
from featstore.features.vq_tokens import tokenizer_of
from featstore.features.weights import PLACES_VARIABLE
from featstore.specs import parse_spec
from featstore.store.opening import open_store
from featstore.workflows.indexing import index_tracks
from featstore.workflows.sonify import SonifyOptions, sonify
from tests.models.jukebox_files import random_level, small_config, write_container

RATE = 44100


@pytest.fixture
def made(tmp_path):
    (tmp_path / "music").mkdir()
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000)
    soundfile.write(tmp_path / "music" / "a.wav", signal, RATE, subtype="FLOAT")
    path = write_container("original", [random_level(small_config(2), 3)], tmp_path / "w")
    name = f"vq_tokens(weights={path})"
    options = ExtractOptions(scheduler="sync", jobs=1)
    extract(index_tracks("folder", tmp_path / "music"), expand_features([name]), tmp_path / "s.zarr", options)
    return tmp_path, path, name


@pytest.mark.parametrize("kind", ["vq_tokens", "vq_codes"])
def test_sound_of_tokens_is_what_the_decoder_makes(kind, made, monkeypatch):
    folder, _, name = made
    monkeypatch.setattr(module, "_SAMPLES_AT_ONCE", 4000)
    spec = resolve(parse_spec(name))
    tokens = open_store(folder / "s.zarr")[spec]["a.wav"]
    whole = tokenizer_of(spec, with_decoder=True).decode(tokens)[0]
    asked = name.replace("vq_tokens", kind)
    for options, start, stop in (
        (SonifyOptions(), 0, len(whole)),
        (SonifyOptions(start_s=0.25, seconds=0.3), 11025, 11025 + 13230),
    ):
        report = sonify(folder / "s.zarr", "a.wav", asked, folder / "a.wav", options)
        heard, rate = soundfile.read(folder / "a.wav")
        assert rate == RATE and report.method == "the codec's decoder" and len(heard) == stop - start
        assert np.corrcoef(heard, whole[start:stop])[0, 1] > 0.9999  # a loud signal is scaled to fit the file


def test_without_its_weights_a_store_is_silent(made, monkeypatch):
    folder, path, name = made
    spec = resolve(parse_spec(name))
    path.unlink()
    monkeypatch.setattr(places, "_places", {})
    monkeypatch.delenv(PLACES_VARIABLE, raising=False)
    with pytest.raises(CheckpointError, match=r"the jukebox weights .* are not available here"):
        sonify(folder / "s.zarr", "a.wav", str(spec), folder / "a.wav")
