"""Rows that were stopped while they still learned: marked by their validation curves, and on no front."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from featstore.results import RunSet, mark_undertrained, pareto, read_results, summarise, write_html, write_result
from featstore.results.figure_pareto import draw_pareto
from featstore.results.fronts import front_of
from featstore.results.sentences import answer_sentences
from featstore.results.undertrained import late_gain
from featstore_cli.report import report
from tests.results.chromium import PROGRAM, Browser

FLAT, RISING = (0.6, 0.8, 0.9, 0.904), (0.5, 0.6, 0.7, 0.8)
POINT = 0.01


@pytest.fixture
def runs(tmp_path: Path, result: dict[str, Any]) -> RunSet:
    """Three sizes with three seeds; the middle one scores best and still learned when it was stopped."""
    grid = {8: (0.86, FLAT), 48: (0.92, RISING), 96: (0.90, FLAT)}
    for mels, (score, curve) in grid.items():
        for seed in range(3):
            own = {
                "seed": seed,
                "feature": f"mel(n_mels={mels},scale=db)@float32",
                "scores": {"test": {"roc_auc": score + 0.001 * seed}},
                "bytes": {"alone": mels * 100, "added": 0, "audio": 10**6},
            }
            folder = tmp_path / "runs" / f"{mels}-{seed}"
            write_result(folder, result | own)
            lines = [json.dumps({"epoch": epoch, "valid": {"roc_auc": value}}) for epoch, value in enumerate(curve)]
            (folder / "metrics.jsonl").write_text("\n".join(lines))
    return read_results(tmp_path / "runs")


def test_the_gain_of_the_last_quarter_by_hand() -> None:
    assert late_gain([0.1, 0.5, 0.6, 0.7, 0.8, 0.75, 0.85, 0.82]) == pytest.approx(0.05)  # 0.85 over the first six
    assert late_gain([0.8, 0.9, 0.85, 0.7]) == 0.0
    assert late_gain([None, 0.5, None, 0.7]) == pytest.approx(0.2)  # validated every other epoch
    assert late_gain([0.9, 0.5, 0.4, 0.1], lower=True) == pytest.approx(0.3)
    assert late_gain([0.5, 0.9]) == pytest.approx(0.4)
    for blind in ([], [0.7], [None, None, None, 0.7]):
        assert late_gain(blind) != late_gain(blind), "nothing early to compare with"


def test_a_row_that_still_learned_is_marked_and_on_no_front(runs: RunSet) -> None:
    free = pareto(summarise(runs), margin=0.03)
    assert free.frame["on_front"].tolist() == [True, True, False]
    assert free.frame["n_mels"][free.answer] == 48
    front = pareto(mark_undertrained(summarise(runs), runs, "roc_auc", POINT), runs=runs, margin=0.03)
    frame = front.frame
    assert frame["n_mels"].tolist() == [8, 48, 96]
    assert frame["undertrained"].tolist() == [False, True, False]
    assert frame["late_gain"].tolist() == pytest.approx([0.004, 0.1, 0.004])
    assert frame["label"].str.endswith("(undertrained)").tolist() == [False, True, False]
    assert frame["on_front"].tolist() == [True, False, True]
    assert frame["guaranteed"].tolist() == [True, False, True]
    assert frame["n_mels"][front.answer] == 96, "the cheapest of the others"
    assert frame["loss"].tolist() == pytest.approx(free.frame["loss"].tolist()), "compared like all others"
    assert not any("undertrained" in sentence for sentence in answer_sentences(front)[:1])


def test_without_a_bound_or_a_curve_nothing_is_marked(runs: RunSet) -> None:
    summary = summarise(runs)
    assert mark_undertrained(summary, runs, "roc_auc", None) is summary
    for record in runs:
        (record.path / "metrics.jsonl").unlink()
    marked = mark_undertrained(summary, runs, "roc_auc", POINT)
    assert marked["late_gain"].isna().all() and not marked["undertrained"].any()
    assert marked["label"].tolist() == summary["label"].tolist()


def test_rows_are_marked_in_any_order_and_where_they_repeat(runs: RunSet) -> None:
    summary = summarise(runs)
    for rows in (summary.iloc[::-1], summary.sort_values("bytes_alone"), pd.concat([summary, summary])):
        marked = mark_undertrained(rows, runs, "roc_auc", POINT)
        assert marked["undertrained"].tolist() == [n_mels == 48 for n_mels in rows["n_mels"]]
        assert [label.endswith(" (undertrained)") for label in marked["label"]] == marked["undertrained"].tolist()


def test_rows_that_are_left_out_dominate_nothing() -> None:
    points = [[1, 5], [2, 3], [3, 4], [4, 1]]
    assert front_of(points, front_of(points)).tolist() == [True, True, False, True]
    assert front_of(points, np.array([True, False, True, True])).tolist() == [True, False, True, True]


def test_the_command_takes_the_bound(runs: RunSet) -> None:
    folder = str(runs[0].path.parent)
    asked = ["pareto", folder, "--margin", "0.03", "--late-gain", "0.01", "--json"]
    told = json.loads(CliRunner().invoke(report, asked).stdout)
    assert [row["undertrained"] for row in told["rows"]] == [False, True, False]
    assert told["rows"][told["answer"]]["n_mels"] == 96


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_leaves_them_off_its_fronts(runs: RunSet, tmp_path: Path) -> None:
    file = write_html(runs, tmp_path / "page.html", margin=0.03, late_gain=POINT)
    with Browser(tmp_path / "profile") as page:
        page.open(file)
        heads = page.run("[...document.querySelectorAll('#table thead button')].map(b => b.dataset.key)")
        cells = page.run(
            "[...document.querySelectorAll('#table tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
        )
        fronts = {row[0]: row[heads.index("front")] for row in cells}
        marked = [name for name in fronts if name.endswith("(undertrained)")]
        assert len(fronts) == 3 and len(marked) == 1
        assert fronts.pop(marked[0]) == "" and set(fronts.values()) == {"measured and guaranteed"}
        assert "96" in page.run("document.querySelector('#answer').textContent").partition("≤")[0]


def test_the_figure_draws_them_as_crosses(runs: RunSet) -> None:
    front = pareto(mark_undertrained(summarise(runs), runs, "roc_auc", POINT), runs=runs, margin=0.03)
    axes = draw_pareto(front).axes[0]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [line.get_xdata().tolist() for line in crosses] == [[4800.0]]
