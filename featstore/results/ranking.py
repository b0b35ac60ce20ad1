"""Scores from predictions, many resamples of the tracks at once.

The metrics here equal those of scikit-learn (``roc_auc_score``, ``average_precision_score``, ``accuracy_score``,
``f1_score``); what is added is an axis of weights: how often each track occurs in a resample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from featstore.errors import ConfigError, did_you_mean

__all__ = ["METRICS", "class_scores", "confusion", "macro_score"]

Floats: TypeAlias = npt.NDArray[np.float64]


def class_scores(target: npt.ArrayLike, score: npt.ArrayLike, metric: str, weights: Floats | None = None) -> Floats:
    """One score a class.

    Parameters
    ----------
    target : array (tracks, classes)
        1 where the track has the class, else 0.
    score : array (tracks, classes)
        What the model says; only the order matters to ``roc_auc`` and ``pr_auc``.
    metric : str
        ``roc_auc``, ``pr_auc`` (average precision), or ``f1`` (the class with the highest score is the answer).
    weights : array (resamples, tracks), optional
        How often each track counts; once each by default.

    Returns
    -------
    array (resamples, classes), or (classes,) without weights
        In [0, 1]; NaN for a class that has no positive, or for ``roc_auc`` no negative track.
    """
    truth, values = np.asarray(target, dtype=float), np.asarray(score, dtype=float)
    if truth.shape != values.shape or truth.ndim != 2:
        raise ConfigError(f"targets {truth.shape} and scores {values.shape} do not match", "predictions")
    if metric not in METRICS:
        raise ConfigError(f"unknown metric {metric!r} of a class", "predictions", did_you_mean(metric, METRICS))
    drawn = np.ones((1, len(truth))) if weights is None else np.asarray(weights, dtype=float)
    result = METRICS[metric](truth, values, drawn)
    return result[0] if weights is None else result


def macro_score(target: npt.ArrayLike, score: npt.ArrayLike, metric: str, weights: Floats | None = None) -> Floats:
    """Mean over the classes that have a score (``macro_f1``: all classes), or ``accuracy``; a value a resample."""
    if metric == "accuracy":
        right = np.argmax(np.asarray(target), axis=1) == np.argmax(np.asarray(score), axis=1)
        drawn = np.ones((1, len(right))) if weights is None else weights
        return np.asarray((drawn @ right) / drawn.sum(axis=1))
    name = "f1" if metric == "macro_f1" else metric
    drawn = np.ones((1, len(np.asarray(target)))) if weights is None else weights
    classes = class_scores(target, score, name, drawn)
    with np.errstate(invalid="ignore"):
        count = np.sum(~np.isnan(classes), axis=1)
        return np.asarray(np.where(count > 0, np.nansum(classes, axis=1) / np.maximum(count, 1), np.nan))


def confusion(target: npt.ArrayLike, score: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Counts (true class, answered class); the class with the highest score is the answer."""
    truth, answer = np.argmax(np.asarray(target), axis=1), np.argmax(np.asarray(score), axis=1)
    n = np.asarray(target).shape[1]
    return np.bincount(truth * n + answer, minlength=n * n).reshape(n, n).astype(np.int64)


def _roc_auc(truth: Floats, values: Floats, weights: Floats) -> Floats:
    """Share of (positive, negative) pairs in the right order, ties counting half."""
    by_track = _by_track(weights)
    total = by_track.sum(axis=0)
    result = np.full((len(weights), truth.shape[1]), np.nan)
    for k in range(truth.shape[1]):
        drawn, all_above, all_to, own_above, own_to = _counts_at_positives(truth[:, k], values[:, k], by_track)
        positives = drawn.sum(axis=0)
        negatives = total - positives
        above, tied = all_above - own_above, (all_to - all_above) - (own_to - own_above)
        pairs = positives * negatives
        with np.errstate(invalid="ignore", divide="ignore"):
            right = (drawn * (negatives - above - tied / 2)).sum(axis=0)
            result[:, k] = np.where(pairs > 0, right / pairs, np.nan)
    return result


def _average_precision(truth: Floats, values: Floats, weights: Floats) -> Floats:
    """Precision at each threshold, weighted by the recall it adds."""
    by_track = _by_track(weights)
    result = np.full((len(weights), truth.shape[1]), np.nan)
    for k in range(truth.shape[1]):
        drawn, _, all_to, _, own_to = _counts_at_positives(truth[:, k], values[:, k], by_track)
        positives = drawn.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(all_to > 0, own_to / all_to, 0.0)
            result[:, k] = np.where(positives > 0, (drawn * precision).sum(axis=0) / positives, np.nan)
    return result


def _by_track(weights: Floats) -> Any:
    """Weights (tracks, resamples); counts as float32, which adds whole numbers below 2²⁴ exactly, and faster."""
    whole = bool((weights == np.rint(weights)).all()) and weights.sum(axis=1).max(initial=0) < 2**24
    return np.ascontiguousarray(weights.T, dtype=np.float32 if whole else np.float64)


def _counts_at_positives(truth: Floats, values: Floats, by_track: Any) -> tuple[Floats, ...]:
    """Counts at each positive track of a class, in all resamples: what both ranking scores are made of.

    Few tracks are positive, so all but one running sum is over those few.

    Parameters
    ----------
    truth, values : array (tracks,)
    by_track : array (tracks, resamples)

    Returns
    -------
    drawn : array (positives, resamples)
        How often each positive track counts.
    all_above, all_to : arrays of the same shape
        Tracks with a higher score than it, and with at least its score.
    own_above, own_to : arrays of the same shape
        The same among the positive tracks.
    """
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    places = np.flatnonzero(truth[order] > 0)
    starts = np.searchsorted(-ordered, -ordered[places], side="left")
    ends = np.searchsorted(-ordered, -ordered[places], side="right")
    drawn = by_track[order[places]]
    everything, own = _running_sum(by_track[order]), _running_sum(drawn)
    before, to = np.searchsorted(places, starts), np.searchsorted(places, ends)
    found = (drawn, everything[starts], everything[ends], own[before], own[to])
    return tuple(part.astype(np.float64) for part in found)


def _running_sum(counts: Any) -> Any:
    """Sums of the first 0, 1, 2, … rows."""
    sums = np.zeros((len(counts) + 1, counts.shape[1]), dtype=counts.dtype)
    np.cumsum(counts, axis=0, out=sums[1:])
    return sums


def _f1(truth: Floats, values: Floats, weights: Floats) -> Floats:
    """F1 of each class; 0 for a class that is neither there nor answered."""
    answered = np.zeros_like(truth)
    answered[np.arange(len(truth)), np.argmax(values, axis=1)] = 1
    hits = weights @ (truth * answered)
    total = weights @ truth + weights @ answered
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0))


METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "roc_auc": _roc_auc,
    "pr_auc": _average_precision,
    "f1": _f1,
}
