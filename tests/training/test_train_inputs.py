"""Several features as one input, waveforms, and crops on a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from small_store import SPEC, Collection
from torch import nn

from featstore.errors import ConfigError
from featstore.models import MODELS
from featstore.models.checkpoint_file import load_checkpoint
from featstore.models.input_kinds import InputSize
from featstore.models.interface import InputNormalisation, Model
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.writing import add_arrays, add_tracks, write_shard
from featstore.training import TrainConfig, evaluate, train
from featstore.training.input_shape import InputShape
from featstore.training.scoring import track_scores, window_shares

Make = Callable[..., TrainConfig]
POWER = SPEC.replace("scale=db", "scale=power")
COARSE = SPEC.replace("hop_length=512", "hop_length=1024")
WAVE = "waveform(sample_rate=8000)"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two spectra stored apart and a waveform, of clips whose class is their pitch."""
    rng, n = np.random.default_rng(0), 30
    frame = pd.DataFrame(
        {
            "track_id": [f"t{i:02d}" for i in range(n)],
            "path": [f"/music/{i}.wav" for i in range(n)],
            "labels": [["high" if i % 2 else "low"] for i in range(n)],
            "split": [("train", "train", "train", "valid", "test")[i % 5] for i in range(n)],
        }
    )
    seconds = 3.2
    path = tmp_path_factory.mktemp("inputs") / "store.zarr"
    specs = [parse_spec(text) for text in (SPEC, "mel(sample_rate=16000,n_mels=16,hop_length=512,norm=none)", WAVE)]
    headers = []
    for spec in specs:
        shape, dims = ((16,), ("band", "frame")) if spec.kind == "mel" else ((), ("sample",))
        headers.append(ArrayHeader(spec, Encoding.parse("float32", spec), shape, dims))
    made = create_store(path, frame, headers, shard_tracks=8)
    add_arrays(made, headers)
    ids = {row: track for track, row in made.tracks["row"].items()}
    for shard in range(made.n_shards):
        with write_shard(made, shard, [header.key for header in headers]) as writer:
            for slot, row in enumerate(made.shard_rows(shard)):
                pitch = int(ids[row][1:]) % 2
                writer.begin(slot, ids[row])
                for header in headers:
                    if header.spec.kind == "waveform":
                        time = np.arange(int(8000 * seconds)) / 8000
                        values = 0.3 * np.sin(2 * np.pi * (900 if pitch else 200) * time)
                    else:
                        values = rng.normal(-60, 5, (16, 100))
                        values[8 * pitch : 8 * pitch + 8] += 8
                        values = values if header.spec.scale.name == "db" else 10 ** (values / 10)
                    writer.append(header.key, values.astype(np.float32))
                writer.end()
            writer.commit({})
    consolidate(made)
    return open_store(path)


SECOND = "mel(sample_rate=16000,n_mels=16,hop_length=512,norm=none)"


def test_two_spectra_are_stacked_each_under_its_own_norm(store: Store, tmp_path: Path, config: Make) -> None:
    small = TrainConfig.resolve(
        assignments=["model.width=8", "data.crop_frames=24", "loop.epochs=3", "data.batch_size=6", "augment.gain_db=3"]
    )
    result = train(store, [SPEC, SECOND], "conv-encoder", tmp_path / "run", config=small)
    assert result["feature"] == f"{store[SPEC].name} + {store[SECOND].name}"
    spectrum = {"kind": "spectrum", "axes": [16, 24]}
    assert result["input"]["inputs"] == {"input_mel_1": spectrum, "input_mel_2": spectrum}
    assert result["bytes"]["alone"] == store[SPEC].bytes_alone + store[SECOND].bytes_alone
    tensors, _ = load_checkpoint(tmp_path / "run/checkpoints/best.safetensors")
    assert tensors["model.model.stem.weight"].shape == (8, 32, 1)
    assert tensors["model.norm.input_mel_1.mean"].mean() == pytest.approx(-56, abs=1)
    assert 0 < tensors["model.norm.input_mel_2.mean"].mean() < 1e-3
    assert evaluate(tmp_path / "run") == result["scores"]
    with pytest.raises(ConfigError, match="the same feature twice: mel"):
        train(store, [SPEC, SPEC], "conv-encoder", tmp_path / "twice", config=small)


def test_masked_prediction_of_two_spectra(store: Store, tmp_path: Path) -> None:
    small = TrainConfig.resolve(
        assignments=["objective.name=masked", "model.width=8", "data.crop_frames=48", "loop.epochs=1"]
    )
    result = train(store, [SPEC, SECOND], "conv-encoder", tmp_path / "run", config=small)
    tensors, _ = load_checkpoint(tmp_path / "run/checkpoints/best.safetensors")
    assert tensors["model.decoder.weight"].shape == (32, 8)
    assert result["scores"]["test"]["mean_baseline"] > 0.5
    assert evaluate(tmp_path / "run") == result["scores"]


def test_spectra_that_cannot_be_stacked(store: Store, tmp_path: Path, config: Make) -> None:
    with pytest.raises(ConfigError, match=r"inputs of different shapes.*input_mel_1 16 x 24, input_mel_2 16 x 12"):
        train(store, [SPEC, COARSE], "vgg-cnn", tmp_path / "a", config=config())
    with pytest.raises(ConfigError, match=r"a waveform for a model that takes spectra.*vgg-cnn"):
        train(store, WAVE, "vgg-cnn", tmp_path / "b", config=config("data.crop_s=1", "data.crop_frames=null"))


@dataclass(frozen=True, kw_only=True)
class WaveConfig:
    n_samples: int
    n_classes: int
    in_channels: int = 1
    width: int = 4


class WaveModel(Model):
    """Takes ``(batch, 1, n_samples)``."""

    Config: ClassVar = WaveConfig
    takes: ClassVar[str] = "waveform"
    input_norm: ClassVar[InputNormalisation] = "none"

    def __init__(self, config: WaveConfig) -> None:
        super().__init__()
        self.config = config
        self.filters = nn.Conv1d(config.in_channels, config.width, 65)
        self.output = nn.Linear(config.width, config.n_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (1, self.config.n_samples)
        return self.filters(x).abs().mean(dim=2)


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    inputs: dict
    n_classes: int


class PairModel(Model):
    """Takes inputs of different kinds and lengths by name."""

    Config: ClassVar = PairConfig
    takes: ClassVar[str] = "several"

    def __init__(self, config: PairConfig) -> None:
        super().__init__()
        self.config = config
        bands = sum(size.axes[0] if size.kind == "spectrum" else 1 for size in config.inputs.values())
        self.output = nn.Linear(bands, config.n_classes)

    def forward_features(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        assert {name: (1, *size.axes) for name, size in self.config.inputs.items()} == {
            name: tuple(each.shape[1:]) for name, each in x.items()
        }
        return torch.cat([each.mean(dim=-1).flatten(1) for each in x.values()], dim=1)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more entries of the registry, as later models will be."""
    for name, place in (("wave", "WaveModel"), ("pair", "PairModel")):
        monkeypatch.setitem(MODELS, name, f"{__name__}:{place}")


@pytest.mark.slow
def test_a_model_of_waveforms_with_the_papers_augmentations(store: Store, tmp_path: Path, models: None) -> None:
    small = TrainConfig.resolve(
        assignments=[
            *("data.crop_s=1", "data.crops_per_track=4", "data.distinct_crops=true", "data.crop_grid_s=0.5"),
            *("data.window_stride_s=0.5", "evaluate.pool=majority", "augment.gain=0.1", "augment.noise=0.02"),
            *("loop.epochs=6", "loop.monitor=accuracy", "optimizer.learning_rate=0.02", "data.batch_size=6"),
        ]
    )
    result = train(store, WAVE, "wave", tmp_path / "run", config=small)
    assert result["input"]["inputs"] == {"input": {"kind": "waveform", "axes": [8000]}}
    assert (result["input"]["stride"], result["input"]["grid"]) == (4000, 4000)
    assert result["scores"]["test"]["accuracy"] > 0.9
    assert evaluate(tmp_path / "run") == result["scores"]


def test_inputs_by_name(store: Store, tmp_path: Path, models: None) -> None:
    small = TrainConfig.resolve(assignments=["data.crop_frames=24", "loop.epochs=8", "optimizer.learning_rate=0.05"])
    result = train(store, [SPEC, COARSE, WAVE], "pair", tmp_path / "run", config=small)
    names = ["input_mel_1", "input_mel_2", "input_waveform"]
    sizes = {name: size["axes"] for name, size in result["input"]["inputs"].items()}
    assert sizes == dict(zip(names, ([16, 24], [16, 12], [6144]), strict=True))
    assert result["gmacs"] == pytest.approx(33 * 2 / 1e9)
    assert result["scores"]["test"]["accuracy"] > 0.9
    assert evaluate(tmp_path / "run") == result["scores"]


def test_the_store_remembers_its_tables_facts(music: Collection, tmp_path: Path, config: Make) -> None:
    from small_store import write_store

    from featstore.datasets import TableInfo, TrackTable

    info = TableInfo(name="mine", task="multi_label", classes=("middle", "low", "high"))
    table = TrackTable(music.frame.assign(labels=[row[:1] for row in music.frame["labels"]]), info)
    store = write_store(tmp_path / "s.zarr", table.frame, music.values, spec=SPEC)
    assert store.table.facts.name == "mine" and store.table.facts.classes == ("middle", "low", "high")
    result = train(store, SPEC, "vgg-cnn", tmp_path / "run", config=config("loop.epochs=1"))
    assert (result["dataset"], result["task"], result["classes"]) == ("mine", "multi_label", ["middle", "low", "high"])
    more = table.frame.assign(track_id=[f"n{i}" for i in range(60)])
    assert add_tracks(store, more) == 60
    assert open_store(tmp_path / "s.zarr").table.facts == store.table.facts


@pytest.mark.parametrize(
    ("plain", "inputs"),
    [
        ({"n_mels": 16, "n_frames": 20, "stride": 10}, {"input": InputSize("spectrum", (16, 20))}),
        (
            {"shapes": {"input_mel_1": [8, 20], "input_mel_2": [16, 10]}, "n_frames": 20, "stride": 20},
            {"input_mel_1": InputSize("spectrum", (8, 20)), "input_mel_2": InputSize("spectrum", (16, 10))},
        ),
        ({"kind": "waveform", "n_frames": 4000, "stride": 4000, "grid": 5}, {"input": InputSize("waveform", (4000,))}),
    ],
)
def test_descriptions_of_older_runs_are_still_read(plain: dict, inputs: dict[str, InputSize]) -> None:
    shape = InputShape.from_mapping(plain)
    assert dict(shape.inputs) == inputs
    assert (shape.stride, shape.grid) == (plain["stride"], plain.get("grid", 1))
    assert InputShape.from_mapping(shape.as_mapping()) == shape


def test_votes_that_are_even_go_to_the_first_class() -> None:
    logits = torch.tensor([[0.0, 0.0, -1.0], [0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    votes = window_shares(logits, "single_label", "majority")
    assert votes.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]]
    shares = track_scores(votes.mean(dim=0, keepdim=True), "single_label", "majority")
    assert shares.tolist() == [[0.5, 0.5, 0.0]] and int(shares.numpy().argmax()) == 0
    soft = window_shares(logits, "single_label", "mean_probability").mean(dim=0)
    assert soft[0] == pytest.approx(float(torch.softmax(logits.double(), 1)[:, 0].mean())) and soft[0] != soft[1]
