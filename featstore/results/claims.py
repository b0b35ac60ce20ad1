"""Claims of papers beside what the runs here say: measured differences with their intervals, never typed in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError, check_keys, check_known
from featstore.metrics import METRICS, in_points, lower_is_better, title_of
from featstore.results.conditions import parse_conditions, selected
from featstore.results.contrasts import contrast
from featstore.results.fronts import one_dataset
from featstore.results.losses import study_of
from featstore.results.paper_tables import PaperTable, texts_of
from featstore.results.reference import PAPERS
from featstore.results.resampled import TestTracks
from featstore.results.summary import summarise

if TYPE_CHECKING:
    import pandas as pd

    from featstore.results.run_set import RunSet

__all__ = ["CLAIM_KEYS", "ClaimResult", "check_claim", "claim_table", "judge_claims"]

CLAIM_KEYS = ("claim", "paper", "where_a", "where_b", "metric", "at_least", "at_most")


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What the runs say of a claim.

    Attributes
    ----------
    claim, paper, metric : str
    at_least, at_most : float or None
        Threshold of the difference, in the metric's unit; one of the two is None.
    difference, low, high : float
        Mean of A less mean of B with its 95 % interval; NaN where they are not known.
    n_a, n_b : int
        Runs on both sides.
    configurations_a, configurations_b : int
        Configurations on both sides, which count alike in the mean.
    verdict : str
        ``holds``, ``does not hold``, or ``cannot be said`` where the interval includes the threshold or is not known.
    reason : str
        Why there is no interval, or what it leaves out; often empty.
    run_ids : tuple of str
    """

    claim: str
    paper: str
    metric: str
    at_least: float | None
    at_most: float | None
    difference: float
    low: float
    high: float
    n_a: int
    n_b: int
    configurations_a: int
    configurations_b: int
    verdict: str
    reason: str
    run_ids: tuple[str, ...]


def check_claim(spec: Mapping[str, Any], place: str) -> None:
    """Check an entry of ``report.claims``.

    Raises
    ------
    ConfigError
        For an unknown key, paper or metric, a side without conditions, or a threshold that is none.
    """
    check_keys(spec, CLAIM_KEYS, place)
    if not spec.get("claim"):
        raise ConfigError("a claim needs its words", place, "claim: A is better than B")
    for side in ("where_a", "where_b"):
        if not texts_of(spec, side):
            raise ConfigError(f"the claim has no {side}", place, f"{side}: [model=vgg-cnn, n_mels=96]")
        parse_conditions(texts_of(spec, side))
    paper, metric = spec.get("paper", PAPERS[0]), spec.get("metric", "loss")
    check_known(paper, PAPERS, f"unknown paper {paper!r}", place)
    check_known(metric, (*METRICS, "loss"), f"unknown metric {metric!r}", place)
    bounds = [spec[key] for key in ("at_least", "at_most") if key in spec]
    if len(bounds) != 1 or isinstance(bounds[0], bool) or not isinstance(bounds[0], int | float):
        fix = "at_least: 0 says that A is higher than B; at_most: 0.01 that it is higher by 0.01 at most"
        raise ConfigError("a claim needs one number, at_least or at_most", place, fix)


def judge_claims(runs: RunSet, claims: Sequence[Mapping[str, Any]], *, metric: str) -> list[ClaimResult]:
    """Say of each claim whether it holds for these runs.

    Parameters
    ----------
    runs : RunSet
        All runs that may speak: those of neither side help to estimate the noise of training.
    claims : sequence of mapping
        ``claim`` (words), ``paper``, ``where_a`` and ``where_b`` (conditions on the runs of the two sides), ``metric``,
        and ``at_least`` or ``at_most`` for the difference A less B, in the metric's unit.
    metric : str
        For claims that name none.

    Returns
    -------
    list of ClaimResult
        Each interval holds for its claim alone.

    Raises
    ------
    ConfigError
        For a claim with a fault. One whose sides cannot be compared has the reason.
    """
    found, tracks = [], TestTracks(runs)
    summary = summarise(runs) if len(runs) else None
    for number, spec in enumerate(claims):
        check_claim(spec, f"report.claims[{number}]")
        found.append(_judged({"metric": metric, **spec}, runs, summary, tracks))
    return found


def _judged(spec: Mapping[str, Any], runs: RunSet, summary: pd.DataFrame | None, tracks: TestTracks) -> ClaimResult:
    metric = str(spec["metric"])
    column = f"{metric}_mean"
    known: Any = None
    if summary is not None and column in summary:
        known = summary[summary[column].notna()].reset_index(drop=True)
    difference, low, high, reason = math.nan, math.nan, math.nan, ""
    sides: list[list[int]] = [[], []]
    try:
        if known is None or not len(known):
            raise ConfigError(f"no run has {title_of(metric)}")
        sides = [_rows(known, runs, texts_of(spec, f"where_{side}")) for side in "ab"]
        lacking = [name for name, rows in zip("AB", sides, strict=True) if not rows]
        if lacking:
            raise ConfigError(f"{' and '.join(lacking)} {'were' if len(lacking) > 1 else 'was'} not run")
        difference, low, high, reason = _difference(known, metric, sides, tracks)
    except ConfigError as error:  # such as a column that no run has: the report goes on
        reason = error.what
    ids = [tuple(run for row in rows for run in known["run_ids"][row]) for rows in sides]
    threshold = spec.get("at_least", spec.get("at_most"))
    return ClaimResult(
        claim=str(spec["claim"]),
        paper=str(spec.get("paper", "")),
        metric=metric,
        at_least=spec.get("at_least"),
        at_most=spec.get("at_most"),
        difference=difference,
        low=low,
        high=high,
        n_a=len(ids[0]),
        n_b=len(ids[1]),
        configurations_a=len(sides[0]),
        configurations_b=len(sides[1]),
        verdict=_verdict(low, high, float(threshold), least="at_least" in spec),
        reason=reason,
        run_ids=(*ids[0], *ids[1]),
    )


def _rows(summary: pd.DataFrame, runs: RunSet, conditions: Sequence[str]) -> list[int]:
    """Rows of a summary all of whose runs meet the conditions."""
    kept = {record.run_id for record in selected(runs, conditions)}
    return [row for row, ids in enumerate(summary["run_ids"]) if set(ids) <= kept]


def _difference(
    summary: pd.DataFrame, metric: str, sides: Sequence[Sequence[int]], tracks: TestTracks
) -> tuple[float, float, float, str]:
    """Mean of the first side less that of the second, its interval, and what the interval leaves out."""
    if set(sides[0]) & set(sides[1]):
        raise ConfigError("a configuration is on both sides of the claim")
    one_dataset(summary.iloc[[*sides[0], *sides[1]]], "claims")
    weights = np.zeros(len(summary))
    weights[list(sides[0])], weights[list(sides[1])] = 1 / len(sides[0]), -1 / len(sides[1])
    dataset = summary["dataset"].iloc[sides[0][0]]
    here = np.flatnonzero((summary["dataset"] == dataset).to_numpy())
    used = np.searchsorted(here, [*sides[0], *sides[1]]).tolist()
    study, words = study_of(summary.iloc[here].reset_index(drop=True), metric, tracks, rows=used)
    means = summary[f"{metric}_mean"].to_numpy(dtype=float)
    if study is None:
        return float(weights @ means), math.nan, math.nan, "every configuration has one seed"
    found = contrast(study, weights[here])
    reason = f"without the noise of the test tracks: {words}" if study.covariance is None else ""
    if lower_is_better(metric):  # a study's scores are better when greater
        return -found.value, -found.high, -found.low, reason
    return found.value, found.low, found.high, reason


def _verdict(low: float, high: float, threshold: float, *, least: bool) -> str:
    """What an interval of a difference says of a threshold.

    Examples
    --------
    >>> _verdict(0.01, 0.03, 0.0, least=True), _verdict(0.01, 0.03, 0.0, least=False)
    ('holds', 'does not hold')
    >>> _verdict(-0.01, 0.03, 0.0, least=True)
    'cannot be said'
    """
    if math.isnan(low) or math.isnan(high) or low <= threshold <= high:
        return "cannot be said"
    return "holds" if (low > threshold) == least else "does not hold"


def claim_table(results: Sequence[ClaimResult]) -> PaperTable:
    """The claims as a table of the page: shares in points."""
    rows = [[each.claim, each.paper or "–", _asked(each), _measured(each), each.verdict] for each in results]
    heads = ["claim", "paper", "A − B", "our measurement on this music", "verdict"]
    note = (
        "A − B, with its 95 % interval, is measured here; each interval holds for its claim alone. A claim holds, or "
        "does not hold, where the whole interval lies on one side of the threshold: on this music, at these sizes of "
        "models. It does not repeat the paper."
    )
    return PaperTable("Claims", heads, rows, [each.run_ids for each in results], note)


def _scale(metric: str) -> tuple[float, str, int]:
    """Factor, unit and digits in which a metric's differences are printed."""
    return (100.0, " points", 2) if in_points(metric) else (1.0, "", 4)


def _asked(result: ClaimResult) -> str:
    factor, unit, digits = _scale(result.metric)
    least = result.at_least is not None
    threshold = factor * float((result.at_least if least else result.at_most) or 0)
    text = f"{threshold:+.{digits}f}".rstrip("0").rstrip(".") if threshold else "0"
    return f"{title_of(result.metric)} {'above' if least else 'below'} {text}{unit}"


def _measured(result: ClaimResult) -> str:
    if math.isnan(result.difference):
        return result.reason
    factor, unit, digits = _scale(result.metric)
    text = f"{factor * result.difference:+.{digits}f}{unit}"
    if not math.isnan(result.low):
        text += f" [{factor * result.low:+.{digits}f}, {factor * result.high:+.{digits}f}]"
    several = max(result.configurations_a, result.configurations_b) > 1
    of = f" of {result.configurations_a} and {result.configurations_b} configurations" if several else ""
    return f"{text}; {result.n_a} and {result.n_b} runs{of}{f'; {result.reason}' if result.reason else ''}"
