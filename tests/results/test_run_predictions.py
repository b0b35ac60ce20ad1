"""Scores from predictions against scikit-learn; bootstrap against a plain loop; curves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featstore.errors import ConfigError, CorruptFeature
from featstore.metrics import METRICS
from featstore.results import RunSet, paired_bootstrap, read_curves, read_predictions
from featstore.results.bootstrap import paired_bootstrap_of_runs
from featstore.results.details import Predictions
from featstore.results.records import RunRecord

metrics = pytest.importorskip("sklearn.metrics")


def _side(seed: int, distance: float, tracks: int = 60) -> Predictions:
    rng = np.random.default_rng(99)
    target = (rng.random((tracks, 3)) < 0.4).astype(float)
    score = distance * target + np.random.default_rng(seed).standard_normal((tracks, 3))
    return Predictions(tuple(f"t{i}" for i in range(tracks)), target, score, ("a", "b", "c"))


@pytest.mark.slow
def test_bootstrap_equals_a_plain_loop() -> None:
    a, b = [_side(1, 1.5), _side(2, 1.5)], [_side(3, 0.5)]
    found = paired_bootstrap(a, b, resamples=100, seed=7)
    rng, differences = np.random.default_rng(7), []
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=100)
    order = [sorted(a[0].track_ids).index(track) for track in a[0].track_ids]  # resampled in the order of their names
    for drawn in weights:
        rows = np.repeat(np.arange(60), drawn[order])
        means = [np.mean([metrics.roc_auc_score(p.target[rows], p.score[rows]) for p in side]) for side in (a, b)]
        differences.append(means[0] - means[1])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    assert found.difference > 0.1 and found.p == pytest.approx(2 / 101) and found.runs_a == 2
    assert "paired bootstrap, 60 tracks, 100 resamples, 2 and 1 runs" in str(found)


def test_bootstrap_of_a_side_with_itself_finds_nothing() -> None:
    found = paired_bootstrap([_side(1, 1.0)], [_side(1, 1.0)], resamples=50)
    assert found.difference == found.low == found.high == 0 and found.p == 1.0


def test_only_shared_tracks_count() -> None:
    whole, part = _side(1, 1.0), _side(2, 1.0)
    rows = [59, *range(10, 30)]
    part = Predictions(tuple(part.track_ids[i] for i in rows), part.target[rows], part.score[rows], part.classes)
    assert paired_bootstrap([whole], [part], resamples=20).tracks == 21
    other = Predictions(("x",), whole.target[:1], whole.score[:1], whole.classes)
    with pytest.raises(ConfigError, match="share no track"):
        paired_bootstrap([whole], [other])
    with pytest.raises(ConfigError, match="no predictions"):
        paired_bootstrap([], [whole])
    renamed = Predictions(whole.track_ids, whole.target, whole.score, ("x", "y", "z"))
    with pytest.raises(ConfigError, match="different classes"):
        paired_bootstrap([whole], [renamed])


def test_runs_without_predictions_on_either_side_have_no_bootstrap(grid: RunSet) -> None:
    whole, other = grid[0], grid[1]
    assert paired_bootstrap_of_runs([whole], [other], resamples=10) is not None
    assert paired_bootstrap_of_runs([whole], [other], split="valid", resamples=10) is None
    without = replace(other, path=other.path / "nowhere")
    assert paired_bootstrap_of_runs([whole], [without], resamples=10) is None
    assert paired_bootstrap_of_runs([without], [whole], resamples=10) is None


def test_predictions_are_those_the_scores_come_from(grid: RunSet) -> None:
    record = grid[0]
    predictions = read_predictions(record)
    assert predictions is not None and len(predictions.track_ids) == 150 and predictions.classes[0] == "reel"
    for name in METRICS:
        assert METRICS.load(name)(predictions.target, predictions.score).value == record.score(name)
    assert read_predictions(record, "valid") is None


@pytest.mark.parametrize("kind", ["lists", "numbers", "names", "lists of names"])
def test_targets_in_every_form(tmp_path: Path, result: dict[str, Any], kind: str) -> None:
    classes = ["a", "b", "c"]
    target = {
        "lists": pa.array([[1.0, 0, 0], [0, 0, 1.0]]),
        "numbers": pa.array([0, 2]),
        "names": pa.array(["a", "c"]),
        "lists of names": pa.array([["a"], ["c"]]),
    }[kind]
    scores = pa.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    name = "labels" if "names" in kind else "target"
    table = pa.table({"track_id": ["x", "y"], "split": ["test", "test"], name: target, "scores": scores})
    pq.write_table(table, tmp_path / "predictions.parquet")
    record = RunRecord(tmp_path, result | {"classes": classes}, "run")
    predictions = read_predictions(record)
    assert predictions is not None
    assert predictions.score[1, 2] == 0.6 and predictions.positives.tolist() == [1, 0, 1]
    assert predictions.target.tolist() == ([[1, 0, 0], [0, 0, 1]] if "lists" in kind else [0, 2])
    told = read_predictions(RunRecord(tmp_path, result | {"classes": classes, "task": "single_label"}, "run"))
    assert told is not None and told.target.tolist() == [0, 2]


def test_broken_predictions_are_named(tmp_path: Path, result: dict[str, Any]) -> None:
    record = RunRecord(tmp_path, result, "run")
    assert read_predictions(record) is None
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(CorruptFeature, match=r"cannot be read.*predictions\.parquet"):
        read_predictions(record)
    pq.write_table(pa.table({"track_id": ["x"]}), tmp_path / "predictions.parquet")
    with pytest.raises((CorruptFeature, ConfigError), match="no column 'target'"):
        read_predictions(record)


def test_curves_in_every_spelling_and_with_a_torn_last_line(tmp_path: Path, result: dict[str, Any]) -> None:
    lines = [
        json.dumps({"epoch": 0, "train": {"loss": 0.9}, "valid": {"loss": 1.0, "roc_auc": 0.5}}),
        json.dumps({"epoch": 1, "train_loss": 0.8, "valid/loss": 0.9, "valid/roc_auc": float("nan")}),
        '{"epoch": 2, "train": {"lo',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    curves = read_curves(RunRecord(tmp_path, result, "run"))
    assert curves["train.loss"] == [0.9, 0.8] and curves["valid.loss"] == [1.0, 0.9]
    assert curves["valid.roc_auc"] == [0.5, None] and curves["epoch"] == [0, 1]
    assert read_curves(RunRecord(tmp_path / "none", result, "run")) == {}
