"""Tests of significance against scipy, numbers by hand, and the study's own published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from featstore.errors import ConfigError
from featstore.results import compare, compare_stats, holm, read_reference

SCORES = st.lists(st.floats(0.5, 0.99), min_size=2, max_size=8)


@given(SCORES, SCORES, st.sampled_from(["welch", "independent"]))
def test_p_and_interval_equal_those_of_scipy(a: list[float], b: list[float], test: str) -> None:
    if np.std(a) + np.std(b) < 1e-6:
        return
    ours = compare(a, b, test=test)
    theirs = stats.ttest_ind(a, b, equal_var=test == "independent")
    interval = theirs.confidence_interval(0.95)
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-9)
    assert (ours.t, ours.df) == pytest.approx((theirs.statistic, theirs.df), rel=1e-6)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert (ours.n_a, ours.n_b, ours.ddof) == (len(a), len(b), 1)


def test_by_hand() -> None:
    # both sides: variance 1, n 3; standard error sqrt(2/3), t = 2 / 0.816497 = 2.449490, df = 4; its p is 0.070484
    result = compare([3, 4, 5], [1, 2, 3])
    assert (result.difference, result.t, result.df) == pytest.approx((2.0, 2.449490, 4.0), abs=1e-6)
    assert result.p == pytest.approx(0.070484, abs=1e-6)
    assert "Welch's t-test, two-sided, n=3 and 3, ddof=1, df=4.00" in str(result)


def test_too_few_values_are_not_tested() -> None:
    result = compare([0.9], [0.8, 0.7, 0.75])
    assert math.isnan(result.p) and result.difference == pytest.approx(0.15)
    assert "not tested: n=1 and 3" in str(result)
    assert result.as_json()["p"] is None


def test_values_without_any_spread() -> None:
    assert compare([1, 1, 1], [1, 1]).p == 1.0
    assert compare([1, 1, 1], [2, 2]).p == 0.0


def test_undefined_scores_are_left_out() -> None:
    assert compare([0.5, float("nan"), 0.7], [0.4, 0.5]).n_a == 2


def test_an_unknown_test_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown test 'wilcoxon'"):
        compare([1, 2], [3, 4], test="wilcoxon")  # type: ignore[arg-type]


def test_holm_by_hand() -> None:
    # sorted: 0.005*4, 0.01*3, 0.03*2, 0.04*1 -> 0.02, 0.03, 0.06, then 0.06 because it may not fall
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_order_and_never_lowers_a_p(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(after >= before for before, after in zip(p, adjusted, strict=True))
    assert np.argsort(p, kind="stable").tolist() == sorted(range(len(p)), key=lambda i: (adjusted[i], p[i], i))
    assert [a < 0.05 for a in adjusted] == _rejections(p)


def _rejections(p: list[float]) -> list[bool]:
    """Holm's procedure as its author puts it: step down until one is not below alpha / (k left)."""
    rejected = [False] * len(p)
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] * (len(p) - rank) >= 0.05:
            break
        rejected[i] = True
    return rejected


def test_the_study_s_own_numbers_tell_two_of_sixteen_apart() -> None:
    """48 against 96 mels from published means and deviations, n = 3: the paper says all have P > 0.08, two have not."""
    rows = read_reference("ferraro2020")
    rows = rows[(rows["dataset"] == "MTAT") & (rows["model"] == "vgg-cnn")].set_index(
        ["metric", "sample_rate", "scale", "hop_multiple", "n_mels"]
    )
    below = {}
    for key in {index[:4] for index in rows.index}:
        sides = [rows.loc[(*key, mels)] for mels in (48, 96)]
        a, b = [(float(side["value"]), float(side["spread"]), int(side["n"])) for side in sides]
        for test in ("welch", "independent"):
            result = compare_stats(a, b, test=test)
            expected = stats.ttest_ind_from_stats(*a, *b, equal_var=test == "independent").pvalue
            assert result.p == pytest.approx(expected, abs=1e-12)
            below.setdefault(key, []).append(result.p < 0.05)
    assert len(below) == 16
    assert sorted(key for key, found in below.items() if all(found)) == [
        ("roc_auc", 12000, "log10_1p", 2),
        ("roc_auc", 16000, "log10_1p", 1),
    ]
    assert not any(any(found) for key, found in below.items() if key[0] == "pr_auc")
