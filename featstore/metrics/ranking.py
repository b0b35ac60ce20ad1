"""Areas under the ROC and the precision-recall curve, per class and averaged; ties are handled exactly."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore.metrics.base import FloatArray, Metric, one_hot, ratio

__all__ = ["PR_AUC", "ROC_AUC", "PrAuc", "RocAuc"]


class _Counts(NamedTuple):
    """Counts at the positive tracks of one class, each ``(positives, resamples)``: both areas follow from them."""

    drawn: FloatArray  # how often the track counts
    all_above: FloatArray  # tracks with a higher score
    all_to: FloatArray  # tracks with at least its score
    own_above: FloatArray  # the same among the positive tracks
    own_to: FloatArray


class _Area(Metric):
    """What both areas share: a loop over classes, and which classes have a value."""

    def per_class(self, targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray) -> FloatArray:
        """Area of each class; NaN with only one kind of track."""
        positive = one_hot(targets, scores.shape[1])
        # float32 adds whole numbers below 2**24 exactly, and faster
        whole = bool((weights == np.rint(weights)).all()) and weights.sum(axis=1).max(initial=0) < 2**24
        by_track = np.ascontiguousarray(weights.T, dtype=np.float32 if whole else np.float64)
        total = weights.sum(axis=1)
        result = np.empty((len(weights), scores.shape[1]))
        for k in range(scores.shape[1]):
            counts = _counts_at_positives(positive[:, k], scores[:, k], by_track)
            n_true = counts.drawn.sum(axis=0)
            result[:, k] = ratio(*self._parts(counts, n_true, total - n_true), (n_true > 0) & (n_true < total))
        return result

    @abstractmethod
    def _parts(self, counts: _Counts, n_true: FloatArray, n_false: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Numerator and denominator of the area, each ``(resamples,)``."""


class RocAuc(_Area):
    """Probability that a positive track scores above a negative one, ties counting one half; mean over classes.

    Any monotone score will do: logits and probabilities of a multi-label tagger rank alike.

    See Also
    --------
    sklearn.metrics.roc_auc_score

    Examples
    --------
    >>> ROC_AUC(np.array([[0], [1], [1]]), np.array([[0.1], [0.1], [0.9]])).value
    0.75
    """

    name, title, average, higher_is_better = "roc_auc", "ROC AUC", "macro", True

    def _parts(self, counts: _Counts, n_true: FloatArray, n_false: FloatArray) -> tuple[FloatArray, FloatArray]:
        above = counts.all_above - counts.own_above  # negative tracks
        tied = (counts.all_to - counts.all_above) - (counts.own_to - counts.own_above)
        return (counts.drawn * (n_false - above - tied / 2)).sum(axis=0), n_true * n_false


class PrAuc(_Area):
    """Area under the precision-recall curve as steps (average precision, no interpolation); mean over classes.

    See Also
    --------
    sklearn.metrics.average_precision_score

    Examples
    --------
    >>> round(PR_AUC(np.array([[1], [0], [1]]), np.array([[0.9], [0.5], [0.1]])).value, 4)
    0.8333
    """

    name, title, average, higher_is_better = "pr_auc", "PR AUC", "macro", True

    def _parts(self, counts: _Counts, n_true: FloatArray, n_false: FloatArray) -> tuple[FloatArray, FloatArray]:
        precision = np.divide(counts.own_to, counts.all_to, out=np.zeros_like(counts.own_to), where=counts.all_to > 0)
        return (counts.drawn * precision).sum(axis=0), n_true


def _counts_at_positives(positive: NDArray[np.bool_], values: NDArray[Any], by_track: NDArray[Any]) -> _Counts:
    """Counts of one class in all resamples; few tracks are positive, so all but one running sum is over those few.

    Parameters
    ----------
    positive : bool (n,)
    values : float (n,)
    by_track : float (n, resamples)
    """
    order = np.argsort(-values, kind="stable")
    ordered = -values[order]
    places = np.flatnonzero(positive[order])
    starts = np.searchsorted(ordered, ordered[places], side="left")
    ends = np.searchsorted(ordered, ordered[places], side="right")
    drawn = by_track[order[places]]
    everything, own = _running_sum(by_track[order]), _running_sum(drawn)
    before, to = np.searchsorted(places, starts), np.searchsorted(places, ends)
    found = (drawn, everything[starts], everything[ends], own[before], own[to])
    return _Counts(*(part.astype(np.float64) for part in found))


def _running_sum(counts: NDArray[Any]) -> NDArray[Any]:
    """Sums of the first 0, 1, 2, … rows."""
    sums = np.zeros((len(counts) + 1, counts.shape[1]), dtype=counts.dtype)
    np.cumsum(counts, axis=0, out=sums[1:])
    return sums


ROC_AUC, PR_AUC = RocAuc(), PrAuc()
