"""A model trains on a feature with an axis of excerpts: each excerpt is an input, a track's score is their mean."""

from __future__ import annotations

import json

import pytest

from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks
from featstore_cli.main import main

MEL = "mel(sample_rate=8000,n_fft=256,hop_length=64,n_mels=12,scale=db,clip=every(0.8 s, 0.3 s))"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = make_collection(tmp_path_factory.mktemp("music"), n_tracks=12, seconds=(1.0, 3.0))
    table = index_tracks("folder", folder)
    table.frame["split"] = ["train", "train", "valid", "valid", "test", "test"] * 2
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    extract(table, expand_features([MEL]), path, ExtractOptions(scheduler="sync"))
    return path


def call(capsys, *args):
    with pytest.raises(SystemExit) as left:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def train(capsys, store, out, *settings):
    words = ["train", "-s", store, "-f", MEL, "-m", "vgg-cnn", "-o", out, "--json"]
    words += ["--set", "model.width=0.02", "--set", "model.pools=fit", "--set", "loop.epochs=1"]
    words += ["--set", "data.batch_size=4", "--set", "device.accelerator=cpu", "--set", "evaluate.bootstrap=0"]
    return call(capsys, *words, *(word for one in settings for word in ("--set", one)))


def test_trains_and_scores_tracks(store, tmp_path, capsys) -> None:
    code, out, err = train(capsys, store, tmp_path / "run")
    assert code == 0, err
    result = json.loads(out)
    assert result["n_tracks"]["test"] == 4
    assert result["scores"]["test"]


def test_other_lengths_are_refused(store, tmp_path, capsys) -> None:
    code, _, err = train(capsys, store, tmp_path / "run", "data.crop_s=2")
    assert code == 1
    assert "data.crop_s=2, but the feature is excerpts of 101 frames (0.8 s)" in err
