"""The resolution study's own test: every configuration against the best mean by a t-test, as its tables have it.

A paper's page repeats what the paper did. What to keep is answered by bounds (``fronts.pareto``): a test that finds no
difference is no evidence that there is none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.metrics import bounds_of, lower_is_better
from featstore.plain import is_missing
from featstore.results.significance import TestName, as_family, compare
from featstore.units import format_span

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["judged", "verdict"]


def judged(
    frame: pd.DataFrame, y: str, *, test: TestName = "welch", alpha: float = 0.05
) -> tuple[pd.DataFrame, int, str]:
    """Compare every row of a summary with the one that has the best mean, by Holm over these comparisons.

    Returns
    -------
    frame : DataFrame
        The rows with ``difference`` (to the best), ``difference_low``, ``difference_high``, ``p``, ``p_holm``,
        ``told_apart`` (by ``p_holm``: True, False, or None where it cannot be tested because a side has fewer than
        two values) and ``in_doubt`` (not told apart, but only because of the correction).
    best : int
        Place of the best row; of equals the first.
    statement : str
        Which test, on how many values, with which correction.
    """
    means, values = frame[f"{y}_mean"].to_numpy(dtype=float), frame[f"{y}_values"].tolist()
    best = int(np.nanargmin(means) if lower_is_better(y) else np.nanargmax(means))
    results = [compare(each, values[best], test=test, bounds=bounds_of(y)) for each in values]
    results[best] = replace(results[best], p=float("nan"))
    results = as_family(results)
    p, p_holm = ([getattr(result, name) for result in results] for name in ("p", "p_holm"))
    apart = [False if row == best else None if np.isnan(v) else v < alpha for row, v in enumerate(p_holm)]
    compared = frame.assign(
        difference=[result.difference for result in results],
        difference_low=[result.low for result in results],
        difference_high=[result.high for result in results],
        p=p,
        p_holm=p_holm,
        told_apart=np.array(apart, dtype=object),
        in_doubt=[each is False and row != best and p[row] < alpha for row, each in enumerate(apart)],
    )
    counts, over = [int(n) for n in frame[f"{y}_n"]], str(frame["over"].iloc[best])
    return compared, best, _statement(test, int(np.sum(~np.isnan(p))), alpha, counts, best, over)


def verdict(row: Any) -> str:
    """What a test says, in words: of rows with ``told_apart`` and ``in_doubt``.

    Examples
    --------
    >>> verdict({"told_apart": True, "in_doubt": False}), verdict({"told_apart": None, "in_doubt": False})
    ('differs', 'not tested')
    """
    if row["told_apart"] is None or is_missing(row["told_apart"]):
        return "not tested"
    if row["told_apart"]:
        return "differs"
    return "in doubt" if row["in_doubt"] else "not told apart"


def _statement(test: str, comparisons: int, alpha: float, counts: list[int], best: int, over: str) -> str:
    """The sentence that makes the marks of a figure mean something."""
    if not comparisons:
        alone = counts[best] < 2 and max(counts) > 1
        who = "the best has n = 1" if alone else f"n = {format_span(counts)} per configuration"
        return f"Not tested: {who}; a test needs at least 2 (3 seeds are advised)."
    title = {"welch": "Welch's t-test", "independent": "independent two-sample t-test with equal variances"}[test]
    return (
        f"{title} against the best, two-sided, on n = {format_span(counts)} {over}s per configuration (ddof = 1), "
        f"Holm's correction over {comparisons} comparisons, alpha = {alpha:g}; in doubt: differs without the "
        "correction. "
        "Not told apart does not mean equal: with few runs only large differences show."
    )
