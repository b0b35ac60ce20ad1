"""Pareto fronts of score against cost, and tests of every configuration against the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featstore.errors import ConfigError, did_you_mean
from featstore.metrics import bounds_of, lower_is_better
from featstore.plain import is_missing, plain
from featstore.results.significance import TestName, compare, holm

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AXES", "ParetoFront", "front_of", "judged", "one_dataset", "pareto", "verdict"]

# costs that can be an axis, with the words for it
AXES = {
    "bytes_alone": "bytes, stored on its own",
    "bytes_added": "bytes, added to the store",
    "bytes_per_hour": "bytes per hour of audio",
    "bytes_per_track": "bytes per track",
    "ratio_to_audio": "share of the audio's bytes",
    "gmacs": "GMACs per model input",
    "parameters": "parameters",
    "seconds_train": "training time (s)",
    "seconds_inference": "inference time (s)",
    "seconds_extract": "extraction time (s)",
}


@dataclass(frozen=True)
class ParetoFront:
    """Configurations compared with the best one.

    Attributes
    ----------
    frame : DataFrame
        The summary's rows, cheapest first, with ``on_front`` (no other is at least as good on every axis and better
        on one), ``difference`` (to the best), ``difference_low``, ``difference_high``, ``p``, ``p_holm``,
        ``told_apart`` (by ``p_holm``: True, False, or None where it cannot be tested because a side has fewer than
        two values) and ``in_doubt`` (not told apart, but only because of the correction).
    x, y : str
        Axis of cost (the first of ``axes``), and metric.
    axes : tuple of str
        All axes of cost.
    best : int
        Row of ``frame`` with the best mean of ``y``.
    answer : int
        The cheapest row that is neither told apart from the best nor in doubt. The correction guards against
        finding differences that are not there; for calling something good enough it would err the other way.
    statement : str
        Which test, how many values and comparisons, which correction: what has to stand beside the figure.
    left_out : int
        Rows of the summary without a value on some axis.
    """

    frame: pd.DataFrame
    x: str
    y: str
    axes: tuple[str, ...]
    best: int
    answer: int
    test: TestName
    alpha: float
    comparisons: int
    statement: str
    left_out: int

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "x": self.x,
            "y": self.y,
            "axes": list(self.axes),
            "test": self.test,
            "alpha": self.alpha,
            "correction": "holm",
            "comparisons": self.comparisons,
            "statement": self.statement,
            "left_out": self.left_out,
            "best": self.best,
            "answer": self.answer,
            "rows": plain(self.frame.to_dict("records")),
        }


def pareto(
    summary: pd.DataFrame,
    x: str | Sequence[str] = "bytes_alone",
    y: str = "roc_auc",
    *,
    test: TestName = "welch",
    alpha: float = 0.05,
) -> ParetoFront:
    """Find the configurations that are worth their cost.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``, of one data set.
    x : str or sequence of one or two str
        Columns of cost, less is better: see ``AXES``.
    y : str
        A metric of the summary.
    test : str
        ``welch``, or ``independent`` as in the resolution study; always two-sided, ddof 1, Holm's correction over
        the comparisons of every other configuration with the best.
    alpha : float in (0, 1)
        Configurations with a corrected p of ``alpha`` or more cannot be told apart from the best.

    Raises
    ------
    ConfigError
        For an unknown axis or metric, several data sets at once, or when no row has values on all axes.
    """
    axes = (x,) if isinstance(x, str) else tuple(x)
    _check_axes(summary, axes, y)
    known = summary[[*axes, f"{y}_mean"]].notna().all(axis=1)
    if not known.any():
        raise ConfigError(f"no configuration has values of {', '.join(axes)} and {y}", "pareto", "Choose other axes")
    sign = 1 if lower_is_better(y) else -1
    ascending = [True] * len(axes) + [sign == 1]  # of equally cheap ones the best first
    frame = summary[known].sort_values([*axes, f"{y}_mean"], ascending=ascending, kind="stable", ignore_index=True)
    costs = np.column_stack([frame[axis].to_numpy(dtype=float) for axis in axes])
    scores = sign * frame[f"{y}_mean"].to_numpy(dtype=float)
    frame["on_front"] = front_of(np.column_stack([costs, scores]))
    frame, best, statement = judged(frame, y, test=test, alpha=alpha)
    sure = [apart is False and not doubt for apart, doubt in zip(frame["told_apart"], frame["in_doubt"], strict=True)]
    return ParetoFront(
        frame=frame,
        x=axes[0],
        y=y,
        axes=axes,
        best=best,
        answer=sure.index(True),
        test=test,
        alpha=alpha,
        comparisons=int(frame["p"].notna().sum()),
        statement=statement,
        left_out=int((~known).sum()),
    )


def judged(
    frame: pd.DataFrame, y: str, *, test: TestName = "welch", alpha: float = 0.05
) -> tuple[pd.DataFrame, int, str]:
    """Compare every row of a summary with the one that has the best mean, by Holm over these comparisons.

    Returns
    -------
    frame : DataFrame
        The rows with ``difference`` to ``in_doubt`` of ``ParetoFront.frame``.
    best : int
        Place of the best row; of equals the first.
    statement : str
        Which test, on how many values, with which correction.
    """
    means, values = frame[f"{y}_mean"].to_numpy(dtype=float), frame[f"{y}_values"].tolist()
    best = int(np.nanargmin(means) if lower_is_better(y) else np.nanargmax(means))
    results = [compare(each, values[best], test=test, bounds=bounds_of(y)) for each in values]
    p = [float("nan") if row == best else result.p for row, result in enumerate(results)]
    p_holm = holm(p)
    apart = [False if row == best else None if np.isnan(v) else v < alpha for row, v in enumerate(p_holm)]
    compared = frame.assign(
        difference=[result.difference for result in results],
        difference_low=[result.low for result in results],
        difference_high=[result.high for result in results],
        p=p,
        p_holm=p_holm,
        told_apart=np.array(apart, dtype=object),
        in_doubt=[each is False and row != best and p[row] < alpha for row, each in enumerate(apart)],
    )
    counts, over = [int(n) for n in frame[f"{y}_n"]], str(frame["over"].iloc[best])
    return compared, best, _statement(test, int(np.sum(~np.isnan(p))), alpha, counts, best, over)


def verdict(row: Any) -> str:
    """What a test says, in words: of rows with ``told_apart`` and ``in_doubt``.

    Examples
    --------
    >>> verdict({"told_apart": True, "in_doubt": False}), verdict({"told_apart": None, "in_doubt": False})
    ('differs', 'not tested')
    """
    if row["told_apart"] is None or is_missing(row["told_apart"]):
        return "not tested"
    if row["told_apart"]:
        return "differs"
    return "in doubt" if row["in_doubt"] else "not told apart"


def front_of(points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates, less being better in every column.

    Equal rows do not dominate each other: both are on the front.

    Parameters
    ----------
    points : array (n, axes)

    Examples
    --------
    >>> front_of([[1, 5], [2, 3], [3, 4], [4, 1], [4, 1]]).tolist()
    [True, True, False, True, True]
    """
    data = np.asarray(points, dtype=float)
    on_front = np.ones(len(data), dtype=bool)
    for row, point in enumerate(data):
        no_worse = (data <= point).all(axis=1)
        on_front[row] = not (no_worse & (data < point).any(axis=1)).any()
    return on_front


def _check_axes(summary: pd.DataFrame, axes: tuple[str, ...], y: str) -> None:
    if not 1 <= len(axes) <= 2:
        raise ConfigError(f"{len(axes)} axes of cost were given", "pareto", "Give one or two, and a metric")
    for axis in axes:
        if axis not in AXES:
            raise ConfigError(f"{axis!r} is no axis of cost", "pareto", did_you_mean(axis, AXES))
    if f"{y}_mean" not in summary:
        metrics = [str(name).removesuffix("_values") for name in summary if str(name).endswith("_values")]
        raise ConfigError(f"the summary has no metric {y!r}", "pareto", did_you_mean(y, metrics))
    one_dataset(summary, "pareto")


def one_dataset(summary: pd.DataFrame, where: str) -> None:
    """Raise ``ConfigError`` when the rows are of several data sets."""
    datasets = sorted(map(str, summary["dataset"].dropna().unique())) if "dataset" in summary else []
    if len(datasets) > 1:
        raise ConfigError(
            f"scores on {', '.join(datasets)} cannot be compared with each other",
            where,
            f"Choose one data set: --where dataset={datasets[0]}",
        )


def _statement(test: str, comparisons: int, alpha: float, counts: list[int], best: int, over: str) -> str:
    """The sentence that makes the marks of a figure mean something."""
    if not comparisons:
        alone = counts[best] < 2 and max(counts) > 1
        who = "the best has n = 1" if alone else f"n = {_span(counts)} per configuration"
        return f"Not tested: {who}; a test needs at least 2 (3 seeds are advised)."
    title = {"welch": "Welch's t-test", "independent": "independent two-sample t-test with equal variances"}[test]
    unit = {"run": "runs", "seed": "seeds", "fold": "folds"}[over]
    return (
        f"{title} against the best, two-sided, on n = {_span(counts)} {unit} per configuration (ddof = 1), "
        f"Holm's correction over {comparisons} comparisons, alpha = {alpha:g}; in doubt: differs without the "
        "correction. "
        "Not told apart does not mean equal: with few runs only large differences show."
    )


def _span(counts: list[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
