"""Command group ``featstore features``."""

from __future__ import annotations

import click

from featstore_cli.commands import Group, completer
from featstore_cli.common import definitions, emit, json_option, render_table, wide_option

__all__ = ["features"]


@click.group(cls=Group)
def features() -> None:
    """List the kinds of features and the presets; show what can be set, and what is derived.

    Example:  featstore features list
    """


@features.command("list")
@wide_option
@json_option
def list_features(as_json: bool) -> None:
    """List the kinds of features, then the presets: sets of features under one name.

    Example:  featstore features list
    """
    from featstore.features.catalogue import kind_card, preset_card
    from featstore.specs import KINDS, PRESETS

    kinds, presets = [kind_card(name) for name in KINDS], [preset_card(name) for name in PRESETS]

    def text() -> str:
        rows = [[card.name, card.summary, card.example] for card in kinds]
        sizes = [" x ".join(map(str, card.shape)) for card in presets]
        named = [
            [card.name, len(card.features), size, card.features[0]] for card, size in zip(presets, sizes, strict=True)
        ]
        return "\n".join(
            [
                render_table(rows, ["kind", "what it is", "example"], cut="what it is"),
                "",
                render_table(named, ["preset", "features", "30 s become", "the first one"], cut="the first one"),
                "",
                "More of one:  featstore features show mel",
            ]
        )

    emit({"kinds": kinds, "presets": presets}, as_json, text)


@features.command()
@click.argument("name", metavar="KIND|PRESET", shell_complete=completer("presets"))
@json_option
def show(name: str, as_json: bool) -> None:
    r"""Say what a kind of feature takes and what is derived from it; or list the features of a preset.

    \b
    Examples:
      featstore features show mel
      featstore features show ferraro2020
    """
    from featstore.features.catalogue import KindCard, card_of

    card = card_of(name)

    def text() -> str:
        if not isinstance(card, KindCard):
            stored = f"{card.name}: {len(card.features)} features, {card.arrays} arrays stored, the rest derived"
            return "\n".join([stored, *(f"  {each}" for each in card.features)])
        entries = [(f"{each['name']}={each['default']}", described(each)) for each in card.fields]
        lines = [f"{card.name}: {card.summary}", f"For example -f '{card.example}'", "", definitions(entries)]
        if card.encodings:
            lines.append(f"encodings: {', '.join(card.encodings)}, asked for as in {card.name}()@{card.encodings[-1]}")
        return "\n".join([*lines, *(f"derived: {each}" for each in card.derived)])

    emit(card, as_json, text)


def described(entry: dict[str, str]) -> str:
    """What a field means and takes."""
    takes = f" [{entry['takes']}]" if entry["takes"] else ""
    missing = "" if entry["default"] else " Follows from other fields or from the weights unless given."
    return f"{entry['meaning']}{missing}{takes}".strip()
