"""Metrics: scores of a tagger or classifier, over the tracks as they are or over many resamples of them at once.

A metric takes targets and scores of tracks and gives a value, a value per class, and the classes left out because the
targets do not determine theirs (a class that is never, or always, true). Training, tables, figures, the page and SQL
take names, titles, directions and bounds from ``METRICS``.
Multi-label targets are 0/1 ``(n, classes)``; single-label targets are class numbers ``(n,)``; scores are always
``(n, classes)``, probabilities wherever a decision is taken.
"""

from __future__ import annotations

import math

from featstore.metrics.base import Metric, MetricState, MetricValue, one_hot
from featstore.metrics.bootstrap import Interval, bootstrap_interval, bootstrap_values
from featstore.registry import Registry

__all__ = [
    "METRICS",
    "Interval",
    "Metric",
    "MetricState",
    "MetricValue",
    "bootstrap_interval",
    "bootstrap_values",
    "bounds_of",
    "class_metrics",
    "in_points",
    "is_better",
    "lower_is_better",
    "one_hot",
    "title_of",
]

METRICS = Registry(
    "metric",
    {
        "roc_auc": "featstore.metrics.ranking:ROC_AUC",
        "pr_auc": "featstore.metrics.ranking:PR_AUC",
        "accuracy": "featstore.metrics.decisions:ACCURACY",
        "macro_f1": "featstore.metrics.decisions:MACRO_F1",
        "macro_f1_all": "featstore.metrics.decisions:MACRO_F1_ALL",
        "micro_f1": "featstore.metrics.decisions:MICRO_F1",
    },
)


def lower_is_better(name: str) -> bool:
    """Whether less of a score is better: as its metric declares; of names that are not registered, true for losses.

    See Also
    --------
    is_better : Compares two scores.

    Examples
    --------
    >>> lower_is_better("roc_auc"), lower_is_better("loss"), lower_is_better("reconstruction_loss")
    (False, True, True)
    """
    if name in METRICS:
        return not METRICS.load(name).higher_is_better
    return name == "loss" or name.endswith("_loss")


def is_better(name: str, new: float, old: float) -> bool:
    """Whether ``new`` beats ``old``; NaN beats nothing and loses to every number.

    See Also
    --------
    lower_is_better : The direction alone.
    """
    if math.isnan(new) or math.isnan(old):
        return math.isnan(old) and not math.isnan(new)
    return new < old if lower_is_better(name) else new > old


def title_of(name: str, *, split: str = "") -> str:
    """A score's name for people; with ``split`` as the label of an axis.

    See Also
    --------
    bounds_of : Least and greatest value.

    Examples
    --------
    >>> title_of("roc_auc"), title_of("roc_auc", split="test"), title_of("loss", split="test")
    ('ROC AUC', 'ROC AUC (macro, test)', 'loss (test)')
    """
    metric = METRICS.load(name) if name in METRICS else None
    title = name if metric is None else str(metric.title)
    notes = [note for note in ("" if metric is None else metric.average, split) if note]
    return f"{title} ({', '.join(notes)})" if split else title


def bounds_of(name: str) -> tuple[float, float]:
    """Least and greatest value of a score; infinite where they are not known.

    See Also
    --------
    title_of : Title for people.
    """
    if name in METRICS:
        low, high = METRICS.load(name).bounds
        return float(low), float(high)
    return (0.0 if name == "loss" else -math.inf), math.inf


def in_points(metric: str) -> bool:
    """Whether differences of a metric are written in points (hundredths): those of scores in [0, 1].

    See Also
    --------
    bounds_of : Least and greatest value.

    Examples
    --------
    >>> in_points("roc_auc"), in_points("loss")
    (True, False)
    """
    return bounds_of(metric) == (0.0, 1.0)


def class_metrics() -> dict[str, Metric]:
    """The metrics that have values of single classes, by the name of these values.

    See Also
    --------
    title_of : Their titles.
    """
    found: list[Metric] = [METRICS.load(name) for name in METRICS]
    return {metric.class_name: metric for metric in found if metric.class_name}
