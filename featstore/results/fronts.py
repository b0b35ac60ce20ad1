"""Fronts of score against cost: the measured one, the guaranteed one, and the answer for a margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featstore.errors import ConfigError, check_known
from featstore.metrics import lower_is_better
from featstore.plain import plain
from featstore.results.costs import COSTS
from featstore.results.frames import metrics_of
from featstore.results.losses import Losses, bounded_losses

if TYPE_CHECKING:
    import pandas as pd

    from featstore.results.resampled import TestTracks
    from featstore.results.run_set import RunSet

__all__ = [
    "MARGIN",
    "ParetoFront",
    "audio_cost",
    "cheapest_within",
    "front_of",
    "one_dataset",
    "pareto",
    "smallest_bound",
    "standing",
    "undertrained",
]

MARGIN = 0.02  # loss that is accepted unless another is asked for, on the scale of the score


@dataclass(frozen=True)
class ParetoFront:
    """Configurations with what they cost and what they may lose.

    Attributes
    ----------
    frame : DataFrame
        The summary's rows, cheapest first, with ``loss``, ``loss_most``, ``loss_least`` and ``may_be_best`` (see
        ``Losses``), ``on_front`` (no other is at least as good on every axis of cost and in the mean score, and better
        on one) and ``guaranteed`` (the same with the bound in place of the mean).
    x, y : str
        Axis of cost (the first of ``axes``), and metric.
    axes : tuple of str
        All axes of cost.
    best : int
        Row of ``frame`` with the best mean of ``y``.
    answer : int or None
        The cheapest row that loses at most ``margin`` (by ``x``); None when no row is known to.
    margin : float
        Loss that is accepted, on the scale of ``y``.
    losses : Losses
        Everything that was compared, with the study behind the bounds.
    left_out : int
        Rows of the summary without a value on some axis.
    """

    frame: pd.DataFrame
    x: str
    y: str
    axes: tuple[str, ...]
    best: int
    answer: int | None
    margin: float
    losses: Losses
    left_out: int

    @property
    def statement(self) -> str:
        """What the bounds rest on: it has to stand beside the figure."""
        return self.losses.statement

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``sentences.answer_json`` adds the words."""
        return {
            "x": self.x,
            "y": self.y,
            "axes": list(self.axes),
            "margin": self.margin,
            "confidence": self.losses.confidence,
            "statement": self.statement,
            "left_out": self.left_out,
            "best": self.best,
            "answer": self.answer,
            "guaranteed": np.flatnonzero(self.frame["guaranteed"]).tolist(),
            "rows": plain(self.frame.to_dict("records")),
        }


def pareto(
    summary: pd.DataFrame,
    x: str | Sequence[str] = "bytes_alone",
    y: str = "roc_auc",
    *,
    runs: RunSet | TestTracks | None = None,
    margin: float = MARGIN,
    split: str = "test",
    confidence: float = 0.95,
) -> ParetoFront:
    """Find the configurations that are worth their cost, and the cheapest that is good enough.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``, of one data set. Rows that ``mark_undertrained`` has marked are compared like all others,
        but are on no front and no answer.
    x : str or sequence of one or two str
        Columns of cost, less is better: see ``COSTS``.
    y : str
        A metric of the summary.
    runs : RunSet or TestTracks, optional
        The runs behind the summary: their predictions give the noise of the choice of test tracks.
    margin : float > 0
        Loss against the best that is accepted, on the scale of ``y``.
    confidence : float in (0, 1)
        That all bounds hold at once: the choice among the rows may use them.

    Raises
    ------
    ConfigError
        For an unknown axis or metric, a margin that is none, several data sets at once, or when no row has values on
        all axes.

    See Also
    --------
    featstore.results.sentences.answer_sentences : The answer in words.
    """
    axes = (x,) if isinstance(x, str) else tuple(x)
    if not 1 <= len(axes) <= 2:
        raise ConfigError(f"{len(axes)} axes of cost were given", "pareto", "Give one or two, and a metric")
    for axis in axes:
        check_known(axis, COSTS, f"{axis!r} is no axis of cost", "pareto")
    check_known(y, metrics_of(summary), f"the summary has no metric {y!r}", "pareto")
    one_dataset(summary, "pareto")
    if not 0 < margin < np.inf:
        raise ConfigError(f"a margin of {margin:g} is none", "pareto", "Give the loss that is accepted, such as 0.02")
    if not summary[[*axes, f"{y}_mean"]].notna().all(axis=1).any():
        raise ConfigError(f"no configuration has values of {', '.join(axes)} and {y}", "pareto", "Choose other axes")
    losses = bounded_losses(summary, y, runs, split=split, confidence=confidence)
    known = losses.frame[list(axes)].notna().all(axis=1)
    ascending = [True] * len(axes) + [lower_is_better(y)]  # of equally cheap ones the best first
    order = [*axes, f"{y}_mean"]
    frame = losses.frame[known].sort_values(order, ascending=ascending, kind="stable", ignore_index=True)
    costs = np.column_stack([frame[axis].to_numpy(dtype=float) for axis in axes])
    most = frame["loss_most"].to_numpy(dtype=float)
    open_to = ~undertrained(frame)
    frame["on_front"] = front_of(np.column_stack([costs, frame["loss"].to_numpy(dtype=float)]), open_to)
    bounded = np.isfinite(most).all()
    frame["guaranteed"] = front_of(np.column_stack([costs, most]), open_to) if bounded else False
    best = int(frame["loss"].to_numpy(dtype=float).argmin())
    answer = cheapest_within(frame, margin)
    return ParetoFront(frame, axes[0], y, axes, best, answer, margin, losses, len(summary) - len(frame))


def cheapest_within(frame: pd.DataFrame, margin: float) -> int | None:
    """First row of a front's frame whose loss is at most ``margin``; None without one."""
    rows = np.flatnonzero((frame["loss_most"].to_numpy(dtype=float) <= margin) & ~undertrained(frame))
    return int(rows[0]) if len(rows) else None


def smallest_bound(frame: pd.DataFrame) -> int:
    """Row with the smallest bound; without bounds the one with the best mean."""
    most = frame["loss_most"].to_numpy(dtype=float)
    order = frame["loss"].to_numpy(dtype=float) if np.isnan(most).all() else most
    barred = undertrained(frame)
    return int(np.nanargmin(order if barred.all() else np.where(barred, np.inf, order)))


def undertrained(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows are marked as undertrained, see ``mark_undertrained``: none where nothing was asked."""
    if "undertrained" not in frame:
        return np.zeros(len(frame), dtype=bool)
    return frame["undertrained"].to_numpy(dtype=bool)


def standing(row: Any) -> str:
    """What the bounds say of a row, in words.

    Examples
    --------
    >>> standing({"loss_most": 0.02, "loss_least": 0.0, "may_be_best": True})
    'may be the best'
    >>> standing({"loss_most": 0.05, "loss_least": 0.01, "may_be_best": False})
    'worse'
    """
    if not np.isfinite(row["loss_most"]):
        return "not bounded"
    if row["may_be_best"]:
        return "may be the best"
    return "worse" if row["loss_least"] > 0 else "open"


def audio_cost(frame: pd.DataFrame, x: str) -> float | None:
    """What the audio files of the same music would cost on an axis of bytes; None where it is not known."""
    if x == "ratio_to_audio":
        return 1.0
    if not (x.startswith("bytes") or x == "rate_bps"):
        return None
    of = "bytes_alone" if x == "bytes_added" else x
    shares = (frame[of] / frame["ratio_to_audio"]).astype(float).dropna()
    return float(shares.median()) if len(shares) else None


def front_of(points: npt.ArrayLike, open_to: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates, less being better in every column.

    Equal rows do not dominate each other: both are on the front.

    Parameters
    ----------
    points : array (n, axes)
    open_to : bool (n,), optional
        Rows that may be on the front; the others dominate nothing either. All by default.

    Examples
    --------
    >>> front_of([[1, 5], [2, 3], [3, 4], [4, 1], [4, 1]]).tolist()
    [True, True, False, True, True]
    """
    data = np.asarray(points, dtype=float)
    rivals = np.ones(len(data), dtype=bool) if open_to is None else open_to
    on_front = np.zeros(len(data), dtype=bool)
    for row in np.flatnonzero(rivals):
        no_worse = (data <= data[row]).all(axis=1) & rivals
        on_front[row] = not (no_worse & (data < data[row]).any(axis=1)).any()
    return on_front


def one_dataset(summary: pd.DataFrame, where: str) -> None:
    """Raise ``ConfigError`` when the rows are of several data sets."""
    datasets = sorted(map(str, summary["dataset"].dropna().unique())) if "dataset" in summary else []
    if len(datasets) > 1:
        raise ConfigError(
            f"scores on {', '.join(datasets)} cannot be compared with each other",
            where,
            f"Choose one data set: --where dataset={datasets[0]}",
        )
