"""Plain questions: the smallest that is good enough, the best that fits on a disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError, check_known
from featstore.metrics import lower_is_better
from featstore.results.costs import COSTS, cost_text
from featstore.results.frames import metrics_of
from featstore.results.fronts import MARGIN, one_dataset, pareto
from featstore.results.losses import Losses, bounded_losses
from featstore.results.sentences import answer_sentences, loss_words
from featstore.results.tables import plain_rows
from featstore.units import format_bytes, format_rate

if TYPE_CHECKING:
    import pandas as pd

    from featstore.results.run_set import RunSet

__all__ = ["Choice", "cost_name", "fit_budget", "good_enough", "minimise", "predicted_bytes"]

_SHORT = {short: name for name, cost in COSTS.items() for short in cost.short}


@dataclass(frozen=True)
class Choice:
    """An answer with its alternatives.

    Attributes
    ----------
    frame : DataFrame
        Rows that meet the question, the answer first, with the bounds of ``Losses.frame``.
    sentence : str
        The answer in words.
    metric : str
    considered : int
        Rows that were looked at.
    statement : str
        What the bounds rest on.
    """

    frame: pd.DataFrame
    sentence: str
    metric: str
    considered: int
    statement: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        rows = plain_rows(self.frame)
        return {
            "answer": rows[0],
            "sentence": self.sentence,
            "metric": self.metric,
            "statement": self.statement,
            "considered": self.considered,
            "rows": rows,
        }


def cost_name(text: str) -> str:
    """Full name of a cost: ``bytes`` is ``bytes_alone``, ``time`` is ``seconds_train``.

    Raises
    ------
    ConfigError
        For an unknown cost.
    """
    name = _SHORT.get(text, text)
    check_known(name, [*COSTS, *_SHORT], f"{text!r} is no cost", "--minimise")
    return name


def good_enough(
    summary: pd.DataFrame,
    cost: str = "bytes_alone",
    *,
    metric: str = "roc_auc",
    margin: float = MARGIN,
    runs: RunSet | None = None,
) -> Choice:
    """Find the cheapest configuration that loses at most ``margin`` against the best, at 95 % confidence.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``, of one data set.
    cost : str
        What to keep small, see ``cost_name``.
    margin : float
        Loss that is accepted, on the scale of the metric.
    runs : RunSet, optional
        The runs behind the summary, for the noise of the test tracks.

    Raises
    ------
    ConfigError
        When none is known to; the message names the smallest bound and what would decide.
    """
    front = pareto(summary, cost_name(cost), metric, runs=runs, margin=margin)
    sentences = answer_sentences(front)
    good = front.frame[front.frame["loss_most"] <= margin]
    if not len(good):
        fix = "Accept a larger margin" if front.frame["loss_most"].notna().any() else ""
        raise ConfigError(" ".join(sentences).rstrip("."), f"--good-enough --margin {margin:g}", fix)
    return Choice(good.reset_index(drop=True), "\n".join(sentences), metric, len(front.frame), front.statement)


def minimise(
    summary: pd.DataFrame,
    cost: str = "bytes_alone",
    *,
    metric: str = "roc_auc",
    at_least: Mapping[str, float] | None = None,
    within: tuple[float, bool] | None = None,
    sure: bool = False,
    runs: RunSet | None = None,
) -> Choice:
    """Find the cheapest configuration whose measured mean is good enough.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``, of one data set.
    cost : str
        What to keep small, see ``cost_name``.
    metric : str
        The score that ``within`` and the loss are about.
    at_least : mapping, optional
        Least mean of each metric (for losses: the greatest).
    within : (float, bool), optional
        How much worse than the best mean is allowed; True makes it a share of the best, False a number of the
        metric's own unit.
    sure : bool
        Ask the end of the interval, not the mean, to meet ``at_least``; and the bound on the loss, not the measured
        one, to meet ``within``.
    runs : RunSet, optional
        The runs behind the summary, for the noise of the test tracks.

    Raises
    ------
    ConfigError
        For an unknown name, or when nothing is good enough; the message names the best there is.

    See Also
    --------
    good_enough : The question that takes the uncertainty of the means into account.
    """
    name = cost_name(cost)
    one_dataset(summary, "report query")
    losses = _bounded(summary, metric, runs, name)
    good, best = losses.frame, losses.frame.iloc[losses.best]
    for wanted, bound in (at_least or {}).items():
        side = "mean" if not sure else "high" if lower_is_better(wanted) else "low"
        values = _column(good, wanted, side)
        good = good[values <= bound] if lower_is_better(wanted) else good[values >= bound]
    if within is not None:
        reach = within[0] * (abs(float(best[f"{metric}_mean"])) if within[1] else 1)
        good = good[good["loss_most" if sure else "loss"] <= float(best["loss"]) + reach * (1 + 1e-9)]
    if not len(good):
        asked = ", ".join(f"{key} of {value:g}" for key, value in (at_least or {}).items()) or "what is asked for"
        raise ConfigError(
            f"no configuration reaches {asked}{' with its whole interval' if sure else ''}",
            "report query",
            f"The best is {best['label']} with {metric} {best[f'{metric}_mean']:.4f}",
        )
    ordered = good.sort_values([name, f"{metric}_mean"], ascending=[True, lower_is_better(metric)], kind="stable")
    return _choice(ordered, losses, losses.frame, f"costs {_cost_text(name, ordered.iloc[0][name])}")


def fit_budget(
    summary: pd.DataFrame,
    budget: int,
    tracks: int,
    *,
    metric: str = "roc_auc",
    track_seconds: float | None = None,
    runs: RunSet | None = None,
) -> Choice:
    """Find what to store in ``budget`` bytes for ``tracks`` tracks: the configuration that is sure to lose the least.

    Where nothing was repeated, the best mean decides.

    Parameters
    ----------
    budget : int
        Bytes.
    tracks : int
        Size of the collection.
    track_seconds : float, optional
        Mean duration of its tracks; by default that of the measured store.
    runs : RunSet, optional
        The runs behind the summary, for the noise of the test tracks.

    Raises
    ------
    ConfigError
        When nothing fits; the message names the smallest there is.
    """
    one_dataset(summary, "report query")
    losses = _bounded(summary, metric, runs)
    sizes = predicted_bytes(losses.frame, tracks, track_seconds=track_seconds)
    known = losses.frame.assign(bytes_predicted=sizes)[sizes.notna()].reset_index(drop=True)
    if not len(known):
        raise ConfigError("no run says how many tracks its bytes are for", "--budget", "Bytes cannot be predicted")
    fits = known[known["bytes_predicted"] <= budget]
    if not len(fits):
        least = known.iloc[int(known["bytes_predicted"].argmin())]
        raise ConfigError(
            f"nothing fits in {format_bytes(budget)} for {tracks:,} tracks",
            "--budget",
            f"The smallest is {least['label']} with {format_bytes(least['bytes_predicted'])}",
        )
    ordered = fits.sort_values(["loss_most", "loss", "bytes_predicted"], kind="stable")  # bounds: of all rows or none
    size, best = float(ordered["bytes_predicted"].iloc[0]), _best(known)
    needs = (
        f"needs {format_bytes(size)} for {tracks:,} tracks ({100 * size / budget:.0f} % of {format_bytes(budget)}; "
        f"the best mean would need {format_bytes(best['bytes_predicted'])})"
    )
    return _choice(ordered, losses, known, needs)


def predicted_bytes(summary: pd.DataFrame, tracks: int, *, track_seconds: float | None = None) -> pd.Series:
    """Bytes of each configuration for a collection: in proportion to tracks, or to hours when a duration is given."""
    if track_seconds is not None:
        return summary["bytes_per_hour"] * (tracks * track_seconds / 3600)
    return summary["bytes_per_track"] * float(tracks)


def _bounded(summary: pd.DataFrame, metric: str, runs: RunSet | None, cost: str = "") -> Losses:
    """Rows with the metric and the cost, and their bounds."""
    known = summary[_column(summary, metric, "mean").notna()]
    if cost:
        known = known[known[cost].notna()]
    if not len(known):
        raise ConfigError(f"no configuration has both the cost and {metric}", "report query", "Choose other columns")
    return bounded_losses(known, metric, runs)


def _choice(ordered: pd.DataFrame, losses: Losses, known: pd.DataFrame, cost: str) -> Choice:
    """Put the answer in words, with its bound against the best of all that was considered."""
    metric, answer, best = losses.metric, ordered.iloc[0], _best(known)
    std = answer[f"{metric}_std"]
    score = f"{answer[f'{metric}_mean']:.4f}" + (f" ± {std:.4f}" if std == std else "")
    rate = "" if answer["rate_bps"] != answer["rate_bps"] else f"{format_rate(answer['rate_bps'])}, "
    words = f"{answer['label']}: {rate}{cost}, {metric} {score} (n={int(answer[f'{metric}_n'])})"
    side = "above" if lower_is_better(metric) else "below"
    if answer["run_ids"] == best["run_ids"]:
        words += f"; it has the best mean of all {len(known)}"
    else:
        measured = loss_words(metric, float(answer["loss"]))
        words += f"; measured {measured} {side} {best['label']}, the best of all {len(known)}"
    if np.isfinite(answer["loss_most"]) and answer["loss_most"] > 0:
        words += f"; at most {loss_words(metric, float(answer['loss_most']))} {side} the best (95 %)"
    if answer["loss_least"] > 0:
        words += f", at least {loss_words(metric, float(answer['loss_least']), up=False)}"
    return Choice(ordered.reset_index(drop=True), f"{words}.", metric, len(known), losses.statement)


def _best(rows: pd.DataFrame) -> pd.Series:
    return rows.iloc[int(rows["loss"].to_numpy(dtype=float).argmin())]


def _column(frame: pd.DataFrame, metric: str, part: str) -> pd.Series:
    check_known(metric, metrics_of(frame), f"no run has the metric {metric!r}", "report query")
    return frame[f"{metric}_{part}"]


def _cost_text(name: str, value: float) -> str:
    if name.startswith(("bytes", "rate", "seconds")):
        return cost_text(name, value) + _OF.get(name, "")
    return f"{value:.4g} {name}"


_OF = {"bytes_per_hour": " per hour", "bytes_per_track": " per track", "seconds_train": " of training"}
