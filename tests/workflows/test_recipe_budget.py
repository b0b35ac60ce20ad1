"""A budget over the rows of a recipe: what fits, what is dropped when, and that a stopped call goes on as it began."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from featstore.errors import ConfigError, DatasetError, PlanError
from featstore.results import read_results
from featstore.workflows import recipe_budget
from featstore.workflows.ladder import RowCost, fitting_rungs, ladder, rung_seconds, shortened
from featstore.workflows.recipe_budget import run_within, selection_table
from featstore.workflows.sweep import PlannedRun, RunOutcome
from featstore_cli.recipe import recipe as recipe_command

SEEDS = (0, 1, 2)
FORECAST = {
    "epochs": 8,
    "steps_per_epoch": 10,
    "seconds_per_step": 0.9,
    "seconds_validate": 1.0,
    "tracks": {"valid": 10, "test": 10},
}


def test_a_budget_that_holds_everything_drops_nothing() -> None:
    """Ten rows of 10 s with three seeds take 300 s, on two processes 150 s."""
    costs = [RowCost(10, 1.0, 0.0)] * 10
    [rung] = fitting_rungs(costs, n_seeds=3, budget_s=150, jobs=2)
    assert (rung.part, rung.rows, rung.seeds) == (1, 10, 3)
    rungs = fitting_rungs(costs, n_seeds=3, budget_s=149, jobs=2)
    assert [(each.part, each.rows, each.seeds) for each in rungs] == [(2, 10, 1), (1, 5, 3)]
    assert sum(rung_seconds(costs, each, 2) for each in rungs) == (10 * 5 + 5 * 3 * 10) / 2


def test_a_budget_that_holds_nothing_says_what_it_needs() -> None:
    costs = [RowCost(8, 10.0, 5.0)] * 12
    cheapest = ladder(12, 3, 4)
    needed = sum(rung_seconds(costs, each, 1) for each in cheapest) / 60
    with pytest.raises(PlanError, match=rf"12 rows need at least {int(np.ceil(needed))} minutes.*budget is 2"):
        fitting_rungs(costs, n_seeds=3, budget_s=120, jobs=1)
    assert fitting_rungs(costs, n_seeds=3, budget_s=60 * np.ceil(needed), jobs=1) == cheapest
    with pytest.raises(
        PlanError, match=r"1 row needs at least 1 minute of training, and the budget is 0\.5"
    ):  # one epoch cannot be halved
        fitting_rungs([RowCost(1, 40.0, 0.0)], n_seeds=1, budget_s=30, jobs=1)


def test_short_runs_keep_the_shape_of_their_schedule() -> None:
    settings = {
        "loop": {"epochs": 16, "validate_every": 8, "patience": 0},
        "schedule": {"name": "step", "milestones": [4, 8, 12], "step_epochs": 6, "warmup_epochs": 2},
        "evaluate": {"pool": "majority", "splits": ["valid", "test"]},
    }
    short = shortened(settings, 1 / 4)
    assert short["loop"] == {"epochs": 4, "validate_every": 4, "patience": 0}
    assert short["schedule"] == {"name": "step", "milestones": [1, 2, 3], "step_epochs": 2, "warmup_epochs": 0.5}
    assert short["evaluate"] == {"pool": "majority", "splits": ["valid"], "bootstrap": 0}
    assert settings["loop"]["epochs"] == 16


class Machine:
    """Carries runs out at once: the score of a row is its name's number, the time as forecast."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[tuple[str, int, int]] = []
        self.failing: set[str] = set()
        self.slower = 1.0
        monkeypatch.setattr(recipe_budget, "carry_out", self.carry_out)
        monkeypatch.setattr(recipe_budget, "forecast_run", self.forecast)

    def forecast(self, run: PlannedRun) -> dict:
        if run.model == "absent":
            raise DatasetError("the feature is not there")
        return FORECAST

    def carry_out(self, runs: Sequence[PlannedRun], jobs: int) -> list[RunOutcome]:
        return [self._one(run) for run in runs]

    def _one(self, run: PlannedRun) -> RunOutcome:
        label, epochs = Path(run.out).parts[-3], run.settings["loop"]["epochs"]
        if label in self.failing:
            return RunOutcome(run, "failed", "it broke")
        scores = {"valid": {"roc_auc": int(label.removeprefix("m")) / 100}}
        if not run.is_finished:
            self.trained.append((label, epochs, run.seed))
            Path(run.out).mkdir(parents=True)
            result = {"scores": scores, "seconds": {"train": self.slower * (10 * epochs + 2)}}
            (Path(run.out) / "result.json").write_text(json.dumps(result))
        took = json.loads((Path(run.out) / "result.json").read_text())["seconds"]["train"]
        return RunOutcome(run, "finished", "", scores, took)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def planned(folder: Path, count: int = 8, model: str = "conv-encoder") -> list[PlannedRun]:
    settings = {"loop": {"epochs": 8}}
    spec = "mel(n_mels=8)"
    return [
        PlannedRun("s", spec, model, str(folder / "runs" / f"m{row}" / "mel" / f"seed-{seed}"), "", seed, settings)
        for row in range(count)
        for seed in SEEDS
    ]


def rows(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "selection.json").read_text())["rows"]


def test_the_better_half_goes_on_by_validation_scores(machine: Machine, tmp_path: Path) -> None:
    """8 rows of 82 s and 3 seeds take 33 minutes; 8 rows of 2 epochs, 4 of 4 and 2 of 8 take 14."""
    assert run_within(planned(tmp_path), tmp_path, minutes=15, metric="roc_auc", jobs=1) == []
    assert machine.trained == [
        *((f"m{row}", 2, 0) for row in range(8)),
        *((f"m{row}", 4, 0) for row in (7, 6, 5, 4)),
        *((f"m{row}", 8, seed) for row in (7, 6) for seed in SEEDS),
    ]
    status = {name: row["status"] for name, row in rows(tmp_path).items()}
    assert status == {
        **{f"m{row}/mel": "dropped at rung 1 of 3" for row in range(4)},
        **{f"m{row}/mel": "dropped at rung 2 of 3" for row in (4, 5)},
        **{f"m{row}/mel": "trained in full" for row in (6, 7)},
    }
    assert rows(tmp_path)["m3/mel"]["epochs"] == 2 and rows(tmp_path)["m5/mel"]["score"] == 0.05
    table = selection_table(tmp_path)
    assert table is not None and [row[0].partition(":")[0] for row in table.rows] == [f"m{n}" for n in range(7, -1, -1)]
    assert table.rows[2][1:] == ["dropped at rung 2 of 3", "4", "0.0500"]
    assert (
        "8 rows, 1/4 of the epochs, 1 seed; 4 rows, 1/2 of the epochs, 1 seed; 2 rows, all epochs, 3 seeds"
        in table.note
    )
    assert not list((tmp_path / "runs").glob("m5")), "short runs lie apart from those that reports read"


@pytest.mark.parametrize("damaged", ['{"rows": {', "[]", '{"rows": {}}'])
def test_a_damaged_selection_is_an_error_with_a_way_out(damaged: str, tmp_path: Path) -> None:
    (tmp_path / "selection.json").write_text(damaged)
    with pytest.raises(ConfigError, match=r"the selection cannot be read: .*selection\.json.*--budget-minutes"):
        selection_table(tmp_path)


def test_a_second_call_goes_on_with_the_same_rows(machine: Machine, tmp_path: Path) -> None:
    run_within(planned(tmp_path), tmp_path, minutes=15, metric="roc_auc", jobs=1)
    before = (tmp_path / "selection.json").read_text()
    for path in [
        *(tmp_path / "runs" / "m6").rglob("result.json"),
        *(tmp_path / "rungs" / "1of2" / "m5").rglob("*.json"),
    ]:
        path.unlink()
        path.parent.rmdir()
    machine.trained.clear()
    run_within(planned(tmp_path), tmp_path, minutes=15, metric="roc_auc", jobs=1)
    assert machine.trained == [("m5", 4, 0), *(("m6", 8, seed) for seed in SEEDS)]
    assert (tmp_path / "selection.json").read_text() == before
    machine.trained.clear()
    run_within(planned(tmp_path), tmp_path, minutes=40, metric="roc_auc", jobs=1)  # all fit: what is finished stays
    assert sorted({label for label, _, _ in machine.trained}) == [f"m{row}" for row in range(6)]
    assert {row["status"] for row in rows(tmp_path).values()} == {"trained in full"}


def test_a_machine_that_is_slower_than_forecast_keeps_fewer_rows(machine: Machine, tmp_path: Path) -> None:
    machine.slower = 1.5
    run_within(planned(tmp_path), tmp_path, minutes=15, metric="roc_auc", jobs=1)
    assert [label for label, epochs, _ in machine.trained if epochs > 2] == ["m7", "m6", "m7", "m7", "m7"]
    assert sum(machine.slower * (10 * epochs + 2) for _, epochs, _ in machine.trained) <= 15 * 60


def test_a_failing_row_ends_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.failing = {"m7"}
    runs = [*planned(tmp_path), *(planned(tmp_path, 9, "absent")[-3:])]
    failed = run_within(runs, tmp_path, minutes=15, metric="roc_auc", jobs=1)
    assert len(failed) == 2 and "the feature is not there" in failed[0] and "it broke" in failed[1]
    status = {name: row["status"] for name, row in rows(tmp_path).items()}
    assert status["m8/mel"] == "failed before rung 1" and status["m7/mel"] == "failed at rung 1 of 3"
    assert [name for name, text in status.items() if text == "trained in full"] == ["m5/mel", "m6/mel"]


PLAN = """
features: ["mel(sample_rate=8000,n_mels=8,hop_length=256)"]
models:
  - {model: conv-encoder, name: a}
  - {model: conv-encoder, name: b, settings: {model: {width: 4}}}
  - {model: conv-encoder, name: c, settings: {optimizer: {learning_rate: 1.0e-9}}}
  - {model: conv-encoder, name: d, settings: {model: {width: 2}}}
seeds: [0, 1]
settings:
  model: {width: 8, blocks: 1}
  data: {crop_s: 0.5, batch_size: 4, split: random, fractions: [0.4, 0.2, 0.4]}
  loop: {epochs: 4, patience: 0}
  evaluate: {bootstrap: 0}
report: {metric: accuracy}
"""


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows of forecast 40 s an epoch: 21 minutes in full, 8 rows' worth by halving."""
    slow = {**FORECAST, "epochs": 4, "seconds_per_step": 4.0, "seconds_validate": 0.0}
    monkeypatch.setattr(recipe_budget, "forecast_run", lambda run: slow)
    time = np.arange(8000) / 8000
    for label, pitch in (("low", 300), ("high", 1500)):
        for number in range(6):
            path = tmp_path / "music" / label / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.2 * np.sin(2 * np.pi * pitch * time + number), 8000)
    (tmp_path / "plan.yaml").write_text(PLAN)
    words = ["run", str(tmp_path), "--data", f"folder={tmp_path / 'music'}", "-o", str(tmp_path / "out"), "-j", "1"]
    result = CliRunner().invoke(recipe_command, [*words, "--budget-minutes", "5"])
    assert result.exit_code == 1 and "4 rows need at least 16 minutes" in str(result.exception)
    result = CliRunner().invoke(recipe_command, [*words, "--budget-minutes", "20"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Rows of the budget:" in result.output and result.output.count("dropped at rung 1 of 2") == 2
    runs = read_results(tmp_path / "out" / "runs")
    assert len(runs) == 4 and all(run.result["epochs"] == 4 for run in runs)
    short = read_results(tmp_path / "out" / "rungs")
    assert len(short) == 4 and all(run.result["epochs"] == 2 and set(run.scores) == {"valid"} for run in short)
    kept = json.loads((tmp_path / "out" / "report" / "answer.json").read_text())["selection"]
    assert [row["status"] for row in kept] == ["trained in full"] * 2 + ["dropped at rung 1 of 2"] * 2
    assert len((tmp_path / "out" / "report" / "selection.csv").read_text().splitlines()) == 5
