"""Features of a recipe, and the tokenizers that some of them name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featstore.datasets import TrackTable
from featstore.errors import ConfigError, did_you_mean
from featstore.features import expand_features, resolve
from featstore.specs import FeatureRequest
from featstore.specs.presets import expand_grid
from featstore.workflows.selection import ModelPlan

__all__ = [
    "TOKENIZER",
    "own_features",
    "recipe_features",
    "tokenizer_file",
    "tokenizer_of",
    "tokenizers_of",
]

TOKENIZER = "TOKENIZER"
_NAMED = re.compile(rf"weights={TOKENIZER}(?::([\w-]+))?")


def recipe_features(entries: Sequence[Any], tokenizer: str, encoding: str | None, where: str) -> list[FeatureRequest]:
    """Features that all models may take, grids multiplied out; ``tokenizer`` is the checkpoint that some name."""
    found: list[FeatureRequest] = []
    for entry in entries:
        if isinstance(entry, Mapping):
            grid = {key: tokenizer if value == TOKENIZER else value for key, value in entry.items()}
            found += expand_grid(grid, where)
        else:
            found += expand_features([str(entry).replace(f"weights={TOKENIZER}", f"weights={tokenizer}")])
    return expand_features(found, encoding)


def own_features(
    plans: Sequence[ModelPlan], tokenizers: Mapping[str, str], encoding: str | None
) -> dict[str, list[FeatureRequest]]:
    """Features of the plans that have features of their own, by the plan's name.

    ``tokenizers`` are the paths of checkpoints by name; the recipe's main one has an empty name.
    """

    def filled(text: str) -> str:
        return _NAMED.sub(lambda match: f"weights={tokenizers[match[1] or '']}", text)

    named = {plan.name: [filled(text) for text in plan.features] for plan in plans if plan.features}
    found = {name: expand_features(expand_features(texts), encoding) for name, texts in named.items()}
    return {name: [resolve(request) for request in requests] for name, requests in found.items()}


def tokenizers_of(plans: Sequence[ModelPlan], known: Mapping[str, Any], where: str) -> list[str]:
    """Names of the further tokenizers that these plans need.

    Raises
    ------
    ConfigError
        For one that the recipe does not have.
    """
    texts = [text for plan in plans for text in plan.features]
    found = sorted({match[1] for text in texts for match in _NAMED.finditer(text) if match[1]})
    for name in found:
        if name not in known:
            raise ConfigError(f"no tokenizer {name!r}", f"{where}, tokenizers", did_you_mean(name, list(known)))
    return found


def tokenizer_file(name: str = "") -> str:
    """Name of the file of a tokenizer that a recipe trains; the main one has no name of its own."""
    return f"tokenizer-{name}.safetensors" if name else "tokenizer.safetensors"


def tokenizer_of(tokenizer: Mapping[str, Any], folder: Path, table: TrackTable, name: str = "") -> str:
    """Path of a recipe's tokenizer, which is trained where the recipe brings none; empty where it has none."""
    settings = dict(tokenizer)
    if not settings:
        return ""
    if settings.get("weights"):
        return str(settings["weights"])
    from featstore.workflows.tokenizer import train_tokenizer

    path = folder / tokenizer_file(name)
    if not path.is_file() or path.with_name(f"{path.name}.state").is_file():
        train_tokenizer(table, path, **settings)
    return str(path)
