"""How far a score could move if other tracks had been drawn: scores of resampled tracks, and their intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError
from featstore.metrics.base import FloatArray, Metric

__all__ = ["Interval", "bootstrap_interval", "bootstrap_values"]

_BLOCK = 50  # resamples at a time: bounds memory, and stays in the cache


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a score at a level of confidence, and the number of resamples they rest on.

    See Also
    --------
    bootstrap_values : The resampled scores.
    """

    low: float
    high: float
    level: float
    n_resamples: int


def bootstrap_values(
    metric: Metric,
    targets: NDArray[Any],
    scores: NDArray[Any],
    *,
    n_resamples: int,
    seed: int = 0,
    groups: NDArray[Any] | None = None,
) -> FloatArray:
    """Scores of tracks drawn with replacement.

    Every resample averages over the same classes: one whose value a resample does not determine, because it drew none
    of its tracks, counts with its value on all tracks. Without that rule a class that is hard and rare would raise the
    score whenever it is not drawn. The same holds for the score of a resample that drew no positive track at all.

    Parameters
    ----------
    metric : Metric
    targets, scores : array
        As the metric takes them.
    n_resamples : int > 0
    seed : int
        The same seed and number of groups draw the same resamples, for every metric and model.
    groups : array (n,), optional
        Tracks of one group (artist, work) are drawn together: they are not independent.

    Returns
    -------
    float64 (n_resamples,)
        NaN where the whole has no value.

    See Also
    --------
    Interval : What becomes of the values.
    featstore.results.bounds : Bounds on losses, for several configurations at once.

    References
    ----------
    B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", chapter 13, Chapman and Hall (1993).
    """
    targets, scores = np.asarray(targets), np.asarray(scores)
    if not len(targets):
        return np.full(n_resamples, np.nan)
    whole = metric(targets, scores)
    values = []
    for weights in _weights(len(targets), n_resamples, seed, groups):
        drawn = metric.per_class(targets, scores, weights)
        value = metric.overall(targets, scores, weights, np.where(np.isnan(drawn), whole.per_class, drawn))
        values.append(np.where(np.isnan(value), whole.value, value))
    return np.concatenate(values)


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
    """Percentile interval of a metric over tracks drawn with replacement, extended to the value itself where needed.

    On few tracks a score that is not a mean over tracks (F1, the areas) is biased in resamples, and all percentiles
    may lie on one side of it.

    Parameters
    ----------
    level : float in (0, 1)
    metric, targets, scores, n_resamples, seed, groups
        As ``bootstrap_values`` takes them.

    Returns
    -------
    Interval
        NaN bounds when the metric has no value.

    See Also
    --------
    featstore.results.paired_bootstrap : The difference of two models on the same resamples.

    References
    ----------
    B. Efron, R. J. Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13.
    """
    if not 0 < level < 1 or n_resamples < 1:
        raise ConfigError(
            f"level={level}, n_resamples={n_resamples} give no interval", "bootstrap", "0 < level < 1 <= n"
        )
    values = bootstrap_values(metric, targets, scores, n_resamples=n_resamples, seed=seed, groups=groups)
    once = metric(targets, scores).value
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.minimum(low, once)), float(np.maximum(high, once)), level, n_resamples)


def _weights(n: int, n_resamples: int, seed: int, groups: NDArray[Any] | None) -> Iterator[FloatArray]:
    """How often each track is drawn, ``(resamples, n)`` a block."""
    group_of = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count, rng = int(group_of.max(initial=-1)) + 1, np.random.default_rng(seed)
    for start in range(0, n_resamples, _BLOCK):
        size = min(_BLOCK, n_resamples - start)
        yield rng.multinomial(count, np.full(count, 1 / count), size=size)[:, group_of].astype(float)
