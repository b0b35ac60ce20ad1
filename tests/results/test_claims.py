"""Claims beside measurements: what an interval says of a threshold, and where nothing can be said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from featstore.errors import ConfigError
from featstore.results import RunSet, summarise
from featstore.results.bounds import Study
from featstore.results.claims import check_claim, claim_table, judge_claims
from featstore.results.contrasts import contrast
from featstore.results.paper_page import check_report, write_page

EXACT = ["hop_multiple=1", "encoding=float32"]
WIDE, NARROW = [*EXACT, "n_mels=96"], [*EXACT, "n_mels=8"]


def claim(a: list[str], b: list[str], **asked: float | str) -> dict:
    return {"claim": "A beats B", "paper": "ferraro2020", "where_a": a, "where_b": b, **asked}


@pytest.mark.slow
def test_an_interval_decides_or_does_not(grid: RunSet) -> None:
    """8 bands lose about 4 points of PR AUC, and 2 of ROC AUC, which 150 test tracks do not prove."""
    specs = [
        claim(WIDE, NARROW, at_least=0),
        claim(NARROW, WIDE, at_least=0),
        claim(WIDE, NARROW, at_least=0.5),
        claim(WIDE, NARROW, at_most=0.5),
        claim(WIDE, NARROW, at_most=0),
        claim(WIDE, NARROW, at_least=0, metric="roc_auc"),
    ]
    found = judge_claims(grid, specs, metric="pr_auc")
    expected = ["holds", "does not hold", "does not hold", "holds", "does not hold", "cannot be said"]
    assert [each.verdict for each in found] == expected
    means = summarise(grid).query("hop_multiple == 1 and encoding == 'float32'").set_index("n_mels")["pr_auc_mean"]
    first = found[0]
    assert first.difference == pytest.approx(means[96] - means[8]) and first.low < first.difference < first.high
    assert (found[1].low, found[1].high) == pytest.approx((-first.high, -first.low))
    assert (first.n_a, first.n_b, first.reason) == (3, 3, "") and len(first.run_ids) == 6
    assert found[5].low < 0 < found[5].difference


def test_lower_may_be_better(grid: RunSet) -> None:
    """The difference keeps the metric's own sign."""
    [found] = judge_claims(grid, [claim(WIDE, NARROW, metric="loss", at_most=0)], metric="roc_auc")
    assert found.low < found.difference < found.high < 0 and found.verdict == "holds"


def test_where_nothing_can_be_said(grid: RunSet, plain: RunSet) -> None:
    one = grid.select(lambda record: record.result["seed"] == 0)
    [single] = judge_claims(one, [claim(WIDE, NARROW, at_least=0)], metric="roc_auc")
    assert single.verdict == "cannot be said" and single.difference > 0 and "one seed" in single.reason
    specs = [
        claim(WIDE, ["n_mels=20"], at_least=0),
        claim(WIDE, ["codec=encodec"], at_least=0),
        claim(WIDE, WIDE, at_least=0),
    ]
    found = judge_claims(grid, specs, metric="roc_auc")
    assert {each.verdict for each in found} == {"cannot be said"}
    reasons = ("B was not run", "no column 'codec'", "on both sides")
    for each, reason in zip(found, reasons, strict=True):
        assert reason in each.reason and np.isnan(each.difference)
    [other] = judge_claims(plain, [claim(WIDE, NARROW, metric="accuracy", at_least=0)], metric="roc_auc")
    assert other.verdict == "cannot be said" and other.reason == "no run has accuracy"
    [nothing] = judge_claims(RunSet(), [claim(WIDE, NARROW, at_least=0)], metric="roc_auc")
    assert nothing.reason == "no run has ROC AUC"


def test_a_side_of_several_configurations_counts_their_mean(grid: RunSet) -> None:
    [found] = judge_claims(grid, [claim(["n_mels=96"], ["n_mels=8"], at_least=0)], metric="roc_auc")
    means = summarise(grid).groupby("n_mels")["roc_auc_mean"].mean()
    assert found.difference == pytest.approx(means[96] - means[8])
    assert (found.configurations_a, found.n_a) == (4, 12)
    assert "of 4 and 4 configurations" in claim_table([found]).rows[0][3]


def test_without_predictions_the_interval_says_what_it_leaves_out(plain: RunSet) -> None:
    [found] = judge_claims(plain, [claim(WIDE, NARROW, at_least=0)], metric="roc_auc")
    assert found.verdict == "holds" and "without the noise of the test tracks" in found.reason


def test_two_groups_of_one_variance_have_the_interval_of_student() -> None:
    a, b = np.array([0.81, 0.80, 0.83, 0.82]), np.array([0.78, 0.80, 0.77, 0.79])
    study = Study(np.array([a.mean(), b.mean()]), np.array([a.var(ddof=1), b.var(ddof=1)]), np.array([4, 4]))
    found = contrast(study, np.array([1.0, -1.0]), draws=200_000)
    student = stats.ttest_ind(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=2e-4)


def test_intervals_hold_the_true_difference() -> None:
    """Of 400 studies with seeds of unequal noise and shared test tracks, at least 92 % of the intervals."""
    rng, truth, deviations = np.random.default_rng(0), np.array([0.8, 0.79, 0.78, 0.8]), np.array([4, 8, 6, 5]) / 1000
    covariance = 0.006**2 * (0.8 + 0.2 * np.eye(4))
    held = 0
    for number in range(400):
        shift = rng.multivariate_normal(np.zeros(4), covariance)
        seen = truth + shift + deviations * rng.standard_normal((3, 4))
        study = Study(seen.mean(axis=0), seen.var(axis=0, ddof=1), np.full(4, 3), covariance, 100)
        found = contrast(study, np.array([1.0, 0, -1.0, 0]), draws=400, seed=number)
        held += found.low <= truth[0] - truth[2] <= found.high
    assert held >= 0.92 * 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at_least": None}, "one number, at_least or at_most"),
        ({"at_most": 0}, "one number, at_least or at_most"),
        ({"where_a": []}, "the claim has no where_a"),
        ({"where_b": "n_mels"}, "is no condition"),
        ({"paper": "ferraro"}, "unknown paper 'ferraro'"),
        ({"metric": "auc"}, "unknown metric 'auc'"),
        ({"holds": True}, "unknown key 'holds'"),
        ({"claim": ""}, "a claim needs its words"),
    ],
)
def test_faulty_claims_are_refused_before_any_work(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_claim(claim(WIDE, NARROW, at_least=0) | change, "x")
    with pytest.raises(ConfigError, match=message):
        check_report({"claims": [claim(WIDE, NARROW, at_least=0) | change]})


def test_the_page_has_the_table_with_its_runs(grid: RunSet, tmp_path: Path) -> None:
    files = write_page(grid, tmp_path, {"metric": "pr_auc", "claims": [claim(WIDE, NARROW, at_least=0)]})
    assert {"claims.md", "claims.json"} <= {path.name for path in files}
    [kept] = json.loads((tmp_path / "claims.json").read_text())
    text, page = (tmp_path / "claims.md").read_text(), (tmp_path / "page.html").read_text()
    measured = (
        f"{100 * kept['difference']:+.2f} points [{100 * kept['low']:+.2f}, {100 * kept['high']:+.2f}]; 3 and 3 runs"
    )
    assert f"| A beats B | ferraro2020 | PR AUC above 0 points | {measured} | holds |" in text
    assert measured in page and kept["run_ids"][0] in page
