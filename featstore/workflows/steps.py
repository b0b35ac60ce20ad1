"""A recipe as the single commands that do the same: to read, to change, to run without it."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featstore.features.weights import weights_place
from featstore.plain_yaml import parse_yaml
from featstore.results.frames import flatten
from featstore.results.fronts import MARGIN
from featstore.specs import Encoding, FeatureRequest
from featstore.workflows.recipe_features import TOKENIZER, weights_file
from featstore.workflows.recipes import Recipe
from featstore.workflows.selection import select

__all__ = ["SCRIPT_HEAD", "steps_of"]

SCRIPT_HEAD = """set -e
featstore() { command featstore "$@" || [ $? -eq 2 ]; }  # 2: finished, but some files failed
"""
"""First lines of a shell script of such steps: it stops at an error, not at a file that cannot be read."""


def steps_of(recipe: Recipe, folder: str | Path, *, trains: bool = True) -> list[str]:
    """Commands that carry out a recipe of one model list without pretraining, in the folder given.

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
    weights = str(place / weights_file(TOKENIZER)) if recipe.tokenizer else ""
    requests = recipe.requests({TOKENIZER: weights})
    chosen = select(requests, plans, (), recipe.name)
    data = dict(recipe.data)
    kind, root = data.pop("kind"), data.pop("root", None)
    options = [word for name, value in data.items() for word in ("--set", f"{name}={value}")]
    steps = [["datasets", "index", kind, *([root] if root else []), "-o", tracks, *options]]
    division = recipe.settings.get("data", {})
    if "fractions" in division and "split" not in division:
        shares = ",".join(map(str, division["fractions"]))
        seed = str(division.get("split_seed", 0))
        steps.append(["datasets", "split", tracks, "-o", tracks, "--fractions", shares, "--seed", seed])
    if recipe.tokenizer:
        steps.append(["tokenizer", "train", "--data", tracks, "-o", weights, *_extraction(recipe.tokenizer)])
    steps.append(["extract", tracks, *_features(requests, weights), "-s", store, *_extraction(recipe.extract)])
    if not trains:
        return [*map(_joined, steps), _joined(["store", "info", store])]
    for plan in plans:
        if plan.name not in chosen.features:
            continue
        features = _features(chosen.features[plan.name], weights)
        sweep = ["sweep", "-s", store, "--tracks", tracks, *features, "-m", plan.model]
        sweep += ["--seeds", ",".join(map(str, recipe.seeds)), "-o", runs]
        settings = (f"{name}={_as_yaml(value)}" for name, value in flatten(plan.settings).items())
        steps.append([*sweep, *(word for text in settings for word in ("--set", text))])
    report = recipe.report
    axes = ["--x", report.get("cost", "bytes_alone"), "--y", report.get("metric", "roc_auc")]
    steps.append(["report", "pareto", runs, *axes, "--margin", str(report.get("margin", MARGIN))])
    steps.append(["report", "html", runs, "-o", str(place / "report.html")])
    return list(map(_joined, steps))


def _joined(words: Sequence[str]) -> str:
    return shlex.join(["featstore", *words])


def _features(requests: Sequence[FeatureRequest], weights: str) -> list[str]:
    """Options that name features; weights by their path, as a digest alone says not where they are."""
    words = []
    for each in requests:
        name = f"{each.spec.short()}@{each.encoding or Encoding.default(each.spec)}"
        digest = str(getattr(each.spec, "weights", ""))
        if digest and (found := weights_place(digest)):
            place = weights if weights and os.path.abspath(weights) == found else found
            name = re.sub("weights=[0-9a-f]+", f"weights={place}", name)
        words += ["-f", name]
    return words


def _extraction(options: Mapping[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _as_yaml(value: Any) -> str:
    """A value that reads back the same; words stay bare where YAML lets them."""
    if isinstance(value, str) and value and parse_yaml(value, "a setting") == value:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
