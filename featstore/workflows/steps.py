"""A recipe as the single commands that do the same: to read, to change, to run without it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featstore.plain_yaml import parse_yaml
from featstore.results.fronts import MARGIN
from featstore.specs import Encoding, FeatureRequest
from featstore.workflows.recipes import Recipe
from featstore.workflows.selection import select

__all__ = ["steps_of"]


def steps_of(recipe: Recipe, folder: str | Path, *, trains: bool = True) -> list[str]:
    """Commands that carry out a recipe of one model list without pretraining or tokenizer, in the folder given.

    Parameters
    ----------
    recipe : Recipe
    folder : path
    trains : bool
        False ends with the extraction.

    Returns
    -------
    list of str
        One shell command each; run in order they leave the same runs, with the same results.
    """
    place = Path(folder)
    tracks, store, runs = (str(place / name) for name in ("tracks.parquet", "store.zarr", "runs"))
    plans = recipe.model_plans()
    chosen = select(recipe.requests(), plans, (), recipe.name)
    data = dict(recipe.data)
    kind, root = data.pop("kind"), data.pop("root", None)
    options = [word for name, value in data.items() for word in ("--set", f"{name}={value}")]
    steps = [["datasets", "index", kind, *([root] if root else []), "-o", tracks, *options]]
    steps.append(["extract", tracks, *_features(recipe.requests()), "-s", store, *_extraction(recipe.extract)])
    if not trains:
        return [*map(_joined, steps), _joined(["store", "info", store])]
    for plan in plans:
        sweep = ["sweep", "-s", store, "--tracks", tracks, *_features(chosen.features[plan.name]), "-m", plan.model]
        sweep += ["--seeds", ",".join(map(str, recipe.seeds)), "-o", runs]
        steps.append([*sweep, *(word for text in _settings(plan.settings) for word in ("--set", text))])
    report = recipe.report
    axes = ["--x", report.get("cost", "bytes_alone"), "--y", report.get("metric", "roc_auc")]
    steps.append(["report", "pareto", runs, *axes, "--margin", str(report.get("margin", MARGIN))])
    steps.append(["report", "html", runs, "-o", str(place / "report.html")])
    return list(map(_joined, steps))


def _joined(words: Sequence[str]) -> str:
    return shlex.join(["featstore", *words])


def _features(requests: Sequence[FeatureRequest]) -> list[str]:
    named = [f"{each.spec.short()}@{each.encoding or Encoding.default(each.spec)}" for each in requests]
    return [word for name in named for word in ("-f", name)]


def _extraction(options: Mapping[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _settings(settings: Mapping[str, Any], above: str = "") -> list[str]:
    """Settings as ``section.key=value``, values as YAML."""
    texts = []
    for key, value in settings.items():
        name = f"{above}.{key}" if above else key
        texts += _settings(value, name) if isinstance(value, Mapping) else [f"{name}={_as_yaml(value)}"]
    return texts


def _as_yaml(value: Any) -> str:
    """A value that reads back the same; words stay bare where YAML lets them."""
    if isinstance(value, str) and value and parse_yaml(value, "a setting") == value:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
