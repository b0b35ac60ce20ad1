"""Plain questions: the smallest that is good enough, the best that fits on a disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError, did_you_mean
from featstore.metrics import bounds_of, lower_is_better
from featstore.results.fronts import AXES, one_dataset
from featstore.results.significance import Comparison, TestName, compare
from featstore.results.units import format_bytes, format_seconds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Choice", "cost_name", "fit_budget", "minimise", "predicted_bytes"]

_SHORT = {
    "bytes": "bytes_alone",
    "added": "bytes_added",
    "time": "seconds_train",
    "train": "seconds_train",
    "inference": "seconds_inference",
    "extract": "seconds_extract",
}


@dataclass(frozen=True)
class Choice:
    """An answer with its alternatives.

    Attributes
    ----------
    frame : DataFrame
        Rows of the summary that meet the question, the answer first.
    sentence : str
        The answer in words.
    loss : Comparison
        The answer compared with the best of all that was asked about, answer − best.
    considered : int
        Rows that were looked at.
    """

    frame: pd.DataFrame
    sentence: str
    loss: Comparison
    considered: int

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        from featstore.results.tables import plain_rows

        rows = plain_rows(self.frame)
        return {
            "answer": rows[0],
            "sentence": self.sentence,
            "loss": self.loss.as_json(),
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
    if name not in AXES:
        raise ConfigError(f"{text!r} is no cost", "--minimise", did_you_mean(text, [*AXES, *_SHORT]))
    return name


def minimise(
    summary: pd.DataFrame,
    cost: str = "bytes_alone",
    *,
    metric: str = "roc_auc",
    at_least: Mapping[str, float] | None = None,
    within: tuple[float, bool] | None = None,
    sure: bool = False,
    test: TestName = "welch",
) -> Choice:
    """Find the cheapest configuration that is good enough.

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
        Ask the end of the interval, not the mean, to meet ``at_least``.

    Raises
    ------
    ConfigError
        For an unknown name, or when nothing is good enough; the message names the best there is.
    """
    name = cost_name(cost)
    one_dataset(summary, "report query")
    known = summary[summary[name].notna() & _column(summary, f"{metric}_mean").notna()]
    best = _best_row(known, metric)
    good = known
    for wanted, bound in (at_least or {}).items():
        side = "mean" if not sure else "high" if lower_is_better(wanted) else "low"
        values = _column(good, f"{wanted}_{side}")
        good = good[values <= bound] if lower_is_better(wanted) else good[values >= bound]
    if within is not None:
        reach = within[0] * (abs(float(best[f"{metric}_mean"])) if within[1] else 1)
        means = good[f"{metric}_mean"]
        bad = means - best[f"{metric}_mean"] if lower_is_better(metric) else best[f"{metric}_mean"] - means
        good = good[bad <= reach * (1 + 1e-9)]
    if not len(good):
        asked = ", ".join(f"{key} of {value:g}" for key, value in (at_least or {}).items()) or "what is asked for"
        raise ConfigError(
            f"no configuration reaches {asked}{' with its whole interval' if sure else ''}",
            "report query",
            f"The best is {best['label']} with {metric} {best[f'{metric}_mean']:.4f}",
        )
    ordered = good.sort_values([name, f"{metric}_mean"], ascending=[True, lower_is_better(metric)], kind="stable")
    ordered = ordered.reset_index(drop=True)
    return _choice(ordered, best, metric, test, len(known), f"costs {_cost_text(name, ordered.iloc[0][name])}")


def fit_budget(
    summary: pd.DataFrame,
    budget: int,
    tracks: int,
    *,
    metric: str = "roc_auc",
    track_seconds: float | None = None,
    test: TestName = "welch",
) -> Choice:
    """Find the best configuration whose features of ``tracks`` tracks fit in ``budget`` bytes.

    Parameters
    ----------
    budget : int
        Bytes.
    tracks : int
        Size of the collection.
    track_seconds : float, optional
        Mean duration of its tracks; by default that of the measured store.

    Raises
    ------
    ConfigError
        When nothing fits; the message names the smallest there is.
    """
    one_dataset(summary, "report query")
    sizes = predicted_bytes(summary, tracks, track_seconds=track_seconds)
    known = summary.assign(bytes_predicted=sizes)[sizes.notna() & _column(summary, f"{metric}_mean").notna()]
    if not len(known):
        raise ConfigError("no run says how many tracks its bytes are for", "--budget", "Bytes cannot be predicted")
    best = _best_row(known, metric)
    fits = known[known["bytes_predicted"] <= budget]
    if not len(fits):
        least = known.iloc[int(known["bytes_predicted"].argmin())]
        raise ConfigError(
            f"nothing fits in {format_bytes(budget)} for {tracks:,} tracks",
            "--budget",
            f"The smallest is {least['label']} with {format_bytes(least['bytes_predicted'])}",
        )
    ordered = fits.sort_values(
        [f"{metric}_mean", "bytes_predicted"], ascending=[lower_is_better(metric), True], kind="stable"
    ).reset_index(drop=True)
    size = float(ordered["bytes_predicted"].iloc[0])
    needs = (
        f"needs {format_bytes(size)} for {tracks:,} tracks ({100 * size / budget:.0f} % of {format_bytes(budget)}; "
        f"the best would need {format_bytes(best['bytes_predicted'])})"
    )
    return _choice(ordered, best, metric, test, len(known), needs)


def predicted_bytes(summary: pd.DataFrame, tracks: int, *, track_seconds: float | None = None) -> pd.Series:
    """Bytes of each configuration for a collection: in proportion to tracks, or to hours when a duration is given."""
    if track_seconds is not None:
        return summary["bytes_per_hour"] * (tracks * track_seconds / 3600)
    return summary["bytes_per_track"] * float(tracks)


def _choice(ordered: pd.DataFrame, best: pd.Series, metric: str, test: TestName, considered: int, cost: str) -> Choice:
    """Put the answer in words, and compare it with the best."""
    answer = ordered.iloc[0]
    loss = compare(answer[f"{metric}_values"], best[f"{metric}_values"], test=test, bounds=bounds_of(metric))
    std = answer[f"{metric}_std"]
    score = f"{answer[f'{metric}_mean']:.4f}" + (f" ± {std:.4f}" if std == std else "")
    words = f"{answer['label']}: {cost}, {metric} {score} (n={int(answer[f'{metric}_n'])})"
    if answer["run_ids"] == best["run_ids"]:
        sentence = f"{words}; it is the best of all {considered}."
    else:
        sentence = f"{words}; against the best of all {considered}, {best['label']}: {loss}."
    return Choice(ordered, sentence, loss, considered)


def _best_row(frame: pd.DataFrame, metric: str) -> pd.Series:
    if not len(frame):
        raise ConfigError(f"no configuration has both the cost and {metric}", "report query", "Choose other columns")
    means = frame[f"{metric}_mean"]
    return frame.iloc[int(means.argmin() if lower_is_better(metric) else means.argmax())]


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame:
        metrics = [str(column).removesuffix("_values") for column in frame if str(column).endswith("_values")]
        wanted = name.rpartition("_")[0]
        raise ConfigError(f"no run has the metric {wanted!r}", "report query", did_you_mean(wanted, metrics))
    return frame[name]


def _cost_text(name: str, value: float) -> str:
    if name.startswith("bytes"):
        return format_bytes(value) + {"bytes_per_hour": " per hour", "bytes_per_track": " per track"}.get(name, "")
    if name.startswith("seconds"):
        return format_seconds(value) + {"seconds_train": " of training"}.get(name, "")
    return f"{value:.4g} {name}"
