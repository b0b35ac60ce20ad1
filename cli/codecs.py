"""Command group ``featstore codecs``."""

from __future__ import annotations

import click

from featstore_cli.commands import Group
from featstore_cli.common import emit, json_option, render_table, wide_option

__all__ = ["codecs"]

# codec -> what it is, and where its weights come from; featstore fetches none
_FACTS = {
    "jukebox": ("VQ-VAE of Jukebox, 44.1 kHz, three levels", "its checkpoint, or featstore tokenizer train"),
    "encodec": ("Encodec, 24 or 48 kHz, residual codebooks", "a folder as transformers keeps it"),
    "dac": ("Descript Audio Codec, 16, 24 or 44.1 kHz", "a folder as transformers keeps it"),
    "mimi": ("Mimi, 24 kHz, 12.5 tokens a second", "a folder as transformers keeps it"),
}


@click.group(cls=Group)
def codecs() -> None:
    """List the neural codecs whose tokens can be features.

    Example:  featstore codecs list
    """


@codecs.command("list")
@wide_option
@json_option
def list_codecs(as_json: bool) -> None:
    """List the codecs, where their weights come from, and what is to be installed for them.

    Example:  featstore codecs list
    """
    import importlib.util

    from featstore.models.tokenizers import CODECS

    rows = []
    for name, place in CODECS.items():
        needs = "transformers" if "transformers" in place else ""
        there = not needs or importlib.util.find_spec(needs) is not None
        what, weights = _FACTS.get(name, ("", ""))
        rows.append({"codec": name, "what it is": what, "weights": weights, "installed": there, "needs": needs})

    def text() -> str:
        ready = ["yes" if row["installed"] else f"pip install {row['needs']}" for row in rows]
        shown = [[*list(row.values())[:3], word] for row, word in zip(rows, ready, strict=True)]
        table = render_table(shown, ["codec", "what it is", "weights", "ready"], cut="what it is")
        return f"{table}\n\nUse one:  featstore extract TRACKS -f 'vq_tokens(codec=jukebox,weights=PATH)' -s STORE"

    emit(rows, as_json, text)
