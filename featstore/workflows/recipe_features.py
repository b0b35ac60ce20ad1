"""Features of a recipe, and the files of weights that some of them name: tokenizers and encoders.

A feature names such a file by ``weights=TOKENIZER``, ``weights=TOKENIZER:NAME`` or ``weights=ENCODER:NAME``. The recipe
brings the file, or says how it is made first.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.datasets import TrackTable
from featstore.errors import ConfigError, did_you_mean
from featstore.features import expand_features, resolve
from featstore.specs import FeatureRequest
from featstore.specs.presets import expand_grid
from featstore.workflows.selection import ModelPlan

if TYPE_CHECKING:
    from featstore.workflows.recipes import Recipe

__all__ = [
    "TOKENIZER",
    "changed_weights",
    "given_encoders",
    "named_weights",
    "own_features",
    "recipe_features",
    "weights_file",
    "weights_of",
    "with_encoders",
]

logger = logging.getLogger(__name__)

TOKENIZER, ENCODER = "TOKENIZER", "ENCODER"
_NAMED = re.compile(rf"\bweights=((?:{TOKENIZER}|{ENCODER})(?::[\w-]+)?)")


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
    return _NAMED.sub(lambda match: f"weights={places[match[1]]}", text)


def named_weights(plans: Iterable[ModelPlan], recipe: Recipe) -> list[str]:
    """What names the files of weights that a recipe and these plans need, such as ``TOKENIZER`` and ``ENCODER:NAME``.

    Raises
    ------
    ConfigError
        For one that the recipe does not have.
    """
    texts = [text for plan in plans for text in plan.features]
    for entry in recipe.features:
        texts.append(f"weights={entry.get('weights')}" if isinstance(entry, Mapping) else str(entry))
    found = {match[1] for text in texts for match in _NAMED.finditer(text)}
    for named in found:
        _settings(recipe, named)
    return sorted(found | ({TOKENIZER} if recipe.tokenizer else set()))


def _settings(recipe: Recipe, named: str) -> dict[str, Any]:
    """What a recipe says of a file of weights; empty for an encoder whose file is yet to be given."""
    kind, _, name = named.partition(":")
    group = {"": recipe.tokenizer} | recipe.tokenizers if kind == TOKENIZER else recipe.encoders
    found = dict(group.get(name) or {})
    if name not in group or (kind == TOKENIZER and not found):
        what = f"no {kind.lower()}" + (f" {name!r}" if name else "")
        known = did_you_mean(name, [each for each in group if each])
        raise ConfigError(what, f"{recipe.name}, {kind.lower()}s", known)
    return found


def given_encoders(files: Iterable[str]) -> dict[str, Any]:
    """Changes to a recipe from texts ``NAME=FILE``: the files of its encoders.

    Raises
    ------
    ConfigError
        For another text.
    """
    pairs = [(text, *text.partition("=")) for text in files]
    for text, name, _, file in pairs:
        if not (name and file):
            raise ConfigError(f"{text!r} is not NAME=FILE", "--encoder", "Such as demucs=hdemucs.th")
    weights = {name: {"weights": os.path.abspath(os.path.expanduser(file))} for _, name, _, file in pairs}
    return {"encoders": weights} if weights else {}


def with_encoders(plans: Sequence[ModelPlan], recipe: Recipe) -> list[ModelPlan]:
    """Plans whose encoders the recipe has weights of; a warning says how to give those of the others, left out."""
    ready = []
    for plan in plans:
        named = named_weights([plan], recipe)
        lacking = [each.partition(":")[2] for each in named if each.startswith(ENCODER) and not _settings(recipe, each)]
        if lacking:
            fix = f"give --encoder {lacking[0]}=FILE as well"
            logger.warning("%s is left out: it needs weights of the encoder %s; %s", plan.name, lacking[0], fix)
        else:
            ready.append(plan)
    return ready


def weights_file(named: str) -> str:
    """Name of the file of weights that a recipe makes itself.

    Examples
    --------
    >>> weights_file("TOKENIZER"), weights_file("TOKENIZER:level-1"), weights_file("ENCODER:demucs")
    ('tokenizer.safetensors', 'tokenizer-level-1.safetensors', 'encoder-demucs.safetensors')
    """
    kind, colon, name = named.partition(":")
    return f"{kind.lower()}{'-' if colon else ''}{name}.safetensors"


def weights_of(named: str, recipe: Recipe, folder: Path, table: TrackTable) -> str:
    """Path of a file of weights: the recipe's own, or made in the folder where it brings none."""
    settings = _settings(recipe, named)
    if settings.get("weights"):
        return str(settings["weights"])
    path = folder / weights_file(named)
    if named.startswith(ENCODER):
        if not path.is_file():
            _write_untrained(path, settings, f"{recipe.name}, encoders")
        return str(path)
    from featstore.workflows.tokenizer import train_tokenizer

    if not path.is_file() or path.with_name(f"{path.name}.state").is_file():
        train_tokenizer(table, path, **settings)
    return str(path)


def _write_untrained(path: Path, settings: Mapping[str, Any], where: str) -> None:
    from featstore.models.encoders import UNTRAINED

    model = str(settings.get("random", ""))
    if model not in UNTRAINED:
        raise ConfigError(f"random={model!r} is none of {', '.join(UNTRAINED)}", where, "Give weights: FILE instead")
    UNTRAINED.load(model)(path, **{key: value for key, value in settings.items() if key != "random"})


def changed_weights(folder: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Files of weights that a folder holds and that a recipe would now make another way."""
    found = []
    for key, kind in (("tokenizers", TOKENIZER), ("encoders", ENCODER)):
        kept = there.get(key) or {}
        made = [name for name in now[key] if (folder / weights_file(f"{kind}:{name}")).exists()]
        found += [f"{kind.lower()} {name}" for name in made if kept.get(name) != now[key][name]]
    return found
