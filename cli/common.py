"""What all commands share: printing tables and JSON, and options that recur."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

__all__ = [
    "emit",
    "feature_option",
    "json_option",
    "print_json",
    "render_table",
    "store_option",
]

Decorated = Callable[..., Any]


def json_option(function: Decorated) -> Decorated:
    """Add ``--json``: results for programs instead of people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def feature_option(function: Decorated) -> Decorated:
    """Add ``-f/--feature``, which repeats."""
    return click.option(
        "-f",
        "--feature",
        "features",
        multiple=True,
        required=True,
        help="A spec, a preset name, or a YAML file; repeats.",
    )(function)


def store_option(function: Decorated) -> Decorated:
    """Add ``-s/--store``."""
    return click.option("-s", "--store", "store", required=True, help="Path of the store.")(function)


def print_json(value: Any) -> None:
    """Print a value as JSON to stdout; NaN becomes null."""
    from featstore.plain import plain

    click.echo(json.dumps(plain(value), indent=1, ensure_ascii=False))


def emit(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print ``value`` as JSON, or the text for people."""
    if as_json:
        print_json(value)
    else:
        click.echo(text())


def render_table(rows: Iterable[Sequence[Any]], header: Sequence[str]) -> str:
    """Columns aligned under a header: numbers to the right, words to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(header))] if cells else []
    widths = [max([len(header[i]), *(len(row[i]) for row in cells)]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = [
            value.rjust(width) if numeric and numeric[i] else value.ljust(width)
            for i, (value, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(list(header)), line(["-" * width for width in widths]), *map(line, cells)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
