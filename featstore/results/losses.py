"""Each configuration's loss against the best one, bounded: the rows of a summary, judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featstore.errors import ConfigError
from featstore.metrics import bounds_of, in_points, lower_is_better
from featstore.results.bounds import LossBounds, Study, loss_bounds
from featstore.results.resampled import TestTracks
from featstore.units import format_span

if TYPE_CHECKING:
    import pandas as pd

    from featstore.results.run_set import RunSet

__all__ = ["Losses", "bounded_losses", "loss_number", "study_of"]

_SAME = 1e-12  # deviation of equal numbers, up to rounding


@dataclass(frozen=True)
class Losses:
    """Configurations with their loss against the best.

    Attributes
    ----------
    frame : DataFrame
        Rows of the summary that have the metric, with ``loss`` (measured, against the best mean), ``loss_most`` and
        ``loss_least`` (bounds on the true loss, which hold for all rows at once) and ``may_be_best``. A loss is never
        negative, whichever direction of the metric is better. Bounds are NaN when nothing was repeated.
    metric : str
    best : int
        Row with the best mean; of equals the first.
    confidence : float
    statement : str
        What the bounds rest on.
    study : Study or None
        What they were computed from; None when nothing was repeated.
    """

    frame: pd.DataFrame
    metric: str
    best: int
    confidence: float
    statement: str
    study: Study | None


def bounded_losses(
    summary: pd.DataFrame,
    metric: str,
    runs: RunSet | TestTracks | None = None,
    *,
    split: str = "test",
    confidence: float = 0.95,
) -> Losses:
    """Bound the loss of every row of a summary.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``, of one data set.
    metric : str
    runs : RunSet or TestTracks, optional
        The runs behind the summary. From their predictions comes the noise of the choice of test tracks; without
        them only that of training is known, and the statement says so.
    split : str
    confidence : float in (0, 1)
        That all bounds hold at once.

    Raises
    ------
    ConfigError
        When no row has the metric.

    See Also
    --------
    featstore.results.bounds.loss_bounds : The method.
    """
    frame = summary[summary[f"{metric}_mean"].notna()].reset_index(drop=True)
    if not len(frame):
        raise ConfigError(f"no configuration has a value of {metric}", "report", "Choose another metric")
    means = frame[f"{metric}_mean"].to_numpy(dtype=float) * (-1 if lower_is_better(metric) else 1)
    best = int(means.argmax())
    study, words = study_of(frame, metric, runs, split=split)
    bounds = None if study is None else loss_bounds(study, confidence=confidence)
    low, high = bounds_of(metric)
    blank = np.full(len(frame), np.nan)
    judged = frame.assign(
        loss=means[best] - means,
        loss_most=blank if bounds is None else np.minimum(bounds.most, high - low),
        loss_least=blank if bounds is None else bounds.least,
        may_be_best=True if bounds is None else bounds.may_be_best,
    )
    judged.attrs["metric"] = metric
    return Losses(judged, metric, best, confidence, _statement(frame, metric, bounds, words, confidence), study)


def study_of(
    frame: pd.DataFrame,
    metric: str,
    runs: RunSet | TestTracks | None,
    *,
    split: str = "test",
    rows: Sequence[int] | None = None,
) -> tuple[Study | None, str]:
    """Rows of a summary as a study, and what is known of its test noise in words.

    Parameters
    ----------
    frame : DataFrame
        Rows that all have the metric.
    runs : RunSet, TestTracks or None
        Where the predictions are.
    rows : sequence of int, optional
        Rows whose test noise is needed; of the others only the noise of training is known. All by default.

    Returns
    -------
    Study or None
        Greater scores are better. None when there are several rows and nothing was repeated.
    """
    means = frame[f"{metric}_mean"].to_numpy(dtype=float) * (-1 if lower_is_better(metric) else 1)
    seeds = frame[f"{metric}_n"].to_numpy(dtype=np.int64)
    variances = np.square(np.nan_to_num(frame[f"{metric}_std"].to_numpy(dtype=float)))
    exact = _exact(frame)
    noisy = seeds[~exact]
    if len(frame) > 1 and len(noisy) and (noisy < 2).all():
        return None, ""
    if runs is None:
        return Study(means, variances, seeds, exact=exact), "no predictions were given"
    tracks = runs if isinstance(runs, TestTracks) else TestTracks(runs, split)
    chosen = list(range(len(frame))) if rows is None else sorted(rows)
    noise = tracks.noise(frame.iloc[chosen], metric)
    covariance = None
    if noise.covariance is not None:
        covariance = np.zeros((len(frame), len(frame)))
        covariance[np.ix_(chosen, chosen)] = noise.covariance
    return Study(means, variances, seeds, covariance, noise.units, exact), noise.words


def _exact(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Rows whose runs repeat each other to the last digit in every metric: fits that have one solution.

    One metric alone is no sign of it: three runs may well recognise the same number of test tracks.
    """
    spreads = frame[[name for name in map(str, frame) if name.endswith("_std")]].to_numpy(dtype=float)
    if spreads.shape[1] < 2:
        return np.zeros(len(frame), dtype=bool)
    same = (spreads <= _SAME) | np.isnan(spreads)
    found: npt.NDArray[np.bool_] = same.all(axis=1) & ((spreads <= _SAME).sum(axis=1) > 1)
    return found


def _statement(frame: pd.DataFrame, metric: str, bounds: LossBounds | None, words: str, confidence: float) -> str:
    """What has to stand beside the bounds."""
    span = format_span(frame[f"{metric}_n"].astype(int))
    unit = f"{frame['over'].iloc[0]}s"
    if len(frame) == 1:
        return "There is one configuration: it is its own best."
    if bounds is None:
        return (
            "No bounds: every configuration has a single value (n = 1), so the noise of training is unknown. "
            "Train each with at least 2 seeds (3 are advised)."
        )
    head = (
        f"Bounds on the loss against the best, valid for all {len(frame)} configurations at once with "
        f"{100 * confidence:g} % confidence (Edwards and Hsu's comparisons with the best), from n = {span} {unit} each"
    )
    if bounds.pooled:
        return (
            f"{head}. One variance is pooled over all configurations, and the noise of the test tracks is not "
            f"included: {words}."
        )
    return f"{head} with moderated variances, and {words}."


def loss_number(metric: str, value: float, *, up: bool = True) -> str:
    """A loss, in points where ``in_points`` says so, rounded so that what it claims stays true.

    Parameters
    ----------
    up : bool
        True for an upper bound, False for a lower one.

    Examples
    --------
    >>> loss_number("roc_auc", 0.0231), loss_number("roc_auc", 0.0239, up=False), loss_number("loss", 0.02)
    ('2.4', '2.3', '0.02')
    >>> loss_number("roc_auc", 0.00047, up=False)
    '0.04'
    """
    if not in_points(metric):
        return f"{value:.3g}"
    decimals = 2 if 0 < value < 0.001 and not up else 1
    scaled = round(100 * value * 10**decimals, 6)
    rounded = (math.ceil(scaled) if up else math.floor(scaled)) / 10**decimals
    return f"{rounded:.{decimals}f}"
