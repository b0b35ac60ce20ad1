"""What all commands share: printing tables and JSON, and options that recur."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from featstore.text_tables import text_table, text_width
from featstore_cli.commands import completer

__all__ = [
    "definitions",
    "emit",
    "feature_option",
    "json_option",
    "next_lines",
    "parse_seeds",
    "print_json",
    "renamed_option",
    "render_table",
    "short_names",
    "store_option",
    "table_width",
    "terminal_width",
    "typed_command",
    "wide_option",
]

Decorated = Callable[..., Any]
_WIDE = "featstore.wide"
_FEW_WORDS = 24
_LONG = 60  # columns of a command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")

feature_option = click.option(
    "-f",
    "--feature",
    "features",
    multiple=True,
    required=True,
    shell_complete=completer("features"),
    help="A spec, a preset name, or a YAML file; repeats.",
)

store_option = click.option("-s", "--store", "store", required=True, help="Path of the store.")


def renamed_option(old: str, name: str, new: str) -> Callable[[Decorated], Decorated]:
    """Accept an option under its old name for one release, with a warning that names the new one."""

    def accept(context: click.Context, option: click.Parameter, value: Any) -> None:
        if value is not None:
            click.echo(f"{old} is called {new} now; the old name goes with the next release", err=True)
            context.params[name] = value

    return click.option(old, f"old_{name}", hidden=True, expose_value=False, callback=accept)


def parse_seeds(context: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    """Callback of ``--seeds``: a list such as ``0,1,2``, or a range such as ``0-2``."""
    if value is None:
        return None
    found: list[int] = []
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and (not last.isdecimal() or int(last) < int(first))):
            raise click.BadParameter(f"{value!r} is not a list of whole numbers; write it like 0,1,2 or 0-2")
        found += range(int(first), int(last or first) + 1)
    if value.strip().isdecimal() and int(value) > 0:
        click.echo(f"--seeds {value} is the one seed {value}; several are written 0,1,2 or 0-2", err=True)
    return list(dict.fromkeys(found))


def typed_command() -> str:
    """The command of this process as a shell takes it."""
    return shlex.join(["featstore", *sys.argv[1:]])


def next_lines(lines: Sequence[tuple[str, str]]) -> str:
    """What to do next: commands, and what each is for; long commands do not move what is said of others."""
    width = max((size for command, _ in lines if (size := text_width(command)) <= _LONG), default=0)
    shown = (f"  {command}{' ' * (width - text_width(command))}   {what}" for command, what in lines)
    return "\n".join(["", "Next:", *shown])


def print_json(value: Any) -> None:
    """Print a value as JSON to stdout; NaN becomes null."""
    from featstore.plain import plain

    click.echo(json.dumps(plain(value), indent=1, ensure_ascii=False))


def emit(value: Any, as_json: bool, text: Callable[[], str], *, exit_code: int = 0) -> None:
    """Print ``value`` as JSON, or the text for people; then end the command, where it has an exit code."""
    if as_json:
        print_json(value)
    else:
        click.echo(text())
    if exit_code:
        raise click.exceptions.Exit(exit_code)


def wide_option(function: Decorated) -> Decorated:
    """Add ``--wide``: tables show all columns; without, as many as fit."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.meta[_WIDE] = value

    text = "All columns of tables, whatever the width of the terminal."
    return click.option("--wide", is_flag=True, expose_value=False, callback=remember, help=text)(function)


def table_width() -> int | None:
    """Columns that a table may take: those of the terminal; None with --wide, or in a command without it."""
    context = click.get_current_context(silent=True)
    wide = True if context is None else context.meta.get(_WIDE, True)
    return None if wide else terminal_width()


def terminal_width() -> int:
    """Columns of the terminal, 80 where there is none; the variable COLUMNS goes before both."""
    return shutil.get_terminal_size((80, 24)).columns


def render_table(
    rows: Iterable[Sequence[Any]], header: Sequence[str], first_to_go: Sequence[str] = (), *, cut: str = ""
) -> str:
    """Columns aligned under a header: numbers to the right, words to the left.

    In a command with ``--wide`` the table fits the terminal: the texts of the column ``cut`` are shortened, then
    columns are left out in the order of ``first_to_go``, then from the last one on. A line tells of either.
    """
    rows = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in rows]
    width, was_cut = table_width(), False
    if cut and width is not None:
        was_cut = shorten(cells, header, header.index(cut), width)
    words = [not rows or any(not isinstance(row[i], (int, float)) for row in rows) for i in range(len(header))]
    table = text_table(header, cells, words, width=width, first_to_go=first_to_go)
    return f"{table}\n({cut}: cut; --wide shows all)" if was_cut and not table.endswith("--wide shows all)") else table


def definitions(entries: Sequence[tuple[str, str]]) -> str:
    """Terms and their texts in two columns, as in ``--help``; as wide as the terminal."""
    formatter = click.HelpFormatter(width=terminal_width())
    formatter.write_dl(entries, col_max=34)
    return formatter.getvalue()


def short_names(features: str) -> str:
    """Features of an array or a run, named by what differs from the defaults: for people."""
    from featstore.specs import parse_feature

    requests = map(parse_feature, features.split(" + "))
    return " + ".join(each.spec.short() + (f"@{each.encoding.name}" if each.encoding else "") for each in requests)


def shorten(cells: list[list[str]], header: Sequence[str], column: int, width: int) -> bool:
    """Cut the texts of a column so that the table fits, but not below a few words; whether any was cut."""
    others = sum(max(text_width(row[i]) for row in [header, *cells]) + 2 for i in range(len(header)) if i != column)
    room = max(_FEW_WORDS, width - others)
    long = [row for row in cells if text_width(row[column]) > room]
    for row in long:
        row[column] = row[column][: room - 1].rstrip(" ,.;") + "…"
    return bool(long)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
