"""Successive halving as arithmetic: how many rungs, with which share of the epochs and how many rows, fit a budget.

Every rung but the last trains one seed; a rung has half of the rows of the one before and twice its epochs. The last
has the full epochs and all seeds.

References
----------
K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featstore.errors import PlanError
from featstore.training.settings import merge
from featstore.units import counted

__all__ = ["RowCost", "Rung", "fitting_rungs", "ladder", "rung_seconds", "shortened"]

_LEAST_ROWS = 2  # of the last rung: a single row is the best of nothing


@dataclass(frozen=True, slots=True)
class RowCost:
    """What a row of a recipe is forecast to take.

    Attributes
    ----------
    epochs : int
        Of a whole run, at most.
    epoch_s : float
        Seconds of an epoch, its validation included.
    fixed_s : float
        Seconds of a run besides its epochs: it is built, and scored in the end.
    """

    epochs: int
    epoch_s: float
    fixed_s: float

    def seconds(self, share: float) -> float:
        """Seconds of a run of a share of the epochs."""
        return self.fixed_s + epochs_of(self.epochs, share) * self.epoch_s


@dataclass(frozen=True, slots=True)
class Rung:
    """One round: ``rows`` of the recipe, each trained for a share of its epochs (1 / ``part``) with some seeds."""

    part: int
    rows: int
    seeds: int

    @property
    def share(self) -> float:
        """Share of the epochs."""
        return 1 / self.part


def epochs_of(epochs: int, share: float) -> int:
    """Epochs of a share, one at least.

    Examples
    --------
    >>> epochs_of(10, 0.25), epochs_of(2, 0.125)
    (2, 1)
    """
    return max(1, round(epochs * share))


def ladder(n_rows: int, n_seeds: int, n_rungs: int) -> list[Rung]:
    """The rungs, from all rows with few epochs to few rows with all.

    Examples
    --------
    >>> [(rung.rows, rung.part, rung.seeds) for rung in ladder(12, 3, 3)]
    [(12, 4, 1), (6, 2, 1), (3, 1, 3)]
    """
    least = min(n_rows, _LEAST_ROWS)
    rows = [max(least, math.ceil(n_rows / 2**number)) for number in range(n_rungs)]
    last = n_rungs - 1
    return [Rung(2 ** (last - k), count, n_seeds if k == last else 1) for k, count in enumerate(rows)]


def rung_seconds(costs: Sequence[RowCost], rung: Rung, jobs: int) -> float:
    """Seconds of a rung, were its rows average ones of these."""
    mean = sum(cost.seconds(rung.share) for cost in costs) / max(1, len(costs))
    return mean * rung.rows * rung.seeds / jobs


def fitting_rungs(costs: Sequence[RowCost], *, n_seeds: int, budget_s: float, jobs: int) -> list[Rung]:
    """The fewest rungs whose forecast fits the budget: one, where all rows with all seeds do.

    Parameters
    ----------
    costs : sequence of RowCost
        Of all rows.
    n_seeds : int
    budget_s : float
        Seconds on the clock.
    jobs : int
        Runs side by side.

    Raises
    ------
    PlanError
        When none fits; the message says how many minutes the cheapest takes.
    """
    epochs = max((cost.epochs for cost in costs), default=1)
    most = 1 + min(int(math.log2(epochs)), max(0, math.ceil(math.log2(max(1, len(costs)) / _LEAST_ROWS))))
    options = [ladder(len(costs), n_seeds, count) for count in range(1, most + 1)]
    seconds = [sum(rung_seconds(costs, rung, jobs) for rung in rungs) for rungs in options]
    for rungs, needed in zip(options, seconds, strict=True):
        if needed <= budget_s:
            return rungs
    minutes = math.ceil(min(seconds) / 60)
    verb = "needs" if len(costs) == 1 else "need"
    least = f"{counted(len(costs), 'row')} {verb} at least {counted(minutes, 'minute')}"
    found = f"{least} of training, and the budget is {budget_s / 60:g}"
    fix = f"Give --budget-minutes {minutes}, fewer rows (--only), fewer seeds, or fewer epochs"
    raise PlanError(found, "--budget-minutes", fix)


def shortened(settings: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Settings of a run of a share of the epochs, scored on the validation split alone.

    Whatever is counted in epochs is shortened alike, so that a schedule comes to its end.
    """
    loop, schedule, start = (dict(settings.get(name) or {}) for name in ("loop", "schedule", "start"))
    epochs = epochs_of(int(loop.get("epochs", 50)), share)
    short: dict[str, Any] = {"loop": {"epochs": epochs}, "evaluate": {"splits": ["valid"], "bootstrap": 0}}
    if int(loop.get("validate_every", 1)) > epochs:
        short["loop"]["validate_every"] = epochs
    parts: dict[str, Any] = {}
    if "step_epochs" in schedule:
        parts["step_epochs"] = epochs_of(int(schedule["step_epochs"]), share)
    if schedule.get("milestones"):
        parts["milestones"] = sorted({epochs_of(int(each), share) for each in schedule["milestones"]})
    if "warmup_epochs" in schedule:
        parts["warmup_epochs"] = share * float(schedule["warmup_epochs"])
    if parts:
        short["schedule"] = parts
    if "freeze_epochs" in start:
        short["start"] = {"freeze_epochs": share * float(start["freeze_epochs"])}
    return merge(settings, short)
