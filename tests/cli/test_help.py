"""Every command explains itself, with an example whose lines are kept as they were written."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from featstore_cli.main import COMMANDS, cli


def commands() -> list[list[str]]:
    """All commands, those inside groups included."""
    found: list[list[str]] = []

    def walk(command: click.Command, path: list[str]) -> None:
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(inner, [*path, name])
        else:
            found.append(path)

    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        walk(command, [name])
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_help_has_an_example(path: list[str]) -> None:
    done = CliRunner().invoke(cli, [*path, "--help"], terminal_width=110)
    assert done.exit_code == 0, done.output
    assert "\\b" not in done.output
    assert "Example" in done.output
    if "Examples:" in done.output:
        lines = [line.strip() for line in done.output.splitlines()]
        assert "Examples:" in lines, "a line of its own"
