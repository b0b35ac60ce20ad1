"""An objective is one class: registered from a test, it pretrains a model of tokens whose inputs are padded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from small_store import Collection, fill_store
from torch import nn

from featstore.errors import ConfigError
from featstore.models import MODELS
from featstore.models.interface import InputNormalisation, SequenceModel
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader
from featstore.training import OBJECTIVES, TrainConfig, evaluate, train
from featstore.training.config import ObjectiveConfig
from featstore.training.normed_model import ModelBatch, NormedModel
from featstore.training.objectives import Objective


@dataclass(frozen=True, kw_only=True)
class TokenConfig:
    n_codebooks: int
    n_frames: int
    n_codes: int
    n_classes: int
    width: int = 8


class TokenModel(SequenceModel):
    """Embedding of each token, summed over codebooks; mean over real frames."""

    Config: ClassVar = TokenConfig
    takes: ClassVar[str] = "tokens"
    takes_lengths: ClassVar[bool] = True
    input_norm: ClassVar[InputNormalisation] = "none"
    frames_per_position = 1

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.table = nn.Embedding(config.n_codes, config.width)
        self.output = nn.Linear(config.width, config.n_classes)

    def encode(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        assert x.dtype == torch.int64
        found = self.table(x).sum(dim=1).transpose(1, 2)
        real = torch.arange(x.shape[-1], device=x.device) < (x.shape[-1] if lengths is None else lengths[:, None])
        return found * real[..., None, :]

    def forward_features(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        frames = x.shape[-1] if lengths is None else lengths[:, None]
        return self.encode(x, lengths).sum(dim=2) / frames


@dataclass(frozen=True, kw_only=True)
class NextConfig(ObjectiveConfig):
    name: str = "next-token"
    ahead: int = 1


@dataclass
class Found:
    split: str
    values: dict[str, float]
    n_tracks: int
    n_windows: int
    seconds: float = 0.0


class NextHead(NormedModel):
    """Predicts the token that follows."""

    def __init__(self, model: TokenModel, **settings: Any) -> None:
        super().__init__(model, None, **settings)
        self.codes = nn.Linear(model.width, model.config.n_codes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.codes(self.model.encode(self.arranged(x), *self.lengths_for(lengths)).transpose(1, 2))


class NextToken(Objective):
    """Cross-entropy of the token ``ahead`` frames later, in real frames."""

    Config: ClassVar = NextConfig

    def __init__(self, job: Any, engine: Any, normed: NormedModel) -> None:
        super().__init__(job, engine, normed)
        self.ahead = job.config.objective.ahead

    @classmethod
    def wrap(cls, model: Any, shape: Any, settings: Any, **normed: Any) -> NormedModel:
        return NextHead(model, names=tuple(shape.inputs))

    def loss(self, forward: Any, batch: ModelBatch, *, epoch: int) -> torch.Tensor:
        logits, wanted = forward(batch.x, batch.lengths)[:, : -self.ahead], batch.x[:, 0, self.ahead :].long()
        each = nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        real = torch.arange(self.ahead, batch.x.shape[-1]) < batch.lengths[:, None]
        return (each * real).sum() / real.sum()

    @torch.no_grad()
    def score(self, normed: NormedModel, loader: Any, split: str) -> Found:
        batches = [ModelBatch.of(batch, normed.names, torch.device("cpu")) for batch in loader]
        losses = [float(self.loss(normed, batch, epoch=0)) for batch in batches]
        n = sum(map(len, batches))
        return Found(split, {"loss": float(np.mean(losses))}, n, n)


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "token-model", f"{__name__}:TokenModel")
    monkeypatch.setitem(OBJECTIVES, "next-token", f"{__name__}:NextToken")


def token_collection(path: Path) -> Collection:
    """Tracks of 12 to 36 tokens that count 0, 1, 2, 3, each from another number on."""
    facts = "sample_rate=16000,hop=128,n_codes=4,code_width=8,n_codebooks=1"
    spec = parse_spec(f"vq_tokens(codec=jukebox,level=2,weights={'0123456789abcdef' * 2},{facts})")
    names = [f"t{i:02d}" for i in range(40)]
    values = {name: (np.arange(12 + i % 25)[None] + i) % 4 for i, name in enumerate(names)}
    split = [("train", "train", "train", "valid", "test")[i % 5] for i in range(40)]
    half = ["fast" if i % 2 else "slow" for i in range(40)]
    frame = pd.DataFrame({"track_id": names, "path": names, "split": split, "half": half})
    header = ArrayHeader(spec, Encoding.parse("uint16", spec), (1,), ("codebook", "frame"))
    return Collection(fill_store(path, frame, values, header), frame, values)


@pytest.mark.slow
def test_a_model_of_padded_tokens_with_an_objective_of_its_own(tmp_path: Path, entries: None) -> None:
    made = token_collection(tmp_path / "s.zarr")
    store, table, feature = made.store, made.frame, made.store.features[0]
    settings = ["objective.name=next-token", "data.crop_frames=24", "data.ragged=pad", "data.batch_size=4"]
    config = TrainConfig.resolve(assignments=[*settings, "loop.epochs=30", "optimizer.learning_rate=0.1"])
    result = train(store, feature, "token-model", tmp_path / "run", config=config, tracks=table)
    assert result["input"]["inputs"] == {"input": {"kind": "tokens", "axes": [1, 24], "n_codes": 4}}
    assert result["objective"] == "next-token" and result["scores"]["valid"]["loss"] < 0.1
    assert evaluate(tmp_path / "run")["valid"] == pytest.approx(result["scores"]["valid"])
    tuned = TrainConfig.resolve(
        assignments=[*settings[1:], "loop.epochs=1", f"start.run={tmp_path / 'run'}", "data.label_column=half"]
    )
    scores = train(store, feature, "token-model", tmp_path / "tuned", config=tuned, tracks=table)["scores"]
    assert set(scores["valid"]) > {"roc_auc", "loss"}


def test_settings_of_an_objective_are_its_own(entries: None) -> None:
    assert TrainConfig.resolve(assignments=["objective.name=next-token"]).objective == NextConfig()
    with pytest.raises(ConfigError, match=r"unknown setting 'objective.ahead'"):
        TrainConfig.resolve(assignments=["objective.ahead=2"])
    with pytest.raises(ConfigError, match=r"objective.name='next'.*next-token"):
        TrainConfig.resolve(assignments=["objective.name=next"])
