"""The runs of a recipe: a tokenizer first where its features need one, runs to start from, then those it is about."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.datasets import SPLITS, TrackTable
from featstore.errors import ConfigError
from featstore.store import open_store
from featstore.training.settings import merge
from featstore.workflows.indexing import with_splits
from featstore.workflows.selection import ModelPlan, Selection

if TYPE_CHECKING:
    from featstore.workflows.sweep import PlannedRun

__all__ = ["check_same", "check_trainable", "own_settings", "planned_runs", "with_drawn_splits"]

logger = logging.getLogger(__name__)


def own_settings(settings: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Settings for all models as they hold for one: without those of ``model`` that it does not have."""
    from featstore.models import setting_names

    known = setting_names(model)
    own = {key: value for key, value in settings.get("model", {}).items() if key in known}
    rest = {section: value for section, value in settings.items() if section != "model"}
    return rest | ({"model": own} if own else {})


def check_same(plans: Sequence[ModelPlan], same: Sequence[str], where: str) -> None:
    """Refuse to compare models that differ in what the experiment says is the same, such as ``model.size``."""
    for setting in same:
        section, _, key = setting.partition(".")
        values = {plan.name: (plan.settings.get(section) or {}).get(key) for plan in plans}
        first = next(iter(values), "")
        for name, value in values.items():
            if value != values[first]:
                found = f"{setting} is {value!r} for {name}, but {values[first]!r} for {first}"
                raise ConfigError(found, where, f"Give both the same, or take {setting} out of `same`")


def with_drawn_splits(table: TrackTable, plans: Sequence[ModelPlan]) -> TrackTable:
    """The table with random splits, where it has none, has labels, and no plan says how tracks are divided.

    Whole groups at a time, in the shares and from the seed of the plans' ``data`` settings.
    """
    from featstore.training import TrainConfig

    bare = not any(isinstance(split, str) for split in table.frame.get("split", ()))
    if not bare or not plans or any("split" in plan.settings.get("data", {}) for plan in plans):
        return table
    config = TrainConfig.resolve(plans[0].settings).data
    if table.info.task == "none" and not config.label_column:
        return table
    ready = with_splits(table, config.fractions, config.split_seed, by=config.label_column)
    counts = ", ".join(f"{(ready.frame['split'] == name).sum()} {name}" for name in SPLITS)
    logger.warning("the tracks have no splits: random ones, whole groups at a time (%s)", counts)
    return ready


def check_trainable(plans: Sequence[ModelPlan], table: TrackTable) -> None:
    """Refuse settings, labels and splits that training cannot work with, before a minute of extraction.

    Raises
    ------
    ConfigError, DatasetError
        As training would, later.
    """
    from featstore.training import OBJECTIVES, TrainConfig
    from featstore.training.labels import label_tracks
    from featstore.training.run import check_model_settings

    for plan in plans:
        config = TrainConfig.resolve(plan.settings)
        objective = OBJECTIVES.load(config.objective.name)
        objective.check(plan.model, config)
        check_model_settings(plan.model, config.model)
        if objective.needs_labels:
            label_tracks(table, list(table.frame["track_id"]), config.data, where="the recipe's data set")


def planned_runs(
    folder: Path, plans: Sequence[ModelPlan], chosen: Selection, seeds: Sequence[int]
) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """Runs to start from, each once, and those of the recipe."""
    from featstore.training import TrainConfig
    from featstore.workflows.sweep import grid_of_runs

    store, tracks = open_store(folder / "store.zarr"), str(folder / "tracks.parquet")
    first: dict[str, PlannedRun] = {}
    runs: list[PlannedRun] = []
    for plan in plans:
        each = [store[request].name for request in chosen.features.get(plan.name, [])]
        names = [" + ".join(each)] if plan.together and each else each
        grid = partial(
            grid_of_runs, folder / "store.zarr", features=names, models=[plan.model], seeds=seeds, tracks=tracks
        )
        planned = grid(folder / "runs", settings=plan.settings, label=plan.name)
        if plan.pretrain:
            settings = merge({"model": plan.settings.get("model", {})} | _division(plan.settings), plan.pretrain)
            label = f"{plan.model}-{TrainConfig.digest(settings)[:8]}"  # plans that start alike share these runs
            before = grid(folder / "pretraining", settings=settings, label=label)
            first |= {run.out: run for run in before}
            planned = [
                replace(run, settings=merge(run.settings, {"start": {"run": start.out}}))
                for run, start in zip(planned, before, strict=True)
            ]
        runs += planned
    return list(first.values()), runs


def _division(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Cross-validation of a run, which a run that it starts from must share: it may not see the test fold."""
    data = settings.get("data", {})
    if data.get("split") != "folds":
        return {}
    shared = ("split", "folds", "fold", "valid_share", "split_seed")
    return {"data": {name: data[name] for name in shared if name in data}}
