"""The runs of a recipe that fit a budget: successive halving over its rows, by validation scores.

A row is a model's entry with a feature, with all its seeds and folds. Short runs lie in ``rungs/``, apart from
``runs/``, and have no test scores: no front and no bound ever contains them. ``selection.json`` keeps what was decided,
so that a call that was stopped goes on with the same rows.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from featstore.atomic import DAMAGED, json_object, write_json
from featstore.errors import ConfigError, FeatstoreError
from featstore.log import progress
from featstore.metrics import lower_is_better, title_of
from featstore.results.paper_tables import PaperTable
from featstore.training import TrainConfig
from featstore.training.settings import merge
from featstore.units import counted
from featstore.workflows.ladder import RowCost, Rung, fitting_rungs, rung_seconds, shortened
from featstore.workflows.sweep import PlannedRun, RunOutcome, carry_out, failures, forecast_run

__all__ = ["run_within", "selection_table"]

logger = logging.getLogger(__name__)

SELECTION = "selection.json"
RUNGS = "rungs"


@dataclass(frozen=True, slots=True)
class _Row:
    """A model's entry with a feature: its name is the place of its runs, ``LABEL/FEATURE``."""

    name: str
    runs: tuple[PlannedRun, ...]

    @property
    def first(self) -> tuple[PlannedRun, ...]:
        """Runs of the first seed: one, or one for each fold."""
        return tuple(run for run in self.runs if run.seed == self.runs[0].seed)

    @property
    def text(self) -> str:
        """The row in words."""
        return f"{self.name.partition('/')[0]}: {self.runs[0].short}"


@dataclass(slots=True)
class _State:
    """What was decided, as ``selection.json`` has it.

    Attributes
    ----------
    minutes : float
        The budget.
    metric : str
    rows : dict of str to dict
        Row to ``text``, ``status``, and ``rung``, ``epochs`` and validation ``score`` of where it came last.
    rungs : list of dict
        Fields of each ``Rung``, and ``kept``: the rows that entered it, once that is decided.
    forecasts : dict of str to dict
        Row to the fields of its ``RowCost`` and the digest of the settings that it is of.
    """

    path: Path
    minutes: float
    metric: str
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    rungs: list[dict[str, Any]] = field(default_factory=list)
    forecasts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, minutes: float, metric: str, rows: Sequence[_Row]) -> _State:
        """Take up what is there, where it is of the same budget and rows; forecasts stay in any case."""
        found = cls(path, minutes, metric, {row.name: {"text": row.text, "status": "waiting"} for row in rows})
        try:
            there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            found.forecasts = dict(there.get("forecasts", {}))
            same = (there.get("minutes"), there.get("metric")) == (minutes, metric)
            if same and there["rows"].keys() == found.rows.keys():
                found.rows, found.rungs = there["rows"], there["rungs"]
        except (OSError, ValueError, LookupError, AttributeError) as error:
            logger.warning("the selection is made again, %s cannot be read: %s", path, error)
        return found

    def write(self) -> None:
        """Keep it."""
        kept = {key: value for key, value in asdict(self).items() if key != "path"}
        write_json(self.path, kept)


def run_within(runs: Sequence[PlannedRun], folder: Path, *, minutes: float, metric: str, jobs: int) -> list[str]:
    """Carry out the part of some runs that fits a budget of training; the others stay untrained.

    Parameters
    ----------
    runs : sequence of PlannedRun
        Of the whole recipe, below ``folder/runs``.
    folder : path
        Of the recipe; gets ``rungs/`` and ``selection.json``.
    minutes : float
        Of training on the clock, forecasts not counted; called again with the same number it goes on.
    metric : str
        Rows with better validation scores of it are kept.
    jobs : int
        Runs side by side.

    Returns
    -------
    list of str
        What failed.

    Raises
    ------
    PlanError
        When even the cheapest selection does not fit; the message says how many minutes it needs.
    """
    rows = _rows(runs, folder)
    state = _State.read(folder / SELECTION, minutes, metric, list(rows.values()))
    failed = _forecast(state, rows, jobs)
    costs = {name: _cost(state.forecasts[name]) for name in rows if name in state.forecasts}
    alive = [name for name in rows if name in costs]
    if not state.rungs:
        n_seeds = max(len({run.seed for run in row.runs}) for row in rows.values())
        rungs = fitting_rungs([costs[name] for name in alive], n_seeds=n_seeds, budget_s=60 * minutes, jobs=jobs)
        state.rungs = [asdict(rung) for rung in rungs]
    ladder = [Rung(**{key: each[key] for key in ("part", "rows", "seeds")}) for each in state.rungs]
    done: list[tuple[float, float]] = []  # seconds that were forecast, and that it took
    for number, rung in enumerate(ladder):
        place = f"rung {number + 1} of {len(ladder)}"
        if "kept" not in state.rungs[number]:
            state.rungs[number]["kept"] = _kept(alive, costs, ladder[number:], 60 * minutes, done, jobs)
        kept = [name for name in state.rungs[number]["kept"] if name in costs]
        for name in set(alive) - set(kept):
            state.rows[name]["status"] = f"dropped at rung {number} of {len(ladder)}"
        state.write()
        last = number == len(ladder) - 1
        planned = {name: _runs_of(rows[name], rung, folder, last=last) for name in kept}
        outcomes = carry_out([run for each in planned.values() for run in each], jobs=jobs)
        failed += failures(outcomes)
        by_run = {one.run.out: one for one in outcomes}
        alive = []
        for name in kept:
            own = [by_run[run.out] for run in planned[name]]
            alive += [name] if _note(state, name, own, metric, place, last=last) else []
        alive = _ranked(alive, state, metric)
        forecast = sum(costs[name].seconds(rung.share) for name in kept) * rung.seeds / jobs
        done.append((forecast, sum(one.seconds for one in outcomes) / jobs))
        state.write()
    return failed


def _rows(runs: Sequence[PlannedRun], folder: Path) -> dict[str, _Row]:
    """Rows by name, in the order of their runs."""
    grouped: dict[str, list[PlannedRun]] = {}
    for run in runs:
        parts = Path(run.out).relative_to(folder / "runs").parts
        grouped.setdefault("/".join(parts[:2]), []).append(run)
    return {name: _Row(name, tuple(own)) for name, own in grouped.items()}


def _forecast(state: _State, rows: Mapping[str, _Row], jobs: int) -> list[str]:
    """Time a few steps of each row that has no forecast yet; what failed."""
    failed = []
    digests = {name: TrainConfig.digest(row.runs[0].settings) for name, row in rows.items()}
    waiting = [name for name in rows if state.forecasts.get(name, {}).get("settings") != digests[name]]
    for name in progress(waiting, desc="forecast", unit="row"):
        run = rows[name].runs[0]
        alone = replace(run, settings=merge(run.settings, {"device": {"threads": 1}})) if jobs > 1 else run
        state.forecasts.pop(name, None)
        try:
            cost = _measured(forecast_run(alone), run, len(rows[name].first))
        except FeatstoreError as error:
            state.rows[name]["status"] = "failed before rung 1"
            failed.append(f"{name}: {error}")
        else:
            state.forecasts[name] = asdict(cost) | {"settings": digests[name]}
        state.write()
    return failed


def _measured(found: Mapping[str, Any] | None, run: PlannedRun, folds: int) -> RowCost:
    """The cost of a row from a forecast; models that are fitted at once count as nothing."""
    if found is None:
        return RowCost(1, 0.0, 0.0)
    every = int(run.settings.get("loop", {}).get("validate_every", 1))
    epoch = found["steps_per_epoch"] * found["seconds_per_step"] + found["seconds_validate"] / every
    tracks = found["tracks"]
    scored = 1 + tracks.get("test", 0) / max(1, tracks.get("valid", 0))
    return RowCost(found["epochs"], folds * epoch, folds * scored * found["seconds_validate"])


def _cost(forecast: Mapping[str, Any]) -> RowCost:
    return RowCost(**{key: forecast[key] for key in ("epochs", "epoch_s", "fixed_s")})


def _kept(
    ranked: Sequence[str],
    costs: Mapping[str, RowCost],
    rungs: Sequence[Rung],
    budget_s: float,
    done: Sequence[tuple[float, float]],
    jobs: int,
) -> list[str]:
    """The best rows that enter a rung: as many as it has, fewer where the rest of the budget asks for it, never none.

    What the rungs before took, against their forecast, is the pace of those to come.
    """
    forecast, took = (sum(values) for values in zip(*done, strict=True)) if done else (0.0, 0.0)
    pace = took / forecast if forecast else 1.0
    kept = list(ranked[: rungs[0].rows])
    while len(kept) > 1 and done:
        here = sum(costs[name].seconds(rungs[0].share) for name in kept) * rungs[0].seeds / jobs
        halves = [replace(rung, rows=math.ceil(len(kept) / 2**after)) for after, rung in enumerate(rungs[1:], 1)]
        later = sum(rung_seconds([costs[name] for name in kept], rung, jobs) for rung in halves)
        if pace * (here + later) <= budget_s - took:
            break
        kept.pop()
    return kept


def _runs_of(row: _Row, rung: Rung, folder: Path, *, last: bool) -> list[PlannedRun]:
    """Runs of a row on a rung: its own on the last, short ones of the first seed before."""
    if last:
        return list(row.runs)
    base = folder / RUNGS / f"1of{rung.part}"
    places = [str(base / Path(run.out).relative_to(folder / "runs")) for run in row.first]
    return [
        replace(run, out=place, settings=shortened(run.settings, rung.share))
        for run, place in zip(row.first, places, strict=True)
    ]


def _note(state: _State, name: str, outcomes: Sequence[RunOutcome], metric: str, place: str, *, last: bool) -> bool:
    """Keep what became of a row on a rung; False where it failed."""
    row = state.rows[name]
    scores = [one.scores.get("valid", {}).get(metric) for one in outcomes if one.state != "failed"]
    known = [float(score) for score in scores if score is not None and math.isfinite(score)]
    row |= {"rung": place, "epochs": outcomes[0].run.epochs, "runs": len(known)}
    row["score"] = sum(known) / len(known) if known else None
    if not known or (not last and len(known) < len(outcomes)):
        row["status"] = f"failed at {place}"
        return False
    row["status"] = "trained in full" if last else "waiting"
    return True


def _ranked(names: Iterable[str], state: _State, metric: str) -> list[str]:
    """Rows by their validation scores, best first; of equals the cheaper one, which comes first in the recipe."""
    sign = 1 if lower_is_better(metric) else -1
    return sorted(names, key=lambda name: sign * float(state.rows[name]["score"]))


def selection_table(folder: str | Path) -> PaperTable | None:
    """Every row that a budget was divided among: how far it came, and its validation score there; None without one.

    Rows that were dropped and trained in full later, without a budget, say so.

    Raises
    ------
    ConfigError
        When the file of the selection is damaged.
    """
    path = Path(folder) / SELECTION
    if not path.is_file():
        return None
    try:
        there = json_object(path.read_bytes())
        minutes, metric, rows, made = (there[key] for key in ("minutes", "metric", "rows", "rungs"))
    except DAMAGED as error:
        fix = "Run again with --budget-minutes, which makes it again, or delete it"
        raise ConfigError(f"the selection cannot be read: {error}", str(path), fix) from error
    runs = Path(folder) / "runs"
    found = []
    for name, row in rows.items():
        full = any((runs / name).rglob("result.json"))
        status = "trained in full" if full else row["status"]
        score = row.get("score")
        cells = [row["text"], status, str(row.get("epochs", "–")), "–" if score is None else f"{score:.4f}"]
        found.append((not full, -1 if score is None else row["epochs"], score or 0.0, cells))
    worse = 1 if lower_is_better(metric) else -1
    found.sort(key=lambda each: (each[0], -each[1], worse * each[2]))
    rungs = "; ".join(map(_rung_words, made))
    note = (
        f"A budget of {minutes:g} minutes of training was divided by successive halving on validation scores: "
        f"{rungs}. Dropped rows have no test score, and scores after different numbers of epochs do not compare."
    )
    heads = ["configuration", "status", "epochs", f"validation {title_of(metric)}"]
    return PaperTable("Rows of the budget", heads, [each[3] for each in found], [() for _ in found], note)


def _rung_words(rung: Mapping[str, Any]) -> str:
    epochs = "all epochs" if rung["part"] == 1 else f"1/{rung['part']} of the epochs"
    return f"{counted(len(rung.get('kept', [])), 'row')}, {epochs}, {counted(rung['seeds'], 'seed')}"
