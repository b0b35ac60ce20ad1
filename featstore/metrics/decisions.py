"""Metrics of decisions: the most probable class, or every tag with a probability of at least one half."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.metrics.base import FloatArray, Metric, is_single_label, one_hot, ratio

__all__ = [
    "ACCURACY",
    "MACRO_F1",
    "MACRO_F1_ALL",
    "MICRO_F1",
    "Accuracy",
    "MacroF1",
    "MacroF1All",
    "MicroF1",
    "confusion_matrix",
    "decide",
]

IntArray = NDArray[np.int64]


def decide(targets: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Decisions as bool ``(n, classes)``: the largest score for single-label targets, scores >= 0.5 for multi-label."""
    if is_single_label(targets):
        return one_hot(scores.argmax(axis=1), scores.shape[1])
    return scores >= 0.5


def _counts(targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray) -> tuple[FloatArray, ...]:
    """Per resample and class: correct positives, decided positives, and true positives of the targets."""
    positive, found = one_hot(targets, scores.shape[1]), decide(targets, scores)
    hits, decided, true = (weights @ each.astype(float) for each in (positive & found, found, positive))
    return hits, decided, true


class Accuracy(Metric):
    """Share of right decisions: of tracks for single-label targets, of (track, tag) cells for multi-label ones.

    Per class it is the share of the class's own tracks that were found (single-label; NaN for a class without tracks)
    or of the tracks on which the tag was decided rightly (multi-label).

    See Also
    --------
    sklearn.metrics.accuracy_score, sklearn.metrics.hamming_loss
    """

    name, title, higher_is_better = "accuracy", "accuracy", True

    def per_class(self, targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray) -> FloatArray:
        """Recall of each class, or accuracy of each tag."""
        if is_single_label(targets):
            hits, _, true = _counts(targets, scores, weights)
            return ratio(hits, true, true > 0)
        right = weights @ (one_hot(targets, scores.shape[1]) == decide(targets, scores)).astype(float)
        total = np.broadcast_to(weights.sum(axis=1)[:, None], right.shape)
        return ratio(right, total, total > 0)

    def overall(
        self, targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray, per_class: FloatArray
    ) -> FloatArray:
        """Share of tracks, or the mean over tags."""
        if not is_single_label(targets):
            return super().overall(targets, scores, weights, per_class)
        total = weights.sum(axis=1)
        return ratio(weights @ (scores.argmax(axis=1) == targets).astype(float), total, total > 0)


class MacroF1(Metric):
    """F1 of each class, and their unweighted mean over the classes that occur in the targets.

    See Also
    --------
    sklearn.metrics.f1_score : The same with ``average="macro"`` and these classes as ``labels``.
    """

    name, title, higher_is_better = "macro_f1", "macro F1", True
    class_name, class_title = "f1", "F1"

    def per_class(self, targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray) -> FloatArray:
        """F1 of each class; NaN for a class without a positive track."""
        hits, decided, true = _counts(targets, scores, weights)
        return ratio(2 * hits, decided + true, true > 0)


class MacroF1All(MacroF1):
    """F1 of each class, and their unweighted mean over all classes: one that no track has counts as 0.

    Kamuni et al. 2024 and the challenges on FMA score like this: the figure is over the data set's classes, whatever a
    split lacks.

    See Also
    --------
    sklearn.metrics.f1_score : The same with ``average="macro"``, all classes as ``labels`` and ``zero_division=0``.
    """

    name, title, higher_is_better = "macro_f1_all", "macro F1 (all classes)", True
    class_name, class_title = "", "F1"

    def overall(
        self, targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray, per_class: FloatArray
    ) -> FloatArray:
        """Mean over all classes; NaN only where no class has a track."""
        unknown = np.isnan(per_class)
        counted = np.where(unknown & ~unknown.all(axis=1, keepdims=True), 0.0, per_class)
        return super().overall(targets, scores, weights, counted)


class MicroF1(MacroF1):
    """F1 of all decisions pooled; for single-label targets it equals accuracy.

    See Also
    --------
    sklearn.metrics.f1_score : The same with ``average="micro"``.
    """

    name, title, higher_is_better = "micro_f1", "micro F1", True
    class_name, class_title = "", "F1"

    def overall(
        self, targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray, per_class: FloatArray
    ) -> FloatArray:
        """F1 from the sums of all counts."""
        hits, decided, true = (counts.sum(axis=1) for counts in _counts(targets, scores, weights))
        return ratio(2 * hits, decided + true, decided + true > 0)


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


ACCURACY, MACRO_F1, MACRO_F1_ALL, MICRO_F1 = Accuracy(), MacroF1(), MacroF1All(), MicroF1()
