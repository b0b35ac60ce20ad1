"""Rows whose training was stopped too early: their validation curves still rise at the end.

Such a row says what a budget of training gives, not what its representation can give, so it is on no front. The rule
reads validation scores only. A schedule whose rate falls to zero flattens any curve: a row that is not marked has used
up its schedule, which is no proof that a longer one would not help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featstore.metrics import lower_is_better
from featstore.results.details import read_curves

if TYPE_CHECKING:
    import pandas as pd

    from featstore.results.run_set import RunSet

__all__ = ["late_gain", "mark_undertrained"]

_EARLY = 0.75  # share of the epochs whose best score the rest is compared with


def late_gain(curve: Sequence[float | None], *, lower: bool = False) -> float:
    """How much the best validation score gained in the last quarter of a run's epochs.

    Parameters
    ----------
    curve : sequence of float or None
        A score for each epoch; None where nothing was validated.
    lower : bool
        Whether less is better.

    Returns
    -------
    float >= 0
        NaN where the first three quarters have no score.

    Examples
    --------
    >>> late_gain([0.5, 0.7, 0.8, 0.83]), late_gain([0.5, 0.7, 0.8, 0.79])
    (0.03, 0.0)
    >>> late_gain([0.8])
    nan
    """
    early = [value for epoch, value in enumerate(curve, 1) if value is not None and epoch <= _EARLY * len(curve)]
    known = [value for value in curve if value is not None]
    if not early:
        return float("nan")
    gained = min(early) - min(known) if lower else max(known) - max(early)
    return round(gained, 12)


def mark_undertrained(summary: pd.DataFrame, runs: RunSet, metric: str, most: float | None) -> pd.DataFrame:
    """Mark the rows whose validation scores gained more than ``most`` in the last quarter of their training.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``.
    runs : RunSet
        The runs behind it: their curves are read.
    metric : str
        As a quantity of the curves: ``valid.<metric>``.
    most : float or None
        Gain that is still called flat, on the scale of the metric: the mean over a row's runs. None marks nothing.

    Returns
    -------
    DataFrame
        With ``late_gain`` (NaN where no run has a curve, as of models that are fitted in closed form) and
        ``undertrained``; labels of marked rows say so. ``pareto`` puts these rows on no front.
    """
    if most is None:
        return summary
    records, lower = {record.run_id: record for record in runs}, lower_is_better(metric)

    def gain(run: str) -> float:
        return late_gain(read_curves(records[run]).get(f"valid.{metric}", []), lower=lower)

    known = [[value for value in map(gain, ids) if not np.isnan(value)] for ids in summary["run_ids"]]
    gains = np.array([np.mean(values) if values else np.nan for values in known], dtype=float)
    marked = gains > most  # of NaN: no
    labels = [
        f"{label} (undertrained)" if mark else label for label, mark in zip(summary["label"], marked, strict=True)
    ]
    return summary.assign(label=labels, late_gain=gains, undertrained=marked)
