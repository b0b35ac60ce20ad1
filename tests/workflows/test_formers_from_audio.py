"""The transformers of frames, tokens and code vectors from audio files to tags, sweeps and forecasts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features
from featstore.results.details import prediction_file
from featstore.store import Store, open_store
from featstore.training import TrainConfig, train
from featstore.training.folders import RunFolder
from featstore.workflows.indexing import index_tracks
from featstore.workflows.sweep import carry_out, grid_of_runs
from featstore.workflows.tag import tag
from featstore_cli.main import main
from tests.models.jukebox_files import random_level, small_config, write_container

RATE = 44100
SMALL = [
    *("model.size=tiny", "model.group=8", "data.crop_frames=128", "data.batch_size=4", "data.ragged=pad"),
    *("loop.epochs=1", "data.split=random", "data.task=single_label", "device.accelerator=cpu", "evaluate.bootstrap=0"),
]
OPTIONS = [word for text in SMALL for word in ("--set", text)]


def sound(number: int, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 220 * (1 + number % 2) * 2 ** (number / 24)
    return (0.4 * np.sin(2 * np.pi * pitch * time) + 0.05 * np.random.default_rng(number).normal(size=len(time))).clip(
        -1, 1
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty clips in two folders, which are their classes; mel frames on the grid of the tokens, tokens, vectors."""
    root = tmp_path_factory.mktemp("audio")
    for number in range(20):
        folder = root / "music" / ("low", "high")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        # one clip lacks a few frames of a second window, so that the last one overlaps
        soundfile.write(folder / f"{number:02d}.wav", sound(number, 1.0 if number % 3 else 0.6), RATE, subtype="FLOAT")
    levels = [random_level(small_config(level), level) for level in range(3)]
    weights = write_container("original", levels, root / "weights")
    names = [f"{kind}(codec=jukebox,level=2,weights={weights})" for kind in ("vq_tokens", "vq_codes")]
    mel = "mel(sample_rate=44100,n_fft=2048,win_length=512,hop_length=128,framing=token,n_mels=8,scale=ln)"
    table = index_tracks("folder", root / "music", label_from="parent")
    extract(table, expand_features([mel, *names]), root / "store.zarr", ExtractOptions(scheduler="sync", jobs=1))
    return root


def run_command(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0


@pytest.fixture(scope="module")
def store(place: Path) -> Store:
    return open_store(place / "store.zarr")


def feature(store: Store, kind: str) -> str:
    known = {str(name).partition("(")[0].partition(".")[0]: str(name) for name in store.features}
    return known[kind]


MODELS = [("spectroformer", "mel"), ("tokenformer", "vq_tokens"), ("codebookformer", "vq_codes")]


@pytest.mark.parametrize(("model", "kind"), MODELS)
def test_a_new_mp3_is_tagged_with_tokens_made_on_the_way(
    place: Path, store: Store, tmp_path: Path, model: str, kind: str
) -> None:
    config = TrainConfig.resolve(assignments=[*SMALL, "evaluate.weigh=frames", "evaluate.pool=mean_logit"])
    train(store, feature(store, kind), model, tmp_path / "run", config=config)
    test = prediction_file(RunFolder(tmp_path / "run").predictions)["test"]
    paths = [str(store.tracks.loc[track, "path"]) for track in test.track_ids]
    found = tag(str(tmp_path / "run"), paths)
    assert list(found.classes) == list(test.classes) == ["high", "low"]
    for each, wanted in zip(found.files, test.score, strict=True):  # as they were scored from the store
        np.testing.assert_allclose(each.scores, wanted, atol=1e-5)
    soundfile.write(tmp_path / "new.mp3", sound(3, 1.3), RATE)
    new = tag(str(tmp_path / "run"), [tmp_path / "new.mp3"]).files[0]
    assert not new.error and new.scores.sum() == pytest.approx(1.0, abs=1e-5)
    assert len(new.starts_s) == 4 and new.starts_s[-1] < new.starts_s[-2] + 128 * 128 / RATE  # the last one overlaps


def test_overlapping_windows_count_by_what_they_add(store: Store, tmp_path: Path) -> None:
    scores = {}
    for weigh in ("windows", "frames"):
        config = TrainConfig.resolve(assignments=[*SMALL, f"evaluate.weigh={weigh}", "evaluate.pool=mean_logit"])
        train(store, feature(store, "vq_tokens"), "tokenformer", tmp_path / weigh, config=config)
        scores[weigh] = prediction_file(RunFolder(tmp_path / weigh).predictions)["test"]
    lengths = store[feature(store, "vq_tokens")].lengths
    rows = [store.tracks.loc[track, "row"] for track in scores["frames"].track_ids]
    whole = [lengths[row] % 128 == 0 for row in rows]
    same = np.isclose(scores["windows"].score, scores["frames"].score, atol=1e-7).all(axis=1)
    assert not any(whole) and not same.any()


def test_a_sweep_of_the_three(place: Path, store: Store, tmp_path: Path) -> None:
    settings = TrainConfig.resolve(assignments=SMALL).as_mapping()
    runs = [
        run
        for model, kind in MODELS
        for run in grid_of_runs(
            place / "store.zarr",
            tmp_path,
            features=[feature(store, kind)],
            models=[model],
            seeds=[0],
            settings=settings,
        )
    ]
    outcomes = carry_out(runs, jobs=1)
    assert [one.state for one in outcomes] == ["finished"] * 3
    assert all(0 <= one.scores["test"]["macro_f1_all"] <= 1 for one in outcomes)
    assert [one.state for one in carry_out(runs, jobs=1)] == ["finished before"] * 3


@pytest.mark.parametrize(("model", "kind"), MODELS)
def test_a_dry_run_says_hours_and_memory_and_writes_nothing(
    place: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, kind: str
) -> None:
    out = tmp_path / "run"
    words = ["-s", str(place / "store.zarr"), "-f", feature(store, kind), "-m", model, "-o", str(out), *OPTIONS]
    run_command("train", *words, "--set", "loop.epochs=50", "--dry-run", "--json")
    found = json.loads(capsys.readouterr().out)
    assert not out.exists()
    steps = found["steps_per_epoch"]
    assert steps == 3 and found["epochs"] == 50  # 14 of 20 clips, whole batches of 4
    expected = 50 * (steps * found["seconds_per_step"] + found["seconds_validate"]) / 3600
    assert found["hours"] == pytest.approx(expected) and found["memory_bytes"] > 50e6
    assert found["audio_s"] == pytest.approx(50 * 12 * 128 * 128 / RATE)
    hidden = [*words, "--set", f"objective.name=masked-{'values' if kind == 'mel' else 'ids'}", "--dry-run"]
    run_command("pretrain", *hidden)
    text = capsys.readouterr().out
    assert "nothing was written" in text and "a step" in text and "B of memory" in text
    assert not out.exists()
