"""Areas under the ROC and the precision-recall curve, per class and averaged; ties are handled exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.metrics.base import FloatArray, Metric, MetricValue, one_hot

__all__ = ["PR_AUC", "ROC_AUC", "average_precisions", "pr_auc", "roc_auc", "roc_aucs"]


def _ranked(positive: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
    """Each class's items from the highest score down, with the counts above and down to their group of equal scores.

    Returns
    -------
    positive : bool (n, classes)
        In the order of the scores.
    above, upto : int (n, classes)
        Places of the last item before the group, and of the group's last item, counted from 1 (0: none).
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    places = np.arange(1, len(ranked) + 1)[:, None]
    edge = np.ones(ranked.shape, dtype=bool)  # True at the last item of each group
    edge[:-1] = ranked[1:] != ranked[:-1]
    upto = np.minimum.accumulate(np.where(edge, places, len(ranked))[::-1], axis=0)[::-1]
    above = np.zeros_like(upto)
    above[1:] = np.maximum.accumulate(np.where(edge, places, 0), axis=0)[:-1]
    return np.take_along_axis(positive, order, axis=0), above, upto


def _true_at(positive: NDArray[np.bool_], place: NDArray[Any]) -> FloatArray:
    """Positives among the first ``place`` items."""
    counts = np.zeros((len(positive) + 1, positive.shape[1]))
    np.cumsum(positive, axis=0, out=counts[1:])
    return np.take_along_axis(counts, place, axis=0)


def roc_aucs(positive: NDArray[np.bool_], scores: NDArray[Any]) -> FloatArray:
    """Probability that a positive scores above a negative, ties counting one half; NaN with only one kind.

    Parameters
    ----------
    positive : bool (n, classes)
    scores : float (n, classes)

    Returns
    -------
    float64 (classes,)

    Examples
    --------
    >>> roc_aucs(np.array([[False], [True], [True]]), np.array([[0.1], [0.1], [0.9]]))
    array([0.75])
    """
    ranked, above, upto = _ranked(positive, scores)
    beaten = (_true_at(ranked, above) + _true_at(ranked, upto)) / 2  # positives above each item, ties counting half
    n_true = positive.sum(axis=0)
    pairs = n_true * (len(positive) - n_true)
    wins = np.sum(beaten, axis=0, where=~ranked)
    return np.asarray(np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def average_precisions(positive: NDArray[np.bool_], scores: NDArray[Any]) -> FloatArray:
    """Area under the precision-recall curve as steps (average precision, no interpolation); NaN with only one kind.

    Arguments and result as ``roc_aucs``.

    Examples
    --------
    >>> average_precisions(np.array([[True], [False], [True]]), np.array([[0.9], [0.5], [0.1]]))
    array([0.83333333])
    """
    ranked, _, upto = _ranked(positive, scores)
    n_true = positive.sum(axis=0)
    total = np.sum(_true_at(ranked, upto) / upto, axis=0, where=ranked)
    both = (n_true > 0) & (n_true < len(positive))
    return np.asarray(np.divide(total, n_true, out=np.full(len(n_true), np.nan), where=both))


def roc_auc(targets: NDArray[Any], scores: NDArray[Any]) -> MetricValue:
    """ROC AUC of each class against the rest, and their unweighted mean.

    Parameters
    ----------
    targets : 0/1 (n, classes) or int (n,)
    scores : float (n, classes)
        Any monotone score: logits and probabilities of a multi-label tagger rank alike.
    """
    return MetricValue.mean_of(roc_aucs(one_hot(targets, scores.shape[1]), scores))


def pr_auc(targets: NDArray[Any], scores: NDArray[Any]) -> MetricValue:
    """Average precision of each class against the rest, and their unweighted mean; arguments as ``roc_auc``."""
    return MetricValue.mean_of(average_precisions(one_hot(targets, scores.shape[1]), scores))


ROC_AUC = Metric("roc_auc", True, roc_auc, "area under the ROC curve, mean over classes")
PR_AUC = Metric("pr_auc", True, pr_auc, "average precision, mean over classes")
