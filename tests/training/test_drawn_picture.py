"""Pretraining by drawing a spectrogram: targets at the right place and scale, and an extractor that goes over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import ConfigError
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features
from featstore.models.checkpoint_file import load_checkpoint
from featstore.store import Store, open_store
from featstore.training import TrainConfig, train
from featstore.training.drawn_picture import Picture
from featstore.training.engines import Engine
from featstore.training.input_shape import input_shape
from featstore.training.job import Job
from featstore.training.labels import label_tracks

WAVE = "waveform(sample_rate=8000)"
MEL = "mel(sample_rate=8000,n_fft=1024,hop_length=200,n_mels=128,scale=ln(eps=1e-7))"
GRID = 200 / 8000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Clips that are silent, then a tone."""
    folder, rows = tmp_path_factory.mktemp("picture"), []
    for i in range(8):
        tone = 0.3 * np.sin(2 * np.pi * (300 + 200 * (i % 4)) * np.arange(6400) / 8000)
        tone[: 400 * (i % 3)] = 0
        soundfile.write(folder / f"{i}.wav", tone.astype(np.float32), 8000, subtype="FLOAT")
        split = ("train", "train", "train", "valid")[i % 4]
        rows.append({"track_id": f"t{i}", "path": str(folder / f"{i}.wav"), "labels": ["ab"[i % 2]], "split": split})
    table = TrackTable(pd.DataFrame(rows), TableInfo(name="tones", task="single_label", classes=("a", "b")))
    extract(table, expand_features([WAVE, MEL]), folder / "store.zarr", ExtractOptions(scheduler="sync"))
    return open_store(folder / "store.zarr")


def settings(*assignments: str) -> TrainConfig:
    given = [f"objective.target={MEL}", "objective.name=picture", "data.crop_frames=3200", f"data.crop_grid_s={GRID}"]
    given += ["model.width=0.05", "model.size=tiny", "model.depth=1", "data.batch_size=3", "evaluate.splits=[valid]"]
    given += ["data.window_stride_s=0.4", "loop.epochs=12", "optimizer.learning_rate=0.003"]
    return TrainConfig.resolve(assignments=[*given, *assignments])


@pytest.mark.slow
def test_an_extractor_learns_to_draw_and_goes_over(store: Store, tmp_path: Path) -> None:
    found = train(store, WAVE, "gafx-r", tmp_path / "drawn", config=settings())
    scores = found["scores"]["valid"]
    assert 0.1 < scores["entropy"] < scores["loss"] < 0.55, "ln 2 knows nothing"
    assert 0 < scores["error"] < 0.3
    tuned = ["data.crop_frames=3200", "model.width=0.05", "model.size=tiny", "model.depth=1", "loop.epochs=1"]
    tuned += [f"start.weights.extractor={tmp_path / 'drawn'}", "optimizer.learning_rate=1e-9", "data.batch_size=3"]
    tuned += ["evaluate.splits=[valid]", "loop.monitor=loss"]
    train(store, WAVE, "gafx-r", tmp_path / "tuned", config=TrainConfig.resolve(assignments=tuned))
    before, after = (
        load_checkpoint(tmp_path / name / "checkpoints/best.safetensors")[0] for name in ("drawn", "tuned")
    )
    name = "model.model.extractor.layer5.0.conv1.weight"
    assert torch.allclose(before[name], after[name], atol=1e-6)
    assert not any("decoder" in each for each in after)


def test_targets_lie_under_the_rows_they_belong_to(store: Store, tmp_path: Path) -> None:
    config = settings()
    readers = {"input": store[WAVE]}
    config = Picture.resolve("gafx-r", config, readers, store)
    labelled = label_tracks(store.tracks, list(store.tracks.index), config.data, info=store.table.facts)
    shape = input_shape(readers, labelled, config.data)
    beside = {name: store[name] for name in Picture.beside(config)}
    job = Job(readers, labelled, shape, config, None, {}, beside)  # type: ignore[arg-type]
    objective = Picture(job, Engine(torch.device("cpu")), None)  # type: ignore[arg-type]
    batch = type(
        "Batch", (), {"index": torch.tensor([0, 1]), "start": torch.tensor([400, 4400]), "first": torch.zeros(2)}
    )
    batch.__len__ = lambda self: 2  # type: ignore[attr-defined]
    wanted, there = objective._wanted(batch(), 16, "train")
    tracks = labelled.splits["train"].track_ids
    low, high = config.objective.low, config.objective.high  # type: ignore[attr-defined]
    first = np.clip((store[MEL][tracks[0]][:, 2:18] - low) / (high - low), 0, 1)
    assert np.allclose(wanted[0].numpy(), first, atol=1e-6) and there[0].all()
    assert there[1].sum() == 33 - 22 and wanted[1, :, :11].any()


@pytest.mark.parametrize(
    ("model", "assignment", "message"),
    [
        ("resnet18", "model.width=0.05", r"no learned front end.*gafx-r, gafx-a"),
        ("gafx-r", "data.crop_grid_s=0.01", r"multiples of 80 samples.*a frame each 200.*crop_grid_s=0\.025"),
        ("gafx-r", "objective.low=9", r"low=9.0 and high=4.8703 are no range"),
    ],
)
def test_what_cannot_be_drawn(store: Store, tmp_path: Path, model: str, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(store, WAVE, model, tmp_path / "run", config=settings(assignment))
