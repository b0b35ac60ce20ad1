"""The ``featstore`` command: groups are imported only when called, so that ``--help`` is quick."""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import sys
from collections.abc import Callable
from typing import Any

import click

from featstore.errors import FeatstoreError
from featstore.log import NOISY_LOGGERS
from featstore.version import __version__
from featstore_cli.commands import Group
from featstore_cli.terminal import WarnedOnce, printable_streams, signals_interrupt

__all__ = ["cli", "main"]

# name -> (module:attribute, one line for the listing)
COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("quickstart:quickstart", "From music to an answer: your own with --music, or built-in music."),
    "datasets": ("datasets:datasets", "List, index, check and split collections of music."),
    "features": ("features:features", "List the kinds of features and the presets, and what they take."),
    "codecs": ("codecs:codecs", "List the neural codecs whose tokens can be features."),
    "plan": ("extract:plan", "Say what an extraction would compute and cost."),
    "extract": ("extract:extract", "Compute features of all tracks into a store."),
    "status": ("extract:status", "Say how far an extraction is, and what failed."),
    "store": ("store:store", "Look into stores, check and mend them."),
    "pretrain": ("train:pretrain", "Pretrain a model from a store, without labels."),
    "tokenizer": ("tokenizer:tokenizer", "Train tokenizers; turn audio into tokens and back."),
    "train": ("train:train", "Train a model from a store."),
    "sweep": ("sweep:sweep", "Train a grid of features, models and seeds."),
    "evaluate": ("train:evaluate", "Score a trained model again."),
    "tag": ("tag:tag", "Tag audio with a trained or published model."),
    "models": ("models:models", "List models and what they cost; convert published weights."),
    "filters": ("filters:filters", "Draw the filters that a model learned."),
    "sonify": ("sonify:sonify", "Hear what a representation keeps."),
    "report": ("report:report", "Tables, fronts, figures and pages from runs."),
    "recipe": ("recipe:recipe", "List, show and run whole experiments."),
    "doctor": ("doctor:doctor", "Say what is installed and what works here."),
}


class LazyGroup(Group):
    """A group whose commands live in modules that are imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"featstore_cli.{module}"), attribute)
        _keep_lines(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _keep_lines(command: click.Command) -> None:
    """Turn the mark of paragraphs whose lines stay as they are into click's own: raw docstrings spell it out."""
    command.help = command.help and command.help.replace("\\b\n", "\b\n")
    for inner in getattr(command, "commands", {}).values():
        _keep_lines(inner)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="featstore")
@click.option("-v", "--verbose", count=True, help="More log lines on stderr; twice for every track.")
def cli(verbose: int) -> None:
    """Feature caches for music: extract once, train from the cache, see what each byte buys.

    Begin with:  featstore quickstart
    """
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(WarnedOnce())
    logging.basicConfig(handlers=[handler], level=level, format="%(levelname)s %(name)s: %(message)s")
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def main(args: list[str] | None = None) -> None:
    """Run the command line; every error of ours is one sentence on stderr and exit code 1."""
    with printable_streams(), signals_interrupt() as is_interrupted:
        code = _run(args, is_interrupted)
        if is_interrupted():
            # where the interrupt met an exec of text, as in a dataclass, CPython would end `python -m featstore` by
            # SIGINT in place of our code; any further exec of text makes it forget that
            exec("")
    sys.exit(code if isinstance(code, int) else 0)


def _run(args: list[str] | None, is_interrupted: Callable[[], bool]) -> Any:
    """Exit code of a command."""
    code: Any
    try:
        code = cli.main(args=args, prog_name="featstore", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        click.echo(_say_interrupted(error, args), err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = 1
    except FeatstoreError as error:
        click.echo(f"error: {error}", err=True)
        code = getattr(error, "exit_code", 1)
    except BrokenPipeError:  # the reader of our output went away: not our failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:  # of a file of the user's that no reader or writer of ours has a sentence for
        what, place = error.strerror or str(error), str(error.filename or "")
        click.echo(f"error: {FeatstoreError(what, place, 'Check the path, its permissions and the disk')}", err=True)
        code = 1
    except Exception:  # an interrupt that meets the import of compiled code may come out of it as something else
        if not is_interrupted():
            raise
        click.echo(_say_interrupted(KeyboardInterrupt(), args), err=True)
        code = 130
    return code


def _say_interrupted(error: BaseException, args: list[str] | None) -> str:
    """One sentence, and the command that goes on."""
    asked = error if isinstance(error, KeyboardInterrupt) else error.__cause__
    what = str(asked or "") or "what is committed stays"
    return f"interrupted: {what}. To go on: {shlex.join(['featstore', *(sys.argv[1:] if args is None else args)])}"


if __name__ == "__main__":
    main()
