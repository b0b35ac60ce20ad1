"""Paired bootstrap over tracks: the uncertainty of a difference that comes from the choice of test tracks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore.errors import ConfigError
from featstore.metrics import METRICS, bootstrap_values
from featstore.results.details import Predictions, read_predictions
from featstore.results.records import RunRecord
from featstore.results.resampled import rows_of, shared_tracks

__all__ = ["PairedBootstrap", "paired_bootstrap", "paired_bootstrap_of_runs"]


@dataclass(frozen=True, slots=True)
class PairedBootstrap:
    """Difference of two configurations over resampled tracks, ``a − b``.

    Attributes
    ----------
    difference : float
        On the tracks as they are.
    low, high : float
        Percentile interval at ``confidence``.
    p : float
        Two-sided: twice the smaller share of resamples on either side of zero, at least 1 / (resamples + 1).
    tracks, resamples : int
    runs_a, runs_b : int
        Runs (seeds) on both sides; their scores are averaged within each resample, so that what is resampled is
        the tracks alone.
    """

    metric: str
    difference: float
    low: float
    high: float
    p: float
    tracks: int
    resamples: int
    runs_a: int
    runs_b: int
    confidence: float = 0.95

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.metric} difference {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}], p={self.p:.3g} "
            f"(paired bootstrap, {self.tracks} tracks, {self.resamples} resamples, "
            f"{self.runs_a} and {self.runs_b} runs)"
        )


def paired_bootstrap(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    metric: str = "roc_auc",
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedBootstrap:
    """Resample the tracks that both sides have predicted, the same tracks on both sides.

    Parameters
    ----------
    a, b : sequence of Predictions
        The runs of each side.
    metric : str
        A name of ``featstore.metrics.METRICS``.

    Raises
    ------
    ConfigError
        When the two sides share no track, or differ in classes.
    """
    shared = _shared_tracks(a, b)
    (once_a, drawn_a), (once_b, drawn_b) = (_resampled(side, shared, metric, resamples, seed) for side in (a, b))
    differences = drawn_a - drawn_b
    differences = differences[np.isfinite(differences)]  # of resamples in which both sides have a score
    if not len(differences):
        raise ConfigError(f"{metric} has no value on these tracks", "bootstrap", "Choose another metric")
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    beyond = min(np.sum(differences <= 0), np.sum(differences >= 0))
    p = min(1.0, 2 * (float(beyond) + 1) / (len(differences) + 1))
    counts = (len(shared), len(drawn_a), len(a), len(b))
    return PairedBootstrap(metric, once_a - once_b, low, high, p, *counts, confidence)


def paired_bootstrap_of_runs(
    a: Iterable[RunRecord],
    b: Iterable[RunRecord],
    metric: str = "roc_auc",
    *,
    split: str = "test",
    resamples: int = 1000,
) -> PairedBootstrap | None:
    """The same from run folders; None when some of the runs kept no predictions."""
    first, second = _all_predictions(a, split), _all_predictions(b, split)
    if first is None or second is None:
        return None
    return paired_bootstrap(first, second, metric, resamples=resamples)


def _resampled(
    side: Sequence[Predictions], track_ids: Sequence[str], metric: str, resamples: int, seed: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """Score of a side on the tracks as they are, and on each resample, averaged over its runs.

    The same seed draws the same tracks for every side.
    """
    measure, rows = METRICS.load(metric), [rows_of(predictions, track_ids) for predictions in side]
    drawn = [bootstrap_values(measure, *each, n_resamples=resamples, seed=seed) for each in rows]
    return float(np.mean([measure(*each).value for each in rows])), np.mean(drawn, axis=0)


def _shared_tracks(a: Sequence[Predictions], b: Sequence[Predictions]) -> tuple[str, ...]:
    """Tracks that all runs of both sides have predicted, in the order of their names."""
    if not a or not b:
        raise ConfigError("one side has no predictions", "bootstrap", "Train with predictions kept, or use the t-test")
    if len({p.classes for p in (*a, *b)}) > 1:
        raise ConfigError("the two sides have different classes", "bootstrap", "Compare runs of one task")
    shared = shared_tracks([*a, *b])
    if not shared:
        raise ConfigError("the two sides share no track", "bootstrap", "Compare runs with the same test split")
    return tuple(shared)


def _all_predictions(records: Iterable[RunRecord], split: str) -> list[Predictions] | None:
    """Predictions of some runs; None when one of them kept none."""
    found = [read_predictions(record, split) for record in records]
    known = [predictions for predictions in found if predictions is not None]
    return known if known and len(known) == len(found) else None
