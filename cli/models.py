"""Command group ``featstore models``."""

from __future__ import annotations

import click

from featstore.units import format_bytes
from featstore_cli.commands import Group, completer
from featstore_cli.common import emit, json_option, render_table, wide_option

__all__ = ["models"]


@click.group(cls=Group)
def models() -> None:
    """List models and what they cost; convert published weights.

    Example:  featstore models list
    """


@models.command("list")
@click.option("--markdown", is_flag=True, help="Print the table of docs/models.md.")
@wide_option
@json_option
def list_models(markdown: bool, as_json: bool) -> None:
    """List all models: an input, parameters, and multiply-accumulates of one input, for 50 classes.

    Example:  featstore models list --json
    """
    from featstore.models.catalogue import catalogue, markdown_table

    cards = catalogue()
    if markdown:
        click.echo(markdown_table(cards))
        return
    rows = [
        [card.name, " x ".join(map(str, card.input.values())), f"{card.parameters:,}", card.macs / 1e9, card.summary]
        for card in cards
    ]
    header = ["model", "input", "parameters", "GMAC", "what it is"]
    emit(cards, as_json, lambda: render_table(rows, header, ["input", "GMAC"], cut="what it is"))


@models.command()
@click.option("--time", "timed", is_flag=True, help="Measure CPU seconds for a minute of music, on random weights.")
@click.option("--markdown", is_flag=True, help="Print the table of docs/models.md.")
@json_option
def encoders(timed: bool, markdown: bool, as_json: bool) -> None:
    """List published encoders: size, rate, layers and their dimensions, licence. Nothing is fetched.

    Example:  featstore models encoders
    """
    from featstore.models.encoder_catalogue import encoder_cards, markdown_table

    cards = encoder_cards(timed=timed)
    if markdown:
        click.echo(markdown_table(cards))
        return
    rows = [
        [card.weights, card.encoder, f"{card.parameters:,}", card.sample_rate, card.licence, card.seconds or ""]
        for card in cards
    ]
    header = ["weights", "encoder", "parameters", "Hz", "licence", "CPU seconds a minute"]
    emit(cards, as_json, lambda: render_table(rows, header))


@models.command()
@click.argument("name", shell_complete=completer("models"))
@json_option
def show(name: str, as_json: bool) -> None:
    """Say what one model is, what it costs, and what can be set.

    Example:  featstore models show musicnn
    """
    from featstore.models.catalogue import model_card

    card = model_card(name)
    lines = [
        f"{card.name}: {card.summary}",
        f"{card.parameters:,} parameters, {card.macs / 1e9:.4g} GMAC an input of "
        f"{' x '.join(map(str, card.input.values()))}, {card.n_classes} classes; {card.source}",
        render_table([[f"model.{key}", str(value)] for key, value in card.settings.items()], ["setting", "default"]),
        *(f"Weights from a local file: train --set start.weights.{part}=FILE" for part in card.published),
    ]
    emit(card, as_json, lambda: "\n".join(lines))


@models.command()
@click.argument("name", shell_complete=completer("weights"))
@click.option("-o", "--out", required=True, metavar="FILE.safetensors", help="The checkpoint to write.")
@click.option(
    "--weights",
    metavar="PATH",
    help="Folder or wheel of the package musicnn; by default what was fetched or installed.",
)
@json_option
def convert(name: str, out: str, weights: str | None, as_json: bool) -> None:
    r"""Convert a published model's TensorFlow weights to a safetensors checkpoint, on this machine.

    The file is complete: 'featstore tag FILE' takes it, and training starts from it with --set start.run=FILE.

    \b
    Examples:
      featstore models convert mtt-musicnn -o mtt-musicnn.safetensors
      featstore models convert msd-vgg -o msd-vgg.safetensors --weights musicnn-0.1.0-py3-none-any.whl
    """
    from featstore.workflows.taggers import convert_published

    done = convert_published(name, out, weights)
    text = f"{done['out']}: {done['model']}, {done['values']:,} values, {format_bytes(done['bytes'])}"
    emit(done, as_json, lambda: text)


@models.command()
@click.argument("name", shell_complete=completer("weights"))
@json_option
def fetch(name: str, as_json: bool) -> None:
    """Get the weights of an encoder that a Python package ships, through pip; nothing is installed or imported.

    Example:  featstore models fetch mtt-musicnn
    """
    from featstore.models.encoder_fetch import fetch_weights

    wheel = fetch_weights(name)
    size = wheel.stat().st_size
    payload = {"model": name, "file": str(wheel), "bytes": size}
    uses = f"use it with -f 'embedding(model={name})', or tag music: featstore tag {name} AUDIO"
    emit(payload, as_json, lambda: f"{wheel}: {format_bytes(size)}; {uses}")
