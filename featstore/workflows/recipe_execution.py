"""Carrying out a recipe in a folder: stage by stage, and what the folder keeps of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.atomic import remove_abandoned, remove_abandoned_in, write_text
from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.errors import ConfigError, PlanError
from featstore.extract import ExtractOptions, ExtractReport, extract
from featstore.models import check_installed
from featstore.plain_yaml import parse_yaml
from featstore.typed_values import build
from featstore.workflows.derive import derive
from featstore.workflows.recipe_features import changed_weights, own_features
from featstore.workflows.recipe_runs import check_trainable, planned_runs, with_drawn_splits
from featstore.workflows.recipe_starts import linked, starts_on
from featstore.workflows.recipe_weights import named_weights, weights_of, with_encoders
from featstore.workflows.recipes import KEPT, Recipe
from featstore.workflows.selection import STAGES, ModelPlan, Selection, select, split_only
from featstore.workflows.shift_plan import ShiftPlan

if TYPE_CHECKING:
    from featstore.workflows.sweep import PlannedRun

__all__ = ["RecipeResult", "prepare_data", "run_recipe"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RecipeResult:
    """What a recipe left behind.

    Attributes
    ----------
    folder : Path
    extraction : ExtractReport
    report : str
        The answer in words and the table of storage against accuracy, for people.
    answer : dict
        The same for programs.
    files : list of Path
        Figures and pages.
    failed : list of str
        Runs and shifts that failed, and why; everything else was carried out.
    lacking : list of str
        Optional encoders whose weights were not here.
    """

    folder: Path
    extraction: ExtractReport
    report: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    jobs: int | None = None,
    only: Sequence[str] = (),
    command: str = "",
    table: TrackTable | None = None,
    before: Sequence[Recipe] = (),
    width: int | None = None,
    budget_minutes: float | None = None,
) -> RecipeResult:
    """Carry out a recipe in a folder: data set, features, training, report.

    Parameters
    ----------
    recipe : Recipe
    out : path
        Gets ``tracks.parquet``, ``store.zarr``, ``runs/`` and ``report/``; what is already there is not done again.
    jobs : int, optional
        Processes; all cores by default.
    only : sequence of str
        Stages to carry out (``data``, ``extract``, ``train``, ``shift``, ``report``), all by default; and conditions on
        configurations, such as ``n_mels=48|96`` or ``model=vgg-cnn``, which must all hold.
    command : str
        What was typed; the folder keeps every command that went into it (``commands.txt``), and the report shows them.
    table : TrackTable, optional
        What indexing the recipe's data set gives, where that is known already.
    before : sequence of Recipe
        The recipe on other data sets, for models that start from runs there (``start.weights`` as ``KIND:NAME``). What
        is needed of them is carried out first, in a folder of the kind's name. Without them, such models are left out.
    width : int, optional
        Columns of the terminal, for the table of the report.
    budget_minutes : float, optional
        Train what fits into this many minutes: successive halving over the rows (a model with a feature each) by
        validation scores. See :mod:`featstore.workflows.recipe_budget`.

    Raises
    ------
    ConfigError
        For a stage or condition that cannot be, or a folder with the results of other settings.
    PlanError
        When a budget is too small, or when runs failed and none finished. A run that fails does not end the others:
        ``RecipeResult.failed``.
    """
    from featstore.workflows.reporting import write_report

    stages, experiments, conditions = split_only(only, recipe.name, list(recipe.experiments))
    wanted = set(stages) or set(STAGES)
    plans = with_encoders(recipe.model_plans(experiments), recipe)
    folder, named = Path(out), named_weights(plans, recipe)
    trained = [plan.name for plan in plans]
    if not named:  # their weights are part of the features' names
        own = own_features(plans, {}, recipe.encoding)
        trained = list(select(recipe.requests(), plans, conditions, recipe.name, own).features)
    for plan in plans:
        if "train" in wanted and plan.name in trained:
            check_installed(plan.model)
    _check_kept(recipe, folder)
    failed = _run_before(before, starts_on(plans), folder, partial(run_recipe, jobs=jobs, command=command), stages)
    for file in (KEPT, "commands.txt", "tracks.parquet"):
        remove_abandoned(folder / file)
    remove_abandoned_in(folder / "report")
    table = prepare_data(recipe, folder, jobs, table, plans)
    if "train" in wanted:
        check_trainable(plans, table)
    _keep(recipe, folder)
    commands = _keep_command(folder, command)
    places = {each: weights_of(each, recipe, folder, table) for each in named}
    own = own_features(plans, places, recipe.encoding)
    chosen = select(recipe.requests(places), plans, conditions, recipe.name, own)
    result = RecipeResult(folder, ExtractReport(str(folder / "store.zarr")), failed=failed, lacking=recipe.lacking)
    options = build(ExtractOptions, {"jobs": jobs} | recipe.extract, f"{recipe.name}: extract")
    if "extract" in wanted:
        result.extraction = extract(table, chosen.stored, folder / "store.zarr", options)
        if chosen.derived:
            derive(str(folder / "store.zarr"), chosen.derived)
    if wanted & {"train", "shift"}:
        stages_of_runs = planned_runs(folder, linked(plans, folder), chosen, recipe.seeds)
        if "train" in wanted:
            result.failed += _train(recipe, stages_of_runs, folder, jobs, budget_minutes)
        if result.failed and not any(run.is_finished for run in stages_of_runs[1]):
            raise PlanError(f"no run finished: {result.failed[0]}", str(folder), "Mend the cause and run again")
        if "shift" in wanted:
            result.failed += _shift(recipe, stages_of_runs[1], table, chosen, options, folder)
    if "report" in wanted:
        result.report, result.answer, result.files = write_report(
            folder, recipe.report, title=recipe.title, commands=commands, width=width
        )
    return result


def _train(
    recipe: Recipe, stages: Sequence[Sequence[PlannedRun]], folder: Path, jobs: int | None, minutes: float | None
) -> list[str]:
    """Carry out the runs to start from, then those of the recipe, or what fits a budget; what failed."""
    from featstore.workflows.sweep import carry_out, failures

    if minutes is None:
        return [text for runs in stages if runs for text in failures(carry_out(runs, jobs=jobs))]
    from featstore.workflows.recipe_budget import run_within

    if stages[0]:
        fix = "Choose rows without pretraining (--only), or leave --budget-minutes out"
        raise ConfigError("some rows start from pretraining, which is not halved", "--budget-minutes", fix)
    metric = str(recipe.report.get("metric", "roc_auc"))
    return run_within(stages[1], folder, minutes=minutes, metric=metric, jobs=jobs or cpu_count())


def _shift(
    recipe: Recipe,
    runs: Sequence[PlannedRun],
    table: TrackTable,
    chosen: Selection,
    options: ExtractOptions,
    folder: Path,
) -> list[str]:
    """Score the finished runs on altered copies, where the recipe asks for it; what failed."""
    from featstore.workflows.shifts import run_shifts

    plan = ShiftPlan.read(recipe.shifts, recipe.name)
    ready = [run.out for run in runs if run.is_finished and run.seed in plan.seeds]
    if not plan.names or not ready:
        return []
    return run_shifts(plan, ready, table=table, selection=chosen, folder=folder, options=options)


def _run_before(
    before: Sequence[Recipe],
    starts: Mapping[str, Sequence[str]],
    folder: Path,
    run: Callable[..., RecipeResult],
    stages: Sequence[str],
) -> list[str]:
    """Carry out what models start from, on the other data sets that were given; what failed there."""
    failed = []
    for each in before:
        kind = str(each.data["kind"])
        if kind not in starts:
            known = f"Models start from runs on {', '.join(starts)}" if starts else "Give --data once"
            raise ConfigError(f"no model here starts from a run on {kind}", each.name, known)
        failed += run(each, folder / kind, only=[*stages, *starts[kind]]).failed
    return failed


def _plain(recipe: Recipe) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = parse_yaml(yaml.safe_dump(asdict(recipe)), recipe.name)
    return found


def _check_kept(recipe: Recipe, folder: Path) -> None:
    """Refuse a folder that holds results of other data or settings; what has no results yet may change."""
    path, now = folder / KEPT, _plain(recipe)
    if not path.is_file():
        return
    there = parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    made = {
        "tracks.parquet": ("data",),
        "tokenizer.safetensors": ("tokenizer",),
        "store.zarr": ("encoding", "extract"),
        "runs": ("model", "settings"),
    }
    fixed = {key for name, keys in made.items() if (folder / name).exists() for key in keys}
    differing = [key for key in now if key in fixed and there.get(key) != now[key]]
    differing += changed_weights(folder, there, now)
    if "settings" in fixed:
        old, new = (_settings_of_models(each, recipe.name) for each in (there, now))
        differing += [f"settings of {model}" for model in new if model in old and old[model] != new[model]]
    if differing:
        raise ConfigError(
            f"the folder holds the results of other settings ({', '.join(differing)} of recipe.yaml)",
            str(folder),
            "Choose another --out",
        )


def _keep(recipe: Recipe, folder: Path) -> None:
    """Write the resolved recipe beside what it makes."""
    import yaml

    write_text(folder / KEPT, yaml.safe_dump(_plain(recipe), sort_keys=False, allow_unicode=True))


def _keep_command(folder: Path, command: str) -> list[str]:
    """Commands that this folder was made by, each once, this one included."""
    path = folder / "commands.txt"
    known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if command and command not in known:
        known.append(command)
        write_text(path, "\n".join(known) + "\n")
    return known


def _settings_of_models(recipe: Mapping[str, Any], where: str) -> dict[str, Any]:
    keys = ("model", "models", "experiments", "settings", "pretraining")
    kept = {key: recipe[key] for key in keys if recipe.get(key)}
    plans = Recipe(name=where, **kept).model_plans()
    return {plan.name: (plan.settings, plan.pretrain) for plan in plans}


def prepare_data(
    recipe: Recipe, folder: Path, jobs: int | None, table: TrackTable | None = None, plans: Sequence[ModelPlan] = ()
) -> TrackTable:
    """Index the data set once, unless its table is given; the one in the folder is what later runs read.

    A table without splits gets random ones where no plan says otherwise: tokenizers and models see the same.
    """
    from featstore.workflows.indexing import index_tracks

    path = folder / "tracks.parquet"
    known = TrackTable.read(path) if path.is_file() else table
    if known is None:
        settings = dict(recipe.data)
        kind, root = settings.pop("kind"), settings.pop("root", None)
        if kind == "demo":
            settings.setdefault("jobs", jobs)
            root = root or str(folder / "music")
        known = index_tracks(kind, root, **settings)
    ready = with_drawn_splits(known, plans)
    if ready is not known or not path.is_file():
        ready.write(path)
    return ready
