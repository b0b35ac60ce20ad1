"""A registered metric of which less is better chooses the checkpoint where it is least."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_store import SPEC, Collection

from featstore.metrics import METRICS, Metric, one_hot
from featstore.training import TrainConfig, train


class MeanScore(Metric):
    """Mean probability, whatever the targets: it moves at once, and in no direction that learning would prefer."""

    name, title, higher_is_better = "mean_score", "mean score", False

    def per_class(self, targets: Any, scores: Any, weights: Any) -> Any:
        """Of each class."""
        return weights @ (scores + 0 * one_hot(targets, scores.shape[1])) / weights.sum(axis=1)[:, None]


def test_the_checkpoint_with_the_least_value_is_kept(
    music: Collection, config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("made_up_mean_score")
    module.MEAN_SCORE = MeanScore()
    monkeypatch.setitem(sys.modules, "made_up_mean_score", module)
    monkeypatch.setitem(METRICS, "mean_score", "made_up_mean_score:MEAN_SCORE")
    settings = config("loop.epochs=6", "loop.monitor=mean_score", "loop.patience=0")
    result = train(music.store, SPEC, "vgg-cnn", tmp_path / "run", config=settings)
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = [line["valid"]["mean_score"] for line in lines]
    assert len(set(values)) == 6
    assert result["best_epoch"] == lines[int(np.argmin(values))]["epoch"]
    assert result["scores"]["valid"]["mean_score"] == pytest.approx(min(values), abs=1e-6)
    assert "mean_score" in result["intervals"]["test"] and "mean_score" in result["per_class"]["test"]["high"]
