"""The functions at the top of the package take paths and names as well as objects; readers are mappings."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featstore
from featstore.errors import ConfigError, DatasetError, MissingDependency, MissingFeature, StoreError
from featstore.html_repr import MOST_ROWS, html_card
from featstore.store.reader import FeatureReader
from featstore.testing.audio import make_collection

MEL = "mel(n_mels=16,scale=db)"


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("top") / "music", n_tracks=12, seconds=(1.5, 2.0))


@pytest.fixture(scope="module")
def store(music: Path) -> Path:
    path = music.parent / "mel.zarr"
    report = featstore.extract(music, MEL, path, scheduler="sync", progress="none")
    assert report.tracks == 12
    return path


@pytest.fixture
def mel(store: Path) -> FeatureReader:
    return featstore.open_store(store)[MEL]


def test_packages_are_verbs_after_any_import(music: Path) -> None:
    """Importing a submodule binds the package's name in its parent: the call must still work."""
    importlib.import_module("featstore.extract.options")
    importlib.import_module("featstore.results.records")
    assert featstore.extract is sys.modules["featstore.extract"] and callable(featstore.extract)
    with pytest.raises(ConfigError, match="no such folder of runs"):
        featstore.results(music / "nowhere")


def test_every_name_loads() -> None:
    for name in featstore.__all__:
        assert getattr(featstore, name) is not None
    assert dir(featstore) == sorted(featstore.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        featstore.trian  # noqa: B018


def test_tracks_from_everything(music: Path) -> None:
    tracks = featstore.load_tracks(str(music))
    assert len(tracks) == 12 and tracks.info.classes == ("a", "b") and featstore.load_tracks(tracks) is tracks
    tracks.write(music.parent / "tracks.parquet")
    assert len(featstore.load_tracks(music.parent / "tracks.parquet")) == 12
    (music.parent / "list.csv").write_text("path,genre\nmusic/a/0000.wav,jazz\n")
    assert featstore.load_tracks(music.parent / "list.csv", label_column="genre").info.classes == ("jazz",)
    frame = pd.DataFrame({"track_id": ["x", "y"], "path": ["x.wav", "y.wav"], "labels": [["r", "s"], ["r"]]})
    assert featstore.load_tracks(frame).info.task == "multi_label"
    assert featstore.load_tracks(frame.set_index("track_id")).frame["track_id"].tolist() == ["x", "y"]
    with pytest.raises(DatasetError, match="no track table here"):
        featstore.load_tracks("nowhere.parquet")
    with pytest.raises(ConfigError, match=r"options of a data set, but .*tracks.parquet is a table"):
        featstore.load_tracks(music.parent / "tracks.parquet", label_column="genre")


def test_a_frame_may_lack_labels_of_a_track() -> None:
    frame = pd.DataFrame({"track_id": ["x", "y"], "path": ["x.wav", "y.wav"], "labels": ["r", float("nan")]})
    table = featstore.load_tracks(frame)
    assert table.info.classes == ("r",) and table.info.task == "single_label"
    assert table.frame["labels"].tolist() == [["r"], []]


def test_plan_of_a_folder(music: Path) -> None:
    made = featstore.plan(music, [MEL, "mel(n_mels=16,scale=db,hop_length=512)"], n_tracks=1000, sample=0)
    assert made.n_tracks == 1000 and len(made.arrays) == 1 and len(made.features) == 2
    assert "1,000 tracks" in made._repr_html_() and "view" in made._repr_html_()


def test_a_reader_is_a_mapping(mel: FeatureReader) -> None:
    longest = int(mel.lengths.max())
    assert mel.shape == (12, 16, longest) and mel.dims == ("track", "band", "frame") and mel.dtype == np.float32
    assert len(mel) == 12 and list(mel) == mel.keys() == mel.track_ids == mel._ipython_key_completions_()
    assert "a/0000.wav" in mel and "nope" not in mel
    first = mel.keys()[0]
    np.testing.assert_array_equal(mel[0], mel[first])
    np.testing.assert_array_equal(mel[-1], mel[mel.keys()[-1]])
    np.testing.assert_array_equal(mel[:3], mel.read(mel.keys()[:3]))
    np.testing.assert_array_equal(mel[[first, mel.keys()[4]]], mel.read([first, mel.keys()[4]]))
    np.testing.assert_array_equal(mel[first, 10:20], mel[first][:, 10:20])
    np.testing.assert_array_equal(mel[:2, 5:9], mel.read(mel.keys()[:2], 5, 9))
    assert mel[first, 10:10_000].shape == mel[first][:, 10:].shape
    assert mel[:].shape == mel.shape


def test_wrong_indices(mel: FeatureReader) -> None:
    with pytest.raises(MissingFeature, match=r"no track number 99 .mel.*There are 12, from 0"):
        mel[99]
    with pytest.raises(MissingFeature, match=r"no track 'a/000.wav'.*Did you mean a/0"):
        mel["a/000.wav"]
    with pytest.raises(StoreError, match=r"frames \[5:2:None\] are not a range"):
        mel["a/0000.wav", 5:2]


def test_units_on_axes(mel: FeatureReader, music: Path) -> None:
    array = mel.to_xarray(mel.keys()[:2])
    assert array.attrs["units"] == "dB" and array["frame"].attrs["units"] == "s"
    assert array["band"].attrs["units"] == "Hz" and array["frame"].values[1] == pytest.approx(256 / 16000)
    from featstore.dsp import make_mel_bank

    peaks = make_mel_bank(sample_rate=16000, n_fft=512, n_mels=16).dense().argmax(axis=1) * 16000 / 512
    assert np.abs(array["band"].values - peaks).max() <= 16000 / 512
    other = featstore.parse_spec("stft(n_fft=1024,framing=valid)")
    assert other.first_centre_s == pytest.approx(512 / 16000) and other.band_centres[1] == pytest.approx(15.625)
    assert other.unit == "1"
    assert featstore.parse_spec("waveform()").band_centres is None


def test_train_evaluate_and_tag_from_paths(store: Path, music: Path) -> None:
    out = store.parent / "runs" / "first"
    small = ["data.split=random", "loop.epochs=1", "model.width=0.03", "model.pools=fit", "data.crop_s=1"]
    run = featstore.train(str(store), MEL, "vgg-cnn", str(out), settings=small, seed=3)
    assert run.result["seed"] == 3 and run.short_feature == "mel(sample_rate=16000,n_mels=16,scale=db)"
    scores = featstore.evaluate(run, splits="test")
    assert scores["test"]["roc_auc"] == pytest.approx(run.score("roc_auc"))
    again = featstore.train(store, MEL, "vgg-cnn", out, settings=small, seed=3)
    assert again.run_id == run.run_id
    found = featstore.results(store.parent / "runs")
    assert repr(found) == "<1 run>" and "vgg-cnn" in found._repr_html_() and "test roc_auc" in run._repr_html_()
    report = featstore.tag(run, music / "a" / "0000.wav")
    assert not report.files[0].error and {name for name, _ in report.files[0].top(report.classes)} == {"a", "b"}
    with pytest.raises(ConfigError, match=r"unknown setting 'loop.epoch'"):
        featstore.train(store, MEL, "vgg-cnn", out, settings={"loop": {"epoch": 1}})


def test_html_is_escaped_and_bounded(store: Path, mel: FeatureReader) -> None:
    opened = featstore.open_store(store)
    assert "16 bands" in mel._repr_html_() and "12 tracks" in opened._repr_html_()
    card = html_card("<script>", [("<b>", "x" * 10_000)] * 500, ("a", "b"), total=500)
    assert "<script>" not in card and "&lt;b&gt;" in card
    assert card.count("<tr>") == MOST_ROWS + 1 and "… and 480 more" in card and len(card) < 12_000


def test_hugging_face_data_set(
    store: Path, mel: FeatureReader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = featstore.open_store(store)
    if not any(each.metadata["Name"] == "datasets" for each in importlib.metadata.distributions()):
        with pytest.raises(
            MissingDependency, match=r"to_hf_dataset needs the package 'datasets'. Install it: pip install"
        ):
            opened.to_hf_dataset(MEL)
        return
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    made = opened.to_hf_dataset(MEL)
    assert made.num_rows == 12
    np.testing.assert_array_equal(np.array(made[0]["mel"], np.float32), mel[made[0]["track_id"]])


def test_python_dash_m() -> None:
    import subprocess

    done = subprocess.run([sys.executable, "-m", "featstore", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"featstore, version {featstore.__version__}\n"
