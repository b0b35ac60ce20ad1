"""A metric is one class and one line of the registry: everything else finds its name, title and direction there."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featstore.metrics import METRICS, Metric, bounds_of, is_better, lower_is_better, one_hot, title_of
from featstore.results import RunSet, diff_runs, minimise, pareto, query, read_results, summarise, write_html
from featstore.results.figures import draw
from featstore.results.page_data import page_data
from featstore.results.tables import format_table
from featstore.testing.runs import mel_grid, write_runs
from featstore.training.labels import SplitTracks
from featstore.training.scoring import Predictions, intervals_of, per_class_of


class BrierScore(Metric):
    """Mean squared distance of probabilities from the truth."""

    name, title, higher_is_better = "brier", "Brier score", False
    class_title = "squared error"

    def per_class(self, targets: Any, scores: Any, weights: Any) -> Any:
        """Of each class."""
        error = (scores - one_hot(targets, scores.shape[1])) ** 2
        return weights @ error / weights.sum(axis=1)[:, None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    module = types.ModuleType("made_up_metric")
    module.BRIER = BrierScore()
    sys.modules["made_up_metric"] = module
    METRICS["brier"] = "made_up_metric:BRIER"
    root = tmp_path_factory.mktemp("brier")
    write_runs(root, mel_grid(n_mels=[96, 48, 8]), predictions=60)
    yield read_results(root)
    del METRICS["brier"], sys.modules["made_up_metric"]


def test_direction_title_and_bounds(runs: RunSet) -> None:
    assert lower_is_better("brier") and title_of("brier") == "Brier score" and bounds_of("brier") == (0, 1)
    assert is_better("brier", 0.1, 0.2) and not is_better("brier", 0.2, 0.1)


def test_tables_and_fronts_minimise_it(runs: RunSet) -> None:
    summary = summarise(runs, metrics=["brier"])
    means = summary["brier_mean"].tolist()
    assert means == sorted(means) and means[0] < means[-1]
    assert "Brier score" in format_table(summary)
    front = pareto(summarise(runs), y="brier")
    assert front.frame["brier_mean"][front.best] == min(means)
    cheapest = front.frame["bytes_alone"].argmin()
    assert front.frame["on_front"][cheapest] and (front.frame["loss"] >= 0).all()
    found = minimise(summarise(runs), "bytes", metric="brier", at_least={"brier": means[1] + 1e-9})
    assert len(found.frame) == 2
    assert "test.brier" in diff_runs(runs[:3], runs[3:6], resamples=5).scores


@pytest.mark.slow
def test_page_sql_and_figures_know_it(runs: RunSet, tmp_path: Path) -> None:
    data = page_data(runs, title="t", details=10)
    assert {"name": "brier", "title": "Brier score", "lower": True, "range": [0.0, 1.0]} in data["metrics"]
    assert data["classTitles"]["brier"] == "squared error"
    told = data["bounds"]["brier"]
    best = data["configurations"]["brier.mean"].index(min(data["configurations"]["brier.mean"]))
    assert told["standing"][best] == "may be the best" and min(told["loss"]) == told["loss"][best] == 0
    write_html(runs, tmp_path / "page.html")
    best = query(runs, "SELECT n_mels, avg(brier) AS mean FROM runs GROUP BY ALL ORDER BY mean LIMIT 1")
    assert best["mean"][0] == pytest.approx(summarise(runs)["brier_mean"].min())
    classes = query(runs, "SELECT avg(value) AS v FROM class_scores WHERE metric = 'brier'")["v"][0]
    assert classes == pytest.approx(np.mean([record.score("brier") for record in runs]))
    for kind in ("pareto", "classes", "bytes", "figure1"):
        assert draw(runs, kind, [tmp_path / f"{kind}.svg"], metric="brier")[0].stat().st_size > 1000


def test_training_scores_it_by_track_class_and_resample(runs: RunSet) -> None:
    rng = np.random.default_rng(0)
    tracks = SplitTracks([str(i) for i in range(30)], rng.integers(0, 2, (30, 2)).astype(np.float32), ["g"] * 30)
    part = Predictions("test", tracks, rng.random((30, 2)).astype(np.float32), 0.5, 30, 1.0)
    expected = float(((part.scores - tracks.targets) ** 2).mean())
    assert part.values["brier"] == pytest.approx(expected, rel=1e-6)
    assert np.mean(
        [row["brier"] for row in per_class_of(part.tracks.targets, part.scores, ["a", "b"]).values()]
    ) == pytest.approx(expected)
    assert intervals_of(part, n_resamples=3, seed=0)["brier"] == pytest.approx([expected] * 2, rel=1e-6)
