"""How far a score could move if other tracks had been drawn: percentile intervals of the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError
from featstore.metrics.base import Metric, check_scores

__all__ = ["Interval", "bootstrap_interval"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a score at a level of confidence, and the number of resamples they rest on."""

    low: float
    high: float
    level: float
    n_resamples: int


def bootstrap_interval(
    metric: Metric,
    targets: NDArray[Any],
    scores: NDArray[Any],
    *,
    n_resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    groups: NDArray[Any] | None = None,
) -> Interval:
    """Percentile interval of a metric over tracks drawn with replacement.

    Parameters
    ----------
    metric : Metric
    targets, scores : array
        As the metric takes them.
    n_resamples : int > 0
    level : float in (0, 1)
    seed : int
        Same seed, same interval.
    groups : array (n,), optional
        Tracks of one group (artist, work) are drawn together: they are not independent.

    Returns
    -------
    Interval
        NaN bounds when no resample had a value. Classes that a resample cannot score are left out of that resample.
    """
    targets, scores = np.asarray(targets), np.asarray(scores)
    check_scores(targets, scores)
    if not 0 < level < 1 or n_resamples < 1:
        raise ConfigError(
            f"level={level}, n_resamples={n_resamples} give no interval", "bootstrap", "0 < level < 1 <= n"
        )
    rng = np.random.default_rng(seed)
    if groups is None:
        groups = np.arange(len(targets))
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])
    values = []
    for _ in range(n_resamples):
        drawn = rng.integers(0, len(members), size=len(members))
        rows = np.concatenate([members[i] for i in drawn])
        values.append(metric.function(targets[rows], scores[rows]).value)
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return Interval(float("nan"), float("nan"), level, n_resamples)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, n_resamples)
