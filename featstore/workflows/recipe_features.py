"""Features of a recipe, and how some of them name files of weights: tokenizers and encoders.

A feature names such a file by ``weights=TOKENIZER``, ``weights=TOKENIZER:NAME`` or ``weights=ENCODER:NAME``. The recipe
brings the file, or says how it is made first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featstore.features import expand_features, resolve
from featstore.specs import FeatureRequest
from featstore.specs.presets import expand_grid
from featstore.workflows.selection import ModelPlan

__all__ = [
    "TOKENIZER",
    "changed_weights",
    "own_features",
    "recipe_features",
    "weights_file",
]

TOKENIZER, ENCODER = "TOKENIZER", "ENCODER"
NAMED = re.compile(rf"\bweights=((?:{TOKENIZER}|{ENCODER})(?::[\w-]+)?)")


def recipe_features(
    entries: Sequence[Any], places: Mapping[str, str], encoding: str | None, where: str
) -> list[FeatureRequest]:
    """Features that all models may take, grids multiplied out; ``places`` are files of weights by what names them."""
    found: list[FeatureRequest] = []
    for entry in entries:
        if isinstance(entry, Mapping):
            grid = {key: places.get(value, value) if key == "weights" else value for key, value in entry.items()}
            found += expand_grid(grid, where)
        else:
            found += expand_features([_filled(str(entry), places)])
    return [_with_fetched(each) for each in expand_features(found, encoding)]


def _with_fetched(request: FeatureRequest) -> FeatureRequest:
    """A request whose encoder names no weights, resolved from those that were fetched."""
    bare = request.spec.kind == "embedding" and not getattr(request.spec, "weights", "")
    return resolve(request) if bare else request


def own_features(
    plans: Sequence[ModelPlan], places: Mapping[str, str], encoding: str | None
) -> dict[str, list[FeatureRequest]]:
    """Features of the plans that have features of their own, by the plan's name; ``places`` as above."""
    named = {plan.name: [_filled(text, places) for text in plan.features] for plan in plans if plan.features}
    found = {name: expand_features(expand_features(texts), encoding) for name, texts in named.items()}
    return {name: [resolve(request) for request in requests] for name, requests in found.items()}


def _filled(text: str, places: Mapping[str, str]) -> str:
    return NAMED.sub(lambda match: f"weights={places[match[1]]}", text)


def weights_file(named: str) -> str:
    """Name of the file of weights that a recipe makes itself.

    Examples
    --------
    >>> weights_file("TOKENIZER"), weights_file("TOKENIZER:level-1"), weights_file("ENCODER:demucs")
    ('tokenizer.safetensors', 'tokenizer-level-1.safetensors', 'encoder-demucs.safetensors')
    """
    kind, colon, name = named.partition(":")
    return f"{kind.lower()}{'-' if colon else ''}{name}.safetensors"


def changed_weights(folder: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Files of weights that a folder holds and that a recipe would now make another way."""
    found = []
    for key, kind in (("tokenizers", TOKENIZER), ("encoders", ENCODER)):
        kept = there.get(key) or {}
        made = [name for name in now[key] if (folder / weights_file(f"{kind}:{name}")).exists()]
        found += [f"{kind.lower()} {name}" for name in made if kept.get(name) != now[key][name]]
    return found
