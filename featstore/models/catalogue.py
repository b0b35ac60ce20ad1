"""All models with what they cost: one row a name of the registry."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from featstore.errors import MissingDependency
from featstore.log import progress
from featstore.models import MODELS, create, setting_names
from featstore.models.input_kinds import INPUT_KINDS, InputSize

__all__ = ["ModelCard", "catalogue", "installed_cards", "markdown_table", "model_card"]

logger = logging.getLogger(__name__)

N_CLASSES = 50

Card = TypeVar("Card")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model is and costs.

    Attributes
    ----------
    name : str
    summary : str
        First line of its description.
    source : str
        Module that holds it.
    input : dict of str to int
        The sizes that it is counted with: its paper's, where it has one.
    n_classes : int
    parameters : int
    macs : int
        Multiply-accumulates of one input, by torch's FLOP counter over 2.
    settings : dict
        Its own settings with their defaults.
    published : list of str
        Parts that weights from elsewhere fit: ``start.weights.PART`` of training.
    """

    name: str
    summary: str
    source: str
    input: dict[str, int]
    n_classes: int
    parameters: int
    macs: int
    settings: dict[str, Any]
    published: list[str]


def model_card(name: str) -> ModelCard:
    """Describe one model; it is built on no memory.

    Raises
    ------
    ConfigError
        For an unknown name, with near misses.
    """
    import torch

    from featstore.models.cost import count_macs, count_parameters

    model = MODELS.load(name)
    kind = INPUT_KINDS[model.takes]
    sizes = dict(model.paper_input or kind.example)
    codes = {"n_codes": kind.vocabulary} if kind.vocabulary else {}
    with torch.device("meta"):
        built = create(name, n_classes=N_CLASSES, **(codes | sizes))
    fields = {field.name: field for field in dataclasses.fields(model.Config)}
    return ModelCard(
        name=name,
        summary=(inspect.getdoc(model) or "").partition("\n")[0],
        source=model.__module__,
        input=sizes,
        n_classes=N_CLASSES,
        parameters=count_parameters(built)[0],
        macs=count_macs(built, InputSize.of(model.takes, sizes).batch()),
        settings={setting: _default(fields[setting]) for setting in setting_names(name)},
        published=list(model.published),
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def catalogue() -> list[ModelCard]:
    """Cards of all models, in the registry's order; a warning names those that need a package which is absent."""
    return installed_cards(MODELS, model_card)


def installed_cards(names: Iterable[str], card: Callable[[str], Card]) -> list[Card]:
    """Cards of those names that can be built; one warning names those that need a package which is absent."""
    cards, absent = [], {}
    for name in progress(names, desc="count", unit="model"):
        try:
            cards.append(card(name))
        except MissingDependency as error:
            absent[name] = error.fix
    if absent:
        logger.warning("left out: %s. %s", ", ".join(absent), "; ".join(dict.fromkeys(absent.values())))
    return cards


def markdown_table(cards: list[ModelCard]) -> str:
    """The cards as a table for docs/models.md."""
    lines = ["| name | input | parameters | GMAC | settings | |", "|---|---|---|---|---|---|"]
    for card in cards:
        size = " x ".join(str(value) for value in card.input.values())
        settings = ", ".join(f"`{name}={_plain(value)}`" for name, value in card.settings.items())
        summary = card.summary.replace("``", "`").replace("|", "\\|")
        lines.append(
            f"| `{card.name}` | {size} | {card.parameters:,} | {card.macs / 1e9:.3f} | {settings} | {summary} |"
        )
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
