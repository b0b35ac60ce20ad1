"""Recipes: a whole experiment in a few YAML lines, run stage by stage; run again, only what is missing is done."""

from __future__ import annotations

import importlib.resources
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from featstore.atomic import write_text
from featstore.datasets import TrackTable
from featstore.errors import ConfigError, did_you_mean
from featstore.extract import ExtractOptions, ExtractReport, extract
from featstore.specs import FeatureRequest, expand_features
from featstore.specs.presets import expand_grid
from featstore.store import open_store

__all__ = ["Recipe", "RecipeResult", "list_recipes", "load_recipe", "recipe_text", "run_recipe"]

logger = logging.getLogger(__name__)

KEYS = ("title", "data", "features", "encoding", "extract", "model", "seeds", "settings", "report", "minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An experiment as data: ``plan.yaml`` and ``train.yaml`` of its folder, with ``smoke.yaml`` over them when asked.

    Attributes
    ----------
    name, title : str
    data : dict
        ``kind`` of the data set, and what its adapter takes.
    features : list
        Specs, preset names, or grids.
    encoding : str or None
        Encoding of features that name none.
    extract : dict
        Fields of :class:`~featstore.extract.ExtractOptions`.
    model : str
    seeds : list of int
    settings : dict
        Of training, by section.
    report : dict
        ``metric`` and ``cost`` of the Pareto front.
    minutes : float or None
        What it takes on two cores, as measured; for the listing.
    """

    name: str
    title: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    features: list[Any] = field(default_factory=list)
    encoding: str | None = None
    extract: dict[str, Any] = field(default_factory=dict)
    model: str = "vgg-cnn"
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    settings: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    minutes: float | None = None

    def requests(self) -> list[FeatureRequest]:
        """Features of the recipe, grids multiplied out."""
        found: list[FeatureRequest] = []
        for entry in self.features:
            found += expand_grid(entry, self.name) if isinstance(entry, Mapping) else expand_features([entry])
        return expand_features(found, self.encoding)


@dataclass(slots=True)
class RecipeResult:
    """What a recipe left behind.

    Attributes
    ----------
    folder : Path
    extraction : ExtractReport
    table : str
        Storage against accuracy, for people.
    rows : list of dict
        The same for programs.
    files : list of Path
        Figures and pages.
    """

    folder: Path
    extraction: ExtractReport
    table: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def _folders() -> dict[str, Any]:
    root = importlib.resources.files("featstore_recipes")
    return {entry.name: entry for entry in root.iterdir() if entry.is_dir() and (entry / "plan.yaml").is_file()}


def list_recipes() -> list[Recipe]:
    """All recipes that are installed, by name."""
    return [load_recipe(name) for name in sorted(_folders())]


def _folder(name: str) -> Any:
    if Path(name).is_dir() and (Path(name) / "plan.yaml").is_file():
        return Path(name)
    folders = _folders()
    if name not in folders:
        raise ConfigError(f"unknown recipe {name!r}", "", did_you_mean(name, folders))
    return folders[name]


def recipe_text(name: str) -> str:
    """Return a recipe's files as they are: README, plan, training, smoke."""
    folder = _folder(name)
    parts = []
    for file in ("README.md", "plan.yaml", "train.yaml", "smoke.yaml"):
        if (folder / file).is_file():
            parts.append(f"# --- {file}\n{(folder / file).read_text(encoding='utf-8')}")
    return "\n".join(parts)


def load_recipe(name: str, *, smoke: bool = False, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe by its name, or from a folder of one's own.

    Parameters
    ----------
    name : str
    smoke : bool
        Take ``smoke.yaml`` over it: the same path in seconds.
    changes : mapping, optional
        Further settings over all that.

    Raises
    ------
    ConfigError
        For an unknown recipe or key, with near misses.
    """
    import yaml

    folder = _folder(name)
    merged: dict[str, Any] = {}
    for file in ("plan.yaml", "train.yaml", *(["smoke.yaml"] if smoke else [])):
        path = folder / file
        if not path.is_file():
            continue
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise ConfigError(f"cannot be read: {error}", f"{name}/{file}", "Mend the YAML") from error
        for key in content:
            if key not in KEYS:
                raise ConfigError(f"unknown key {key!r}", f"{name}/{file}", did_you_mean(key, KEYS))
        merged = _over(merged, content)
    return Recipe(name=Path(name).name, **_over(merged, changes or {}))


def _over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    data: str | None = None,
    jobs: int | None = None,
    only: Sequence[str] = (),
) -> RecipeResult:
    """Carry out a recipe in a folder: data set, features, training, report.

    Parameters
    ----------
    recipe : Recipe
    out : path
        Gets ``tracks.parquet``, ``store.zarr``, ``runs/`` and ``report/``; what is already there is not done again.
    data : str, optional
        ``KIND`` or ``KIND=ROOT`` instead of the recipe's data set.
    jobs : int, optional
        Processes; all cores by default.
    only : sequence of str
        Stages to carry out (``data``, ``extract``, ``train``, ``report``); all by default.
    """
    from featstore.workflows.reporting import write_report
    from featstore.workflows.sweep import plan_runs, run_sweep

    stages = ("data", "extract", "train", "report")
    for stage in only:
        if stage not in stages:
            raise ConfigError(f"unknown stage {stage!r}", recipe.name, did_you_mean(stage, stages))
    wanted = set(only) or set(stages)
    folder = Path(out)
    _keep(recipe, folder)
    requests = recipe.requests()
    table = prepare_data(recipe, folder, data, jobs)
    result = RecipeResult(folder, ExtractReport(str(folder / "store.zarr")))
    if "extract" in wanted:
        options = ExtractOptions(**({"jobs": jobs} | recipe.extract))
        result.extraction = extract(table, requests, folder / "store.zarr", options)
    if "train" in wanted:
        names = _names(folder, requests)
        runs = plan_runs(folder, names, recipe.model, recipe.seeds, recipe.settings)
        run_sweep(runs, jobs=jobs)
    if "report" in wanted:
        result.table, result.rows, result.files = write_report(folder, recipe.report, title=recipe.title)
    return result


def _names(folder: Path, requests: Sequence[FeatureRequest]) -> list[str]:
    store = open_store(folder / "store.zarr")
    return [store[request].name for request in requests]


def _keep(recipe: Recipe, folder: Path) -> None:
    """Write the resolved recipe beside what it makes; another one in the same folder is refused."""
    import dataclasses

    import yaml

    text = yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False, allow_unicode=True)
    path = folder / "recipe.yaml"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            "the folder holds the results of other settings (recipe.yaml differs)", str(folder), "Choose another --out"
        )
    write_text(path, text)


def prepare_data(recipe: Recipe, folder: Path, data: str | None, jobs: int | None) -> TrackTable:
    """Index the data set once; the table in the folder is what later runs read."""
    from featstore.workflows.indexing import index_tracks

    path = folder / "tracks.parquet"
    settings = dict(recipe.data)
    if data is not None:
        kind, _, root = data.partition("=")
        settings = {"kind": kind, "root": root or None} | (settings if settings.get("kind") == kind else {})
        settings["root"] = root or None
    if path.is_file():
        return TrackTable.read(path)
    kind, root = settings.pop("kind"), settings.pop("root", None)
    if kind == "demo":
        settings.setdefault("jobs", jobs)
        root = root or str(folder / "music")
    table = index_tracks(kind, root, **settings)
    table.write(path)
    return table


def with_overrides(recipe: Recipe, *, seeds: int | None = None, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe with fewer or more seeds, and training settings changed."""
    if seeds is not None:
        recipe = replace(recipe, seeds=list(range(seeds)))
    if settings:
        recipe = replace(recipe, settings=_over(recipe.settings, settings))
    return recipe
