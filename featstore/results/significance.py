"""Tests of significance on few repetitions: what can be told apart, and what cannot.

Every comparison states its test, the number of values on both sides and the divisor of the deviations
(n − 1 everywhere). Families of comparisons are corrected by Holm's step-down method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from featstore.errors import check_known
from featstore.plain import plain

__all__ = ["Comparison", "TestName", "as_family", "compare", "compare_stats", "holm", "interval", "mean_and_std"]

TestName = Literal["welch", "independent"]
_TITLES = {"welch": "Welch's t-test", "independent": "independent two-sample t-test (equal variances)"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference of two means, ``a − b``, two-sided.

    Attributes
    ----------
    test : str
        ``welch`` or ``independent``.
    n_a, n_b : int
        Values on both sides.
    mean_a, mean_b, difference : float
        In the metric's unit.
    low, high : float
        Interval of the difference at ``confidence``; NaN when it has none.
    t, df, p : float
        Statistic, degrees of freedom, p-value before any correction; NaN when a side has fewer than two values.
    confidence : float
        Level of the interval, in (0, 1).
    ddof : int
        What is subtracted from n in the deviations: 1.
    p_holm : float
        p after :func:`holm` over the family that the comparison belongs to; NaN where it belongs to none.
    """

    test: str
    n_a: int
    n_b: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    t: float
    df: float
    p: float
    confidence: float = 0.95
    ddof: int = 1
    p_holm: float = math.nan

    @property
    def title(self) -> str:
        """Name of the test in words."""
        return _TITLES[self.test]

    def as_json(self) -> dict[str, Any]:
        """All attributes, with None where a number is not defined."""
        found: dict[str, Any] = plain(self)
        return found

    def __str__(self) -> str:
        if math.isnan(self.p):
            return f"difference {self.difference:+.4f}; not tested: n={self.n_a} and {self.n_b}"
        return (
            f"difference {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}], p={self.p:.3g} "
            f"({self.title}, two-sided, n={self.n_a} and {self.n_b}, ddof={self.ddof}, df={self.df:.2f})"
        )


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n − 1) of ``values``; the deviation of one value is NaN.

    Examples
    --------
    >>> mean_and_std([1.0, 2.0, 3.0]), mean_and_std([4.0])
    ((2.0, 1.0), (4.0, nan))
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        return math.nan, math.nan
    return float(data.mean()), float(data.std(ddof=1)) if len(data) > 1 else math.nan


def interval(mean: float, std: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a mean from Student's t with n − 1 degrees of freedom; NaN for fewer than two values."""
    from scipy.special import stdtrit

    if n < 2 or not math.isfinite(std):
        return math.nan, math.nan
    reach = float(stdtrit(n - 1, (1 + confidence) / 2)) * std / math.sqrt(n)
    return mean - reach, mean + reach


def compare(
    a: Sequence[float],
    b: Sequence[float],
    *,
    test: TestName = "welch",
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Comparison:
    """Test whether the values of ``a`` and ``b`` come from the same mean, two-sided.

    Parameters
    ----------
    a, b : sequence of float
        Scores of independent repetitions (seeds, folds).
    test : str
        ``welch`` allows each side its own variance; ``independent`` pools them, as the resolution study did.
    bounds : tuple of float
        What a score can be: the interval of the difference is clipped accordingly.

    See Also
    --------
    scipy.stats.ttest_ind : The same tests.
    """
    clean = [[float(v) for v in side if math.isfinite(v)] for side in (a, b)]
    stats_a, stats_b = ((*mean_and_std(side), len(side)) for side in clean)
    found = compare_stats(stats_a, stats_b, test=test, confidence=confidence)
    widest = bounds[1] - bounds[0]
    low, high = np.clip([found.low, found.high], -widest, widest).tolist()
    return replace(found, low=low, high=high)


def compare_stats(
    a: tuple[float, float, int], b: tuple[float, float, int], *, test: TestName = "welch", confidence: float = 0.95
) -> Comparison:
    """The same from (mean, deviation with n − 1, n) on both sides, for tables that publish no single values.

    Raises
    ------
    ConfigError
        For an unknown test.
    """
    check_known(test, _TITLES, f"unknown test {test!r}", "report")
    (mean_a, std_a, n_a), (mean_b, std_b, n_b) = a, b
    difference = mean_a - mean_b
    error, df = _error_and_df(std_a, n_a, std_b, n_b, test)
    t, p, reach = _t_p_reach(difference, error, df, confidence)
    return Comparison(
        test, n_a, n_b, mean_a, mean_b, difference, difference - reach, difference + reach, t, df, p, confidence
    )


def _error_and_df(std_a: float, n_a: int, std_b: float, n_b: int, test: str) -> tuple[float, float]:
    """Standard error of the difference, and its degrees of freedom; NaN when a side has fewer than two values."""
    if min(n_a, n_b) < 2:
        return math.nan, math.nan
    if test == "independent":
        df = n_a + n_b - 2
        pooled = ((n_a - 1) * std_a**2 + (n_b - 1) * std_b**2) / df
        return math.sqrt(pooled * (1 / n_a + 1 / n_b)), float(df)
    va, vb = std_a**2 / n_a, std_b**2 / n_b
    if va + vb == 0:
        return 0.0, float(n_a + n_b - 2)
    return math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / (n_a - 1) + vb**2 / (n_b - 1))


def _t_p_reach(difference: float, error: float, df: float, confidence: float) -> tuple[float, float, float]:
    """Statistic, two-sided p, and half the width of the interval."""
    from scipy.special import stdtr, stdtrit

    if not math.isfinite(error) or not math.isfinite(difference):
        return math.nan, math.nan, math.nan
    if error == 0:  # both sides without any spread: equal, or different beyond doubt
        return (0.0, 1.0, 0.0) if difference == 0 else (math.copysign(math.inf, difference), 0.0, 0.0)
    t = difference / error
    return t, float(2 * stdtr(df, -abs(t))), float(stdtrit(df, (1 + confidence) / 2)) * error


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust a family of p-values by Holm's step-down method; NaN stays NaN and does not count.

    Examples
    --------
    >>> [round(p, 10) for p in holm([0.01, 0.04, 0.03, float("nan")])]
    [0.03, 0.06, 0.06, nan]
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    stepped = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0) if len(order) else stepped
    return [float(value) for value in adjusted]


def as_family(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons with ``p_holm`` over all of them."""
    family = list(comparisons)
    return [replace(each, p_holm=p) for each, p in zip(family, holm([each.p for each in family]), strict=True)]
