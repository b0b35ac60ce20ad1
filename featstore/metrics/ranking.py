"""Areas under the ROC and the precision-recall curve, per class and averaged; ties are handled exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.metrics.base import FloatArray, Metric, MetricValue, one_hot

__all__ = ["PR_AUC", "ROC_AUC", "average_precision", "pr_auc", "roc_auc", "roc_auc_of_class"]


def _counts_at_thresholds(positive: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """True and false positives at each distinct score, from the highest down.

    Equal scores make one step: no order among them is better than another.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_group = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    true = np.cumsum(positive[order])[last_of_group]
    return true.astype(np.float64), (last_of_group + 1 - true).astype(np.float64)


def roc_auc_of_class(positive: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Probability that a positive scores above a negative, ties counting one half; NaN with only one kind.

    Examples
    --------
    >>> roc_auc_of_class(np.array([False, True, True]), np.array([0.1, 0.1, 0.9]))
    0.75
    """
    if positive.all() or not positive.any():
        return float("nan")
    true, false = _counts_at_thresholds(positive, scores)
    area = np.sum(np.diff(false, prepend=0.0) * (true + np.append(0.0, true[:-1]))) / 2
    return float(area / (true[-1] * false[-1]))


def average_precision(positive: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Area under the precision-recall curve as steps (average precision, no interpolation); NaN with only one kind.

    Examples
    --------
    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]))
    0.8333333333333333
    """
    if positive.all() or not positive.any():
        return float("nan")
    true, false = _counts_at_thresholds(positive, scores)
    return float(np.sum(np.diff(true, prepend=0.0) * true / (true + false)) / true[-1])


def roc_auc(targets: NDArray[Any], scores: NDArray[Any]) -> MetricValue:
    """ROC AUC of each class against the rest, and their unweighted mean.

    Parameters
    ----------
    targets : 0/1 (n, classes) or int (n,)
    scores : float (n, classes)
        Any monotone score: logits and probabilities of a multi-label tagger rank alike.
    """
    positive = one_hot(targets, scores.shape[1])
    classes = range(scores.shape[1])
    return MetricValue.mean_of(np.array([roc_auc_of_class(positive[:, c], scores[:, c]) for c in classes]))


def pr_auc(targets: NDArray[Any], scores: NDArray[Any]) -> MetricValue:
    """Average precision of each class against the rest, and their unweighted mean; arguments as ``roc_auc``."""
    positive = one_hot(targets, scores.shape[1])
    classes = range(scores.shape[1])
    return MetricValue.mean_of(np.array([average_precision(positive[:, c], scores[:, c]) for c in classes]))


ROC_AUC = Metric("roc_auc", True, roc_auc, "area under the ROC curve, mean over classes")
PR_AUC = Metric("pr_auc", True, pr_auc, "average precision, mean over classes")
