"""The benchmark of reports with few runs, and the promise on 5,000."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("duckdb")
pytest.importorskip("matplotlib")

from featstore.results import read_results
from tests.bench.bench_reports import measure, write_folders


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    assert write_folders(tmp_path / "runs", 30) == 30
    told = measure(tmp_path / "runs")
    assert {"read", "summarise", "pareto", "query", "html"} <= set(told["seconds"])
    assert all(seconds > 0 for seconds in told["seconds"].values()) and told["page_bytes"] > 50_000


@pytest.mark.slow
def test_five_thousand_runs_are_read_in_five_seconds(tmp_path: Path) -> None:
    assert write_folders(tmp_path, 5000) == 5001
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "result.json").write_text('{"model"')
    start = time.process_time()  # by the clock, a busy machine would decide
    runs = read_results(tmp_path)
    seconds = time.process_time() - start
    assert len(runs) == 5001 and len(runs.skipped) == 1 and seconds < 5
