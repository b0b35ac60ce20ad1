"""Files of weights that the features of a recipe name: the recipe brings them, or they are made first."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from featstore.datasets import TrackTable
from featstore.errors import ConfigError, did_you_mean
from featstore.workflows.recipe_features import ENCODER, NAMED, TOKENIZER, weights_file
from featstore.workflows.recipes import Recipe
from featstore.workflows.selection import ModelPlan

__all__ = ["given_encoders", "named_weights", "weights_of", "with_encoders"]

logger = logging.getLogger(__name__)


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
    found = {match[1] for text in texts for match in NAMED.finditer(text)}
    for named in found:
        _settings(recipe, named)
    return sorted(found | ({TOKENIZER} if recipe.tokenizer else set()))


def _settings(recipe: Recipe, named: str) -> dict[str, Any]:
    """What a recipe says of a file of weights; empty for an encoder whose file is yet to be given."""
    kind, _, name = named.partition(":")
    group = {"": recipe.tokenizer, **recipe.tokenizers} if kind == TOKENIZER else recipe.encoders
    found: dict[str, Any] = dict(group.get(name) or {})
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
