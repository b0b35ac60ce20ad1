"""Recipes: a whole experiment in a few YAML lines, run stage by stage; run again, only what is missing is done."""

from __future__ import annotations

import importlib.resources
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from featstore.errors import ConfigError, check_keys, check_known
from featstore.extract import ExtractOptions
from featstore.models.encoder_fetch import fetched_place
from featstore.plain_yaml import parse_yaml
from featstore.results.paper_page import check_report
from featstore.specs import FeatureRequest
from featstore.training.settings import merge
from featstore.typed_values import build, typed_fields
from featstore.workflows.recipe_features import ENCODER, TOKENIZER, recipe_features
from featstore.workflows.recipe_runs import check_same, own_settings
from featstore.workflows.selection import ModelPlan
from featstore.workflows.shift_plan import ShiftPlan

__all__ = ["Recipe", "list_recipes", "load_recipe", "recipe_names", "recipe_text", "with_overrides"]

logger = logging.getLogger(__name__)

KEPT = "recipe.yaml"  # in the folder of results: the recipe that made them, which can be run again
FILES = (KEPT, "plan.yaml", "train.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """An experiment of a recipe."""

    models: list[Any]
    same: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An experiment as data: ``plan.yaml`` and ``train.yaml`` of its folder.

    Over them come a file named for the kind of data set (``demo.yaml``), where there is one, and ``smoke.yaml``.

    Attributes
    ----------
    name, title : str
    data : dict
        ``kind`` of the data set, and what its adapter takes.
    tokenizer : dict
        ``weights`` of a checkpoint, or how one is trained on the data set first: ``preset``, ``minutes`` and settings.
        Features name it by ``weights=TOKENIZER``.
    tokenizers : dict
        Further ones by name, likewise; features name them by ``weights=TOKENIZER:NAME``. One is trained when a chosen
        model has such a feature.
    encoders : dict
        Frozen encoders by name, which features name by ``weights=ENCODER:NAME``: ``weights`` of a local file, or
        ``random``, an encoder that is made with random weights, with a ``seed`` and settings. Of an empty entry the
        file is given on the command line; models that need it are left out without.
    features : list
        Specs, preset names, or grids.
    optional : list of str
        Encoders whose features, and models of them, are left out where their weights are not here.
    encoding : str or None
        Encoding of features that name none.
    extract : dict
        Fields of :class:`~featstore.extract.ExtractOptions`.
    model : str
        The one model, where ``models`` is empty.
    models : list
        Names, or mappings with ``model``, ``only`` (conditions on configurations), ``settings`` (over the recipe's),
        ``name`` where a model is trained in several ways, ``pretrain`` (settings of a run to start from),
        ``together`` (its features are one input), and ``features`` (its own, in place of the recipe's).
    experiments : dict
        Lists like ``models`` by name, instead of ``models``: ``--only NAME`` runs one. As a mapping, ``models`` is the
        list and ``same`` names the settings that all its models must share, or the comparison is refused.
    seeds : list of int
    settings : dict
        Of training, by section. Those of ``model`` reach the models that have them.
    pretraining : dict
        The same of all runs that others start from.
    shifts : dict
        Altered copies of test tracks that finished runs are scored on: :class:`~featstore.workflows.shifts.ShiftPlan`.
    report : dict
        ``metric``, ``cost`` and ``test`` of the Pareto front; ``figures`` and ``tables`` of the paper's page.
    minutes : float or None
        What it takes on two cores, as measured; for the listing.
    """

    name: str
    title: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    tokenizers: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    encoders: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    features: list[Any] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)
    encoding: str | None = None
    extract: dict[str, Any] = field(default_factory=dict)
    model: str = "vgg-cnn"
    models: list[Any] = field(default_factory=list)
    experiments: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    pretraining: dict[str, dict[str, Any]] = field(default_factory=dict)
    shifts: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    minutes: float | None = None

    def requests(self, places: Mapping[str, str] | None = None) -> list[FeatureRequest]:
        """Features of the recipe, grids multiplied out; ``places`` are the files of weights that they name."""
        lacking = self.lacking
        here = [entry for entry in self.features if not any(name in str(entry) for name in lacking)]
        return recipe_features(here, places or {}, self.encoding, self.name)

    @property
    def lacking(self) -> list[str]:
        """Optional encoders whose weights are not here."""
        return [name for name in self.optional if fetched_place(name) is None]

    @property
    def groups(self) -> dict[str, _Group]:
        """Experiments by name, each with its ``models`` and what is the ``same`` in all; without any, all models."""
        groups = self.experiments or {"": self.models or [self.model]}
        found = {name: group if isinstance(group, Mapping) else {"models": group} for name, group in groups.items()}
        return {name: build(_Group, group, f"{self.name}, experiment {name}") for name, group in found.items()}

    def _check_model_settings(self) -> None:
        """Refuse a setting of all models that none of them has."""
        from featstore.models import setting_names

        listed = [entry for group in self.groups.values() for entry in group.models]
        known = {name for entry in listed for name in setting_names(ModelPlan.read(entry, self.name).model)}
        for key in self.settings.get("model", {}):
            check_known(key, known, f"unknown setting 'model.{key}'", self.name)

    def _with_common(self, plan: ModelPlan) -> ModelPlan:
        settings = merge(own_settings(self.settings, plan.model), plan.settings)
        return replace(plan, settings=settings, pretrain=plan.pretrain and merge(self.pretraining, plan.pretrain))

    @property
    def n_features(self) -> int:
        """Number of features, those included whose weights are yet to be made or given."""
        waiting = [entry for entry in self.features if any(kind in str(entry) for kind in (TOKENIZER, ENCODER))]
        others = replace(self, features=[entry for entry in self.features if entry not in waiting])
        return len(waiting) + (len(others.requests()) if others.features else 0)

    @property
    def n_models(self) -> int:
        """Number of models; counting imports none of them."""
        listed = (entry for group in self.groups.values() for entry in group.models)
        return len({ModelPlan.read(entry, self.name).name for entry in listed})  # experiments may share a model

    def model_plans(self, experiments: Sequence[str] = ()) -> list[ModelPlan]:
        """Models with their conditions and settings, those of the recipe included.

        Parameters
        ----------
        experiments : sequence of str
            Those to take; all by default.

        Raises
        ------
        ConfigError
            For an entry that is no model, one that is listed twice, or models of one experiment that differ in what
            they must share.
        """
        self._check_model_settings()
        plans = []
        for name in experiments or self.groups:
            group = self.groups[name]
            found = [self._with_common(ModelPlan.read(entry, self.name)) for entry in group.models]
            names = [plan.name for plan in found]
            for each in names:
                if names.count(each) > 1:
                    raise ConfigError(f"{each!r} is listed twice", self.name, "Give each a name of its own")
            check_same(found, group.same, f"{self.name}, experiment {name}")
            plans += found
        for plan in plans:
            if any(each != plan for each in plans if each.name == plan.name):
                clash = f"{plan.name!r} is something else in two experiments"
                raise ConfigError(clash, self.name, "Give each a name of its own")
        return list({plan.name: plan for plan in plans}.values())  # experiments may share a model


KEYS = tuple(each.name for each in fields(Recipe) if each.name != "name")


def _folders() -> dict[str, Any]:
    root = importlib.resources.files("featstore_recipes")
    return {entry.name: entry for entry in root.iterdir() if entry.is_dir() and (entry / "plan.yaml").is_file()}


def recipe_names() -> list[str]:
    """Names of the recipes that are installed."""
    return sorted(_folders())


def list_recipes() -> list[Recipe]:
    """All recipes that are installed, by name."""
    return [load_recipe(name) for name in recipe_names()]


def _folder(name: str) -> Any:
    """A recipe's folder; results that an installed recipe left under its own name do not stand for it."""
    folders = _folders()
    kept = name not in folders and (Path(name) / KEPT).is_file()
    if kept or (Path(name) / "plan.yaml").is_file():
        return Path(name)
    check_known(name, folders, f"unknown recipe {name!r}")
    return folders[name]


def recipe_text(name: str) -> str:
    """Return a recipe's files as they are: README, plan, training, then what comes over them."""
    folder = _folder(name)
    first = ("README.md", *FILES)
    others = sorted(each.name for each in folder.iterdir() if each.name.endswith(".yaml") and each.name not in first)
    parts = [
        f"# --- {file}\n{(folder / file).read_text(encoding='utf-8')}"
        for file in (*first, *others)
        if (folder / file).is_file()
    ]
    return "\n".join(parts)


def load_recipe(
    name: str,
    *,
    smoke: bool = False,
    data: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """Read a recipe by its name, from a folder of one's own, or from one that a recipe was run in.

    Parameters
    ----------
    name : str
    smoke : bool
        Take ``smoke.yaml`` over it: the same path in seconds.
    data : str, optional
        ``KIND`` or ``KIND=ROOT`` instead of the recipe's data set; the recipe may have settings for this kind.
    data_options : mapping, optional
        Options of the data set's adapter, over the recipe's.
    changes : mapping, optional
        Further settings over all that.

    Raises
    ------
    ConfigError
        For an unknown recipe or key, with near misses.
    """
    folder = _folder(name)
    layers = [_read(folder, file, name) for file in FILES]
    last = [_read(folder, "smoke.yaml", name)] if smoke else []
    kinds = [str(layer["data"]["kind"]) for layer in (*layers, *last) if "kind" in layer.get("data", {})]
    usual = next(iter(kinds), "")
    kind, equals, root = (data or (kinds[-1] if smoke and kinds else usual)).partition("=")
    layers += [{"data": {"kind": kind}} | _read(folder, f"{kind}.yaml", name), *last]
    found: dict[str, Any] = {}
    source: dict[str, Any] = {"kind": kind}
    for layer in layers:
        own = layer.pop("data", {})
        if own.get("kind", usual) == kind:  # what is said of another kind of data set does not hold
            source = merge(source, own)
        found = merge(found, layer)
    found = merge(found, changes or {})
    found["data"] = source | ({"root": root} if equals else {}) | dict(data_options or {})
    recipe = build(Recipe, {"name": Path(name).name} | found, name)
    build(ExtractOptions, recipe.extract, f"{name}: extract")
    check_report(recipe.report, f"{name}: report")
    ShiftPlan.read(recipe.shifts, name)
    return recipe


def _read(folder: Any, file: str, name: str) -> dict[str, Any]:
    """One file of a recipe, checked; empty where there is none."""
    path = folder / file
    if not file.partition(".")[0].isidentifier() or not path.is_file():
        return {}
    content = parse_yaml(path.read_text(encoding="utf-8"), f"{name}/{file}") or {}
    where = f"{name}/{file}"
    check_keys(content, [*KEYS, "name"] if file == KEPT else KEYS, where)
    return typed_fields(Recipe, {key: value for key, value in content.items() if key != "name"}, where)


def with_overrides(
    recipe: Recipe,
    *,
    seeds: Sequence[int] | None = None,
    width: float | None = None,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the recipe with other seeds, another width, epochs, or other training settings, in all its models.

    A model that has no ``width`` keeps its size.
    """
    from featstore.models import setting_names

    if seeds is not None:
        if not seeds:
            raise ConfigError("no seeds", recipe.name, "Give at least one; bounds need 2, and 3 are advised")
        recipe = replace(recipe, seeds=list(seeds))
    over: dict[str, Any] = dict(settings or {})
    if epochs is not None:
        over = merge(over, {"loop": {"epochs": epochs}})
    if not over and width is None:
        return recipe

    def changed(entry: Any) -> dict[str, Any]:
        plan = ModelPlan.read(entry, recipe.name)
        scaled = width is not None and "width" in setting_names(plan.model)
        own = merge(over, {"model": {"width": width}}) if scaled else over
        given = entry if isinstance(entry, Mapping) else {"model": entry}
        settings = merge(plan.settings, own_settings(own, plan.model))
        return {**given, "settings": merge(own_settings(recipe.settings, plan.model), settings)}

    groups: dict[str, Any] = {
        name: {"models": [changed(each) for each in group.models]} | ({"same": group.same} if group.same else {})
        for name, group in recipe.groups.items()
    }
    models = groups.pop("", {"models": []})["models"]
    return replace(recipe, models=models, experiments=groups, settings=merge(recipe.settings, over))
