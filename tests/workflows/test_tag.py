"""Tagging files: with a run of ours, with a checkpoint file, with published networks (weights never trained)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import CheckpointError, ConfigError, DatasetError
from featstore.extract import ExtractOptions, extract
from featstore.models.musicnn_published import PUBLISHED
from featstore.results.details import prediction_file
from featstore.specs import parse_feature, parse_spec
from featstore.store import open_store
from featstore.testing.audio import make_collection, make_faulty, tone
from featstore.testing.musicnn_package import write_untrained
from featstore.training import train
from featstore.workflows.tag import find_audio, tag
from featstore.workflows.taggers import convert_published, open_tagger

SYNC = ExtractOptions(scheduler="sync")
SMALL = {
    "model": {"width": 0.02, "pools": "fit", "norm_momentum": 0.1},
    "data": {"crop_frames": 20, "batch_size": 4},
    "loop": {"epochs": 1},
    "evaluate": {"bootstrap": 0, "splits": ["test"]},
    "device": {"accelerator": "cpu"},
}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATSTORE_PROGRESS", "0")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("tag") / "music", n_tracks=12, seconds=(1.0, 2.5))


def table(music: Path) -> TrackTable:
    paths = [str(path) for path in sorted(music.rglob("*.wav"))]
    labels = [["low"] if i // 4 % 2 else ["high"] for i in range(len(paths))]
    splits = [("train", "train", "valid", "test")[i % 4] for i in range(len(paths))]
    frame = pd.DataFrame({"track_id": paths, "path": paths, "labels": labels, "split": splits})
    return TrackTable(frame, TableInfo(name="music", task="single_label", classes=("high", "low")))


def trained(music: Path, out: Path, feature: str, **settings: dict[str, object]) -> Path:
    """A run on the last of some features (``; `` between them), from a store that holds the first."""
    stored, wanted = feature.split("; ")[0], feature.split("; ")[-1]
    store = out / f"{len(list(out.iterdir()))}.zarr"
    extract(table(music), [parse_feature(each) for each in stored.split(" + ")], store, SYNC)
    config = {key: {**value, **settings.get(key, {})} for key, value in SMALL.items()}
    folder = out / f"run-{store.stem}"
    train(open_store(store), wanted.split(" + "), "vgg-cnn", folder, tracks=table(music), config=config)
    return folder


@pytest.fixture(scope="module")
def run(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(music, tmp_path_factory.mktemp("runs"), "mel(n_mels=16,hop_length=512,scale=db)")


def recorded(run: Path) -> dict[str, np.ndarray]:
    parts = prediction_file(run / "predictions.parquet")
    return dict(zip(parts["test"].track_ids, parts["test"].score, strict=True))


def test_a_run_tags_files_as_it_was_evaluated(run: Path, music: Path) -> None:
    report = tag(str(run), [music])
    scores = {file.path: file.scores for file in report.files}
    assert report.classes == ("high", "low")
    assert len(scores) == 12
    expected = recorded(run)
    assert len(expected) == 3
    for path, found in expected.items():
        np.testing.assert_allclose(scores[path], found, atol=2e-6)
    one = report.files[-1]
    assert one.scores.sum() == pytest.approx(1, abs=1e-6), "classes exclude one another"
    np.testing.assert_allclose(one.taggram.mean(axis=0), one.scores, atol=1e-6)
    assert one.starts_s[1] - one.starts_s[0] == pytest.approx(20 * 512 / 16000)
    assert one.duration_s == pytest.approx(soundfile.info(one.path).duration, abs=2 * 512 / 16000)


@pytest.mark.parametrize(
    "feature",
    [
        "mel(n_mels=16,hop_length=512,scale=db)@uint8",
        "mel(n_mels=16,hop_length=512,scale=log10_1p)@float16",
        # a view of an array in decibels, quantised on the range of decibels
        "mel(n_mels=16,hop_length=256,scale=db)@uint8; mel(n_mels=16,hop_length=512,scale=log10_1p)",
        "mel(n_mels=16,clip='centre(0.9 s)',scale=db)",
    ],
)
def test_features_have_the_numbers_that_the_run_was_trained_on(feature: str, music: Path, tmp_path: Path) -> None:
    folder = trained(music, tmp_path, feature)
    scores = {file.path: file.scores for file in tag(str(folder), [music]).files}
    for path, found in recorded(folder).items():
        np.testing.assert_allclose(scores[path], found, atol=2e-6)


EXCERPTS = "mel(n_mels=16,hop_length=512,scale=db,clip='every(0.8 s, 0.3 s)')"


def test_runs_on_excerpts(music: Path, tmp_path: Path) -> None:
    folder = trained(music, tmp_path, EXCERPTS, data={"crop_frames": None})
    report = tag(str(folder), [music])
    scores = {file.path: file.scores for file in report.files}
    for path, found in recorded(folder).items():
        np.testing.assert_allclose(scores[path], found, atol=2e-6)
    assert report.step_s == 0.3
    last = report.files[-1]
    np.testing.assert_allclose(last.starts_s, 0.3 * np.arange(len(last.starts_s)))
    assert len(last.starts_s) == int((soundfile.info(last.path).duration - 0.8) / 0.3) + 1
    stored = tag(str(folder), [music], store=tmp_path / "tag.zarr", options=SYNC)
    for one, other in zip(report.files, stored.files, strict=True):
        assert np.array_equal(one.taggram, other.taggram)
    with pytest.raises(ConfigError, match=r"step_s=1\.0: the model was trained on excerpts, every"):
        tag(str(folder), [music], step_s=1.0)


@pytest.mark.parametrize(
    "feature",
    [
        "mel(n_mels=16,hop_length=512,scale=db) + mel(n_mels=16,hop_length=512,scale=log10_1p)",
        "mel(n_mels=16,hop_length=512,scale=db)@uint8 + hpss(n_mels=16,hop_length=512,scale=db)",
    ],
)
def test_runs_on_several_features(feature: str, music: Path, tmp_path: Path) -> None:
    folder = trained(music, tmp_path, feature)
    report = tag(str(folder), [music])
    assert report.feature.count(" + ") == 1
    scores = {file.path: file.scores for file in report.files}
    for path, found in recorded(folder).items():
        np.testing.assert_allclose(scores[path], found, atol=2e-6)
    stored = tag(str(folder), [music], store=tmp_path / "tag.zarr", options=SYNC)
    for one, other in zip(report.files, stored.files, strict=True):
        np.testing.assert_allclose(one.taggram, other.taggram, atol=2e-6)
    short = tmp_path / "short.wav"
    soundfile.write(short, tone(0.3), 22050)
    assert tag(str(folder), [short]).failures[0].error.startswith("too short: 0.32 s")
    assert tag(str(folder), [short], short="repeat").files[0].taggram.shape == (1, 2)


@pytest.mark.parametrize("pool", ["mean_logit", "majority"])
def test_files_are_pooled_as_the_run_says(pool: str, music: Path, tmp_path: Path) -> None:
    folder = trained(music, tmp_path, "mel(n_mels=16,hop_length=512,scale=db)", evaluate={"pool": pool})
    scores = {file.path: file.scores for file in tag(str(folder), [music]).files}
    for path, found in recorded(folder).items():
        np.testing.assert_allclose(scores[path], found, atol=2e-6)


def test_through_the_extractor_the_scores_are_the_same(run: Path, music: Path, tmp_path: Path) -> None:
    here = tag(str(run), [music])
    there = tag(str(run), [music], store=tmp_path / "tag.zarr", options=SYNC)
    assert [file.path for file in there.files] == [file.path for file in here.files]
    for one, other in zip(here.files, there.files, strict=True):
        assert np.array_equal(one.taggram, other.taggram)
    store = open_store(tmp_path / "tag.zarr")
    assert len(store.tracks) == 12
    stamp = store.fingerprint
    again = tag(str(run), [music / "a"], store=tmp_path / "tag.zarr", options=SYNC)
    assert len(again.files) == 6
    assert open_store(tmp_path / "tag.zarr").fingerprint == stamp, "nothing was computed again"
    everything = tag(str(run), [], store=tmp_path / "tag.zarr")
    assert len(everything.files) == 12


def test_bad_files_are_reported_and_hold_nobody_up(run: Path, music: Path, tmp_path: Path) -> None:
    statuses = make_faulty(tmp_path / "bad")
    good = str(music / "a" / "0002.wav")
    report = tag(str(run), [tmp_path / "bad", good, tmp_path / "nosuch.wav"])
    found = {Path(file.path).name: file for file in report.files}
    for name, status in statuses.items():
        kept = status in ("silent", "clipped")
        assert bool(found[name].error) != kept, name
        assert bool(found[name].note) == kept, name
        assert name in found[name].error or kept, "the reason says which file"
    assert not found["0002.wav"].error
    assert "no such file" in found["nosuch.wav"].error
    assert len(report.failures) == sum(status not in ("silent", "clipped") for status in statuses.values()) + 1
    assert report.failures[0].top(report.classes) == []
    stored = tag(str(run), [tmp_path / "bad", good, tmp_path / "nosuch.wav"], store=tmp_path / "s.zarr", options=SYNC)
    assert {file.path for file in stored.failures} == {file.path for file in report.failures}
    half = next(file for file in tag(str(run), [tmp_path / "bad" / "half.mp3"], short_decode="flag").files)
    assert "decoded 3.97 s of the 8.00 s" in half.note
    assert half.scores.shape == (2,)


def test_whatever_a_library_throws_is_one_file_s_failure(
    run: Path, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featstore.extract import execute

    plain = execute.run_track

    def fails_once(path, graph, deliver):
        if path.endswith("0002.wav"):
            raise ZeroDivisionError("of the library")
        return plain(path, graph, deliver)

    monkeypatch.setattr(execute, "run_track", fails_once)
    report = tag(str(run), [music / "a"])
    assert [file.error for file in report.failures] == [f"ZeroDivisionError: of the library [{music}/a/0002.wav]"]


def test_files_shorter_than_a_window(run: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone(0.3), 22050)
    (failed,) = tag(str(run), [tmp_path / "short.wav"]).files
    assert failed.error.startswith("too short: 0.32 s, and the model takes 0.64 s")
    assert "--short repeat" in failed.error
    (repeated,) = tag(str(run), [tmp_path / "short.wav"], short="repeat").files
    assert repeated.taggram.shape == (1, 2)


def test_files_and_folders_each_once_in_natural_order(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(music)
    names = [f"a/{n:04d}.wav" for n in range(0, 12, 2)]
    assert find_audio(["a/0004.wav", "a", music / "a" / "0002.wav"]) == [
        "a/0004.wav",
        *(n for n in names if "0004" not in n),
    ]
    with pytest.raises(DatasetError, match="the folder is empty"):
        (music.parent / "empty").mkdir()
        find_audio([music.parent / "empty"])


def test_steps_between_windows(run: Path, music: Path) -> None:
    path = music / "b" / "0001.wav"
    (plain,) = tag(str(run), [path]).files
    report = tag(str(run), [path], step_s=0.16)
    (fine,) = report.files
    assert report.step_s == pytest.approx(5 * 512 / 16000)
    assert len(fine.starts_s) > 3 * len(plain.starts_s) - 3
    assert np.allclose(fine.taggram[4], plain.taggram[1], atol=1e-6), "the window at 0.64 s"


def test_a_checkpoint_file_needs_no_folder(run: Path, music: Path, tmp_path: Path) -> None:
    file = tmp_path / "alone.safetensors"
    file.write_bytes((run / "checkpoints" / "best.safetensors").read_bytes())
    for one, other in zip(tag(str(file), [music]).files, tag(str(run), [music]).files, strict=True):
        assert np.array_equal(one.scores, other.scores)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the package ``musicnn`` with weights that were never trained."""
    return write_untrained(tmp_path_factory.mktemp("package") / "musicnn", "mtt-musicnn", "msd-vgg", "mtt-vgg")


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, tone(10.0, seed=3), 22050)
    return path


@pytest.mark.slow
def test_published_networks_see_what_the_package_computes(package: Path, song: Path) -> None:
    """The package's front end, written out with librosa: 3 s windows side by side, the rest of the file dropped."""
    import librosa
    import soxr

    report = tag("MTT_musicnn", [song], weights=package)
    audio, rate = soundfile.read(song, dtype="float32")
    audio = soxr.resample(audio, rate, 16000, quality="HQ")
    mel = librosa.feature.melspectrogram(y=audio, sr=16000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect")
    log = np.log10(10000 * mel + 1)
    starts = range(0, log.shape[1] - 187 + 1, 187)
    model = open_tagger("mtt-musicnn", package).module
    with torch.no_grad():
        expected = [model(torch.from_numpy(log[None, :, start : start + 187]))[0].sigmoid().numpy() for start in starts]
    (file,) = report.files
    assert len(expected) == len(file.starts_s) == 3
    np.testing.assert_allclose(file.taggram, np.stack(expected), atol=2e-4)  # librosa's mel differs in the sixth digit
    np.testing.assert_allclose(file.scores, np.mean(expected, axis=0), atol=2e-4)
    assert (report.model, report.window_s) == ("mtt-musicnn", 187 * 256 / 16000)
    spec = parse_spec(report.feature.partition("@")[0])
    assert (spec.sample_rate, spec.n_mels, spec.pad_mode, spec.scale.name) == (16000, 96, "reflect", "log10_1p")
    assert report.classes[:2] == ("guitar", "classical")


def test_windows_of_another_length(package: Path, song: Path) -> None:
    report = tag("mtt-musicnn", [song], weights=package, window_s=1.0)
    assert report.window_s == pytest.approx(62 * 256 / 16000)
    assert len(report.files[0].starts_s) == 10
    with pytest.raises(ConfigError, match=r"window_s=1.0: this model takes windows of 2.99 s only \[msd-vgg\]"):
        tag("msd-vgg", [song], weights=package, window_s=1.0)


def test_converted_weights_are_a_checkpoint_like_any_other(
    package: Path, song: Path, music: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mtt-musicnn.safetensors"
    done = convert_published("MTT_musicnn", file, package)
    assert (done["model"], done["values"], done["bytes"]) == ("mtt-musicnn", 792_079, file.stat().st_size)
    direct = tag("mtt-musicnn", [song], weights=package)
    again = tag(str(file), [song])
    assert (again.model, again.feature, again.classes) == (direct.model, direct.feature, direct.classes)
    assert np.array_equal(again.files[0].taggram, direct.files[0].taggram)
    with pytest.raises(ConfigError, match=r"'weights\.bin' does not end in \.safetensors"):
        convert_published("mtt-musicnn", tmp_path / "weights.bin", package)
    with pytest.raises(CheckpointError, match="no published weights of 'musicnn'"):
        convert_published("musicnn", file, package)


@pytest.mark.slow
def test_training_starts_from_converted_weights(package: Path, music: Path, tmp_path: Path) -> None:
    file = tmp_path / "mtt-vgg.safetensors"
    convert_published("mtt-vgg", file, package)
    feature = open_tagger(str(file)).request
    extract(table(music), [feature], tmp_path / "store.zarr", SYNC)
    config = {**SMALL, "model": {}, "data": {"crop_frames": 187, "ragged": "pad", "batch_size": 4}}
    config["start"] = {"run": str(file), "freeze_epochs": 1}
    train(
        open_store(tmp_path / "store.zarr"),
        str(feature),
        "mtt-vgg",
        tmp_path / "run",
        tracks=table(music),
        config=config,
    )
    tuned, start = (open_tagger(str(place)).module.state_dict() for place in (tmp_path / "run", file))
    assert torch.equal(tuned["model.blocks.2.0.weight"], start["model.blocks.2.0.weight"]), "the frozen trunk"
    assert tuned["model.output.weight"].shape == (2, 256)


def test_what_cannot_be_tagged(run: Path, song: Path, tmp_path: Path) -> None:
    for model, message in (
        ("vgg-cnn", "'vgg-cnn' is an architecture: it has no weights of its own.*mtt-musicnn"),
        ("mtt-musican", "no model 'mtt-musican'.*Did you mean mtt-musicnn"),
        (str(tmp_path), "there is no run in this folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            tag(model, [song])
    with pytest.raises(ConfigError, match="nothing to tag"):
        tag(str(run), [])
    with pytest.raises(ConfigError, match=r"short='pad' is unknown.*Known: fail, repeat"):
        tag(str(run), [song], short="pad")
    with pytest.raises(ConfigError, match="step_s=0 is not positive"):
        tag(str(run), [song], step_s=0)
    with pytest.raises(ConfigError, match="--weights goes with a published model"):
        tag(str(run), [song], weights=tmp_path)
    (tmp_path / "song.safetensors").write_bytes(song.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        tag(str(tmp_path / "song.safetensors"), [song])


def test_published_networks_name_the_tags_of_their_data_sets() -> None:
    from featstore.datasets import msd, mtat

    assert PUBLISHED["mtt-musicnn"].tags == mtat.TAGS
    assert PUBLISHED["msd-vgg"].tags == msd.TAGS


def test_loud_music_stays_finite(package: Path, tmp_path: Path) -> None:
    """Mel power beyond 6.55 overflows sixteen bits once it is multiplied by 10000; every tag would be NaN."""
    from featstore.workflows.tag_features import feature_function

    time = np.arange(4 * 16000) / 16000
    soundfile.write(tmp_path / "loud.wav", 0.99 * np.sin(2 * np.pi * 440 * time), 16000, subtype="FLOAT")
    tagger = open_tagger("mtt-musicnn", package)
    (feature,), _ = feature_function([tagger.request], "fail")(str(tmp_path / "loud.wav"))
    assert feature.dtype == np.float32
    assert feature.max() > np.log10(10000 * 6.55)
    (file,) = tag("mtt-musicnn", [tmp_path / "loud.wav"], weights=package).files
    assert np.isfinite(file.taggram).all()
    with torch.no_grad():
        loudest = tagger.module(torch.full((1, 96, 187), float(np.log10(1 + 1e4 * 1e4))))
    assert torch.isfinite(loudest).all()
