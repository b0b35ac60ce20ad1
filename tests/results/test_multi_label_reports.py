"""Reports of multi-label runs: the bootstrap uses the metric that the result has; SQL reads lists of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from featstore.metrics import METRICS
from featstore.results import RunSet, diff_runs, pareto, query, read_predictions, read_results, summarise
from featstore.results.bootstrap import paired_bootstrap
from featstore.results.sql import view_frame
from featstore.results.tables import format_rows, format_table
from featstore.testing.runs import mel_grid, write_runs
from featstore_cli.report import report


@pytest.fixture(scope="module", params=["multi_label", "single_label"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    root = tmp_path_factory.mktemp(request.param)
    write_runs(root, mel_grid(n_mels=[96, 8]), predictions=80, task=request.param)
    return read_results(root)


@pytest.mark.parametrize("metric", list(METRICS))
def test_the_bootstrap_measures_the_difference_that_the_table_shows(runs: RunSet, metric: str) -> None:
    sides = [runs.select(lambda record, n=n: f"n_mels={n}" in record.feature) for n in (96, 8)]
    diff = diff_runs(*sides, resamples=60)
    result = diff.bootstrap[metric]
    assert result.low <= result.difference <= result.high and result.low < result.high
    assert result.difference == pytest.approx(diff.scores[f"test.{metric}"].difference, abs=1e-12)


def test_predictions_of_other_tasks_are_scored_as_their_task(runs: RunSet) -> None:
    predictions = read_predictions(runs[0])
    assert predictions is not None
    assert predictions.target.ndim == (1 if runs[0].result["task"] == "single_label" else 2)
    found = paired_bootstrap([predictions], [predictions], "accuracy", resamples=10)
    assert found.difference == found.low == found.high == 0


def test_intervals_stay_where_the_metric_can_be(tmp_path: Path) -> None:
    write_runs(tmp_path, mel_grid(n_mels=[96, 8]), seeds=2, spread=0.2)
    summary = summarise(read_results(tmp_path))
    for metric in ("roc_auc", "pr_auc", "loss"):
        assert (summary[f"{metric}_low"] >= 0).all()
        assert metric == "loss" or (summary[f"{metric}_high"] <= 1).all()
    assert (summary["roc_auc_high"] == 1).any(), "without clipping it would be above 1"
    front = pareto(summary).frame
    assert (front["loss_most"] <= 1).all() and (front["loss_least"] >= 0).all()


def test_sql_reads_lists_of_labels(monkeypatch: pytest.MonkeyPatch, plain: RunSet) -> None:
    import pandas as pd

    from featstore.results import sql

    labels = [np.array(["jig", "reel"], dtype=object), ["air"], None]
    tracks = pd.DataFrame({"track_id": ["a", "b", "c"], "labels": labels, "status": "ok"})
    monkeypatch.setitem(sql.VIEWS, "tracks", lambda runs: tracks)
    assert query(plain, "SELECT count(*) AS n FROM tracks")["n"][0] == 3
    assert query(plain, "SELECT track_id FROM tracks WHERE list_contains(labels, 'reel')")["track_id"].tolist() == ["a"]
    assert "roc_auc" in query(plain, "DESCRIBE runs")["column_name"].tolist()
    recommended = "SELECT column_name FROM information_schema.columns WHERE table_name = 'runs'"
    assert "bytes_alone" in query(plain, recommended)["column_name"].tolist()
    assert view_frame(plain, "tracks")["labels"].tolist() == [["jig", "reel"], ["air"], None]


@pytest.mark.parametrize("style", ["text", "csv", "json", "markdown", "latex"])
def test_lists_in_a_result_are_printed(runs: RunSet, style: str) -> None:
    folder = str(runs[0].path.parent.parent)
    sql = "SELECT list(seed ORDER BY seed) AS seeds FROM runs GROUP BY n_mels"
    shown = CliRunner().invoke(report, ["query", folder, "--sql", sql, "--format", style])
    assert shown.exit_code == 0, shown.output
    assert "0, 1, 2" in shown.output.replace("\n", "").replace("  ", "").replace("0,1,2", "0, 1, 2")


def test_cells_that_a_spreadsheet_would_run_are_quoted(runs: RunSet) -> None:
    rows = format_rows(["=name", "n"], [["=1+1", "-3"], ["@x", "+4.5"], ["-x", "−1"]], "csv")
    assert rows.splitlines() == ["'=name,n", "'=1+1,-3", "'@x,+4.5", "'-x,−1"]
    summary = summarise(runs).assign(label=["=HYPERLINK(1)", "fine"])
    text = format_table(summary, "csv")
    assert "'=HYPERLINK(1)" in text and ",=HYPERLINK" not in text
