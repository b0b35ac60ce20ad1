"""Metrics of decisions: the most probable class, or every tag with a probability of at least one half."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.metrics.base import Metric, MetricValue, is_single_label, one_hot

__all__ = ["ACCURACY", "MACRO_F1", "MICRO_F1", "accuracy", "confusion_matrix", "decide", "macro_f1", "micro_f1"]

IntArray = NDArray[np.int64]


def decide(targets: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Decisions as bool ``(n, classes)``: the largest score for single-label targets, scores >= 0.5 for multi-label."""
    if is_single_label(targets):
        return one_hot(scores.argmax(axis=1), scores.shape[1])
    return scores >= 0.5


def _counts(targets: NDArray[Any], scores: NDArray[Any]) -> tuple[IntArray, IntArray, IntArray]:
    """Per class: rightly found, found, and true."""
    positive, found = one_hot(targets, scores.shape[1]), decide(targets, scores)
    return (positive & found).sum(axis=0), found.sum(axis=0), positive.sum(axis=0)


def accuracy(targets: NDArray[Any], scores: NDArray[Any]) -> MetricValue:
    """Share of right decisions: of tracks for single-label targets, of (track, tag) cells for multi-label ones.

    Per class it is the share of the class's own tracks that were found (single-label; NaN for a class without tracks)
    or of the tracks on which the tag was decided rightly (multi-label).
    """
    positive, found = one_hot(targets, scores.shape[1]), decide(targets, scores)
    if not len(positive):
        return MetricValue.mean_of(np.full(scores.shape[1], np.nan))
    if not is_single_label(targets):
        return MetricValue.mean_of((positive == found).mean(axis=0))
    right, _, true = _counts(targets, scores)
    per_class = np.divide(right, true, out=np.full(len(true), np.nan), where=true > 0)
    return MetricValue(
        float((positive & found).any(axis=1).mean()), per_class, tuple(np.flatnonzero(true == 0).tolist())
    )


def macro_f1(targets: NDArray[Any], scores: NDArray[Any]) -> MetricValue:
    """F1 of each class, and their unweighted mean over the classes that the targets have at all."""
    right, found, true = _counts(targets, scores)
    per_class = np.divide(2 * right, found + true, out=np.full(len(true), np.nan), where=true > 0)
    return MetricValue.mean_of(per_class)


def micro_f1(targets: NDArray[Any], scores: NDArray[Any]) -> MetricValue:
    """F1 of all decisions pooled; for single-label targets it equals accuracy."""
    right, found, true = (counts.sum() for counts in _counts(targets, scores))
    value = float(2 * right / (found + true)) if found + true else float("nan")
    return MetricValue(value, macro_f1(targets, scores).per_class)


def confusion_matrix(targets: NDArray[Any], scores: NDArray[Any]) -> IntArray:
    """Count tracks by true class (row) and decided class (column); single-label targets only.

    Returns
    -------
    int64 (classes, classes)
        Matrices of parts of the data add up to that of the whole.
    """
    n_classes = scores.shape[1]
    cells = np.asarray(targets, dtype=np.int64) * n_classes + scores.argmax(axis=1)
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes).astype(np.int64)


ACCURACY = Metric("accuracy", True, accuracy, "share of right decisions")
MACRO_F1 = Metric("macro_f1", True, macro_f1, "F1, mean over classes")
MICRO_F1 = Metric("micro_f1", True, micro_f1, "F1 of all decisions pooled")
