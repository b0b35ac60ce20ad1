"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.atomic import write_text
from featstore.results.records import RunSet
from featstore.results.summary import summarise
from featstore.results.tables import display_table

if TYPE_CHECKING:
    pass

__all__ = ["write_html"]


def write_html(runs: RunSet, path: str | Path, *, title: str = "featstore report", details: int = 300) -> Path:
    """Write a self-contained page on ``runs`` to ``path``."""
    heads, rows, note = display_table(summarise(runs))
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    head = "".join(f"<th>{html.escape(c)}</th>" for c in heads)
    write_text(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<h1>{html.escape(title)}</h1><p>{html.escape(note)}</p><table><tr>{head}</tr>{cells}</table></html>\n",
    )
    return Path(path)
