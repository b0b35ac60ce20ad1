"""What a metric is: its name, title and direction, and its value over any number of resamples at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError

__all__ = ["FloatArray", "Metric", "MetricState", "MetricValue", "is_single_label", "one_hot", "ratio"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MetricValue:
    """Result of a metric.

    Parameters
    ----------
    value : float
        The score; NaN when every class was left out.
    per_class : float64 (classes,)
        NaN where the class was left out.
    left_out : tuple of int
        Classes without a value of their own because the targets do not determine it.
    """

    value: float
    per_class: FloatArray
    left_out: tuple[int, ...] = ()


def is_single_label(targets: NDArray[Any]) -> bool:
    """Whether targets are class numbers ``(n,)`` rather than 0/1 ``(n, classes)``."""
    return targets.ndim == 1


def one_hot(targets: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    """Targets as bool ``(n, classes)``, whichever form they come in."""
    if is_single_label(targets):
        return np.asarray(targets[:, None] == np.arange(n_classes))
    return np.asarray(targets > 0.5)


def ratio(over: Any, under: Any, where: Any) -> FloatArray:
    """Quotient as float64; NaN where ``where`` is false."""
    return np.asarray(np.divide(over, under, out=np.full(np.shape(over), np.nan), where=where))


def check_scores(targets: NDArray[Any], scores: NDArray[Any]) -> None:
    """Raise ``ConfigError`` unless targets and scores fit together and every score is a number."""
    fit = targets.shape == scores.shape if targets.ndim == 2 else targets.shape == scores.shape[:1]
    if scores.ndim != 2 or not fit:
        raise ConfigError(f"targets {targets.shape} and scores {scores.shape} do not fit together", "metrics")
    if is_single_label(targets) and len(targets) and not (targets.min() >= 0 and targets.max() < scores.shape[1]):
        raise ConfigError(
            f"a target lies outside the {scores.shape[1]} classes: {targets.min()} to {targets.max()}", "metrics"
        )
    if not np.isfinite(scores).all():
        rows = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        raise ConfigError(f"{len(rows)} of {len(scores)} rows of scores hold NaN or infinity", "metrics")


class Metric(ABC):
    """A metric. A subclass states the attributes and ``per_class``; ``overall`` where it is not the mean over classes.

    Attributes
    ----------
    name : str
        Its key in ``METRICS``, in ``result.json`` and in the columns of reports.
    title : str
        For people: heads of tables, axes of figures.
    higher_is_better : bool
    average : str
        How classes are averaged, where ``title`` does not say so: ``macro`` or empty.
    class_name : str
        Name of the values of single classes; empty when another metric has the same ones.
    class_title : str
        The same for people.
    bounds : tuple of float
        Least and greatest value: intervals are clipped to it.

    See Also
    --------
    featstore.metrics.bootstrap_values : The metric on resampled tracks.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    higher_is_better: ClassVar[bool]
    average: ClassVar[str] = ""
    class_name: ClassVar[str]
    class_title: ClassVar[str]
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            cls.class_name = vars(cls).get("class_name", cls.name)
            cls.class_title = vars(cls).get("class_title", cls.title)

    @abstractmethod
    def per_class(self, targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray) -> FloatArray:
        """Value of each class in each resample.

        Parameters
        ----------
        targets : 0/1 (n, classes) or int (n,)
        scores : float (n, classes)
        weights : float64 (resamples, n)
            How often each track counts.

        Returns
        -------
        float64 (resamples, classes)
            NaN where the targets do not determine the value.
        """

    def overall(
        self, targets: NDArray[Any], scores: NDArray[Any], weights: FloatArray, per_class: FloatArray
    ) -> FloatArray:
        """Value of each resample, ``(resamples,)``: the unweighted mean over the classes that have one."""
        known = ~np.isnan(per_class)
        total, count = np.where(known, per_class, 0.0).sum(axis=1), known.sum(axis=1)
        return ratio(total, count, count > 0)

    def __call__(self, targets: NDArray[Any], scores: NDArray[Any]) -> MetricValue:
        """Compute on whole arrays: every track counts once.

        Raises
        ------
        ConfigError
            Shapes that do not fit, targets out of range, scores that are not finite.
        """
        targets, scores = np.asarray(targets), np.asarray(scores)
        check_scores(targets, scores)
        once = np.ones((1, len(targets)))
        per_class = self.per_class(targets, scores, once)
        value = self.overall(targets, scores, once, per_class)
        return MetricValue(float(value[0]), per_class[0], tuple(np.flatnonzero(np.isnan(per_class[0])).tolist()))

    def start(self) -> MetricState:
        """Return an empty state that takes batches and merges with the states of other processes."""
        return MetricState(self)


@dataclass(slots=True)
class MetricState:
    """Targets and scores collected so far; ranks need them all, so nothing is summed up early.

    ``update`` and ``merge`` may come in any grouping: the value equals that of the whole. Memory is that of the scores
    of one split (50 classes x 100,000 tracks: 20 MB).
    """

    metric: Metric
    targets: list[NDArray[Any]] = field(default_factory=list)
    scores: list[NDArray[Any]] = field(default_factory=list)

    def update(self, targets: NDArray[Any], scores: NDArray[Any]) -> None:
        """Add a batch."""
        targets, scores = np.asarray(targets), np.asarray(scores)
        check_scores(targets, scores)
        self.targets.append(targets.copy())
        self.scores.append(scores.copy())

    def merge(self, other: MetricState) -> None:
        """Add everything that another state of the same metric holds."""
        if other.metric.name != self.metric.name:
            raise ConfigError(f"cannot merge a state of {other.metric.name} into one of {self.metric.name}", "metrics")
        self.targets += other.targets
        self.scores += other.scores

    def compute(self) -> MetricValue:
        """Return the value over all batches."""
        if not self.targets:
            raise ConfigError(f"{self.metric.name} has seen no tracks", "metrics")
        return self.metric(np.concatenate(self.targets), np.concatenate(self.scores))
