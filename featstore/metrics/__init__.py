"""Metrics: scores of a tagger or classifier as pure functions, and states that can be merged across processes.

A metric takes targets and scores of tracks and gives a value per class, their mean, and the classes left out of it
because the targets cannot tell (a class that is never, or always, true). Each says whether higher is better.
Multi-label targets are 0/1 ``(n, classes)``; single-label targets are class numbers ``(n,)``; scores are always
``(n, classes)``, probabilities wherever a decision is taken.
"""

from __future__ import annotations

from featstore.metrics.base import Metric, MetricState, MetricValue, one_hot
from featstore.metrics.bootstrap import Interval, bootstrap_interval
from featstore.registry import Registry

__all__ = [
    "METRICS",
    "Interval",
    "Metric",
    "MetricState",
    "MetricValue",
    "bootstrap_interval",
    "one_hot",
]

METRICS = Registry(
    "metric",
    {
        "roc_auc": "featstore.metrics.ranking:ROC_AUC",
        "pr_auc": "featstore.metrics.ranking:PR_AUC",
        "accuracy": "featstore.metrics.decisions:ACCURACY",
        "macro_f1": "featstore.metrics.decisions:MACRO_F1",
        "micro_f1": "featstore.metrics.decisions:MICRO_F1",
    },
)
