"""Command ``featstore quickstart``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featstore_cli.commands import Command, completer
from featstore_cli.common import json_option, next_lines, print_json, table_width, typed_command, wide_option

if TYPE_CHECKING:
    from featstore.workflows.own_music import Survey

__all__ = ["quickstart"]


@click.command(cls=Command)
@click.option(
    "--music",
    metavar="FOLDER|CSV",
    shell_complete=completer("files"),
    help="Your own music: sub-folders are labels; or a list of files.",
)
@click.option("--label-column", metavar="NAME", help="With a list: the column of the labels.")
@click.option(
    "-o",
    "--out",
    default="featstore-quickstart",
    show_default=True,
    shell_complete=completer("folders"),
    help="Folder for everything it makes.",
)
@click.option("--smoke", is_flag=True, help="The same path in under a minute, to see that it works.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes; all cores by default.")
@wide_option
@json_option
def quickstart(
    music: str | None, label_column: str | None, out: str, smoke: bool, jobs: int | None, as_json: bool
) -> None:
    r"""From music to an answer: features, small models, what to keep, table, figure and page.

    Takes minutes on two cores, no GPU and no internet. Killed or run again, it goes on where it stopped. Without
    --music it renders music of its own first. With --music, the folder is looked at before anything is written: what
    the labels, groups and splits are, and what cannot be used. Groups (the artist tag, or the folder below the label)
    never are on two sides of a split. Music without labels is extracted, not trained on.

    \b
    Examples:
      featstore quickstart -o first-look
      featstore quickstart --music my-music -o my-answer
    """
    if music is not None:
        _on_own_music(music, label_column, Path(out), smoke, jobs, as_json)
        return
    if label_column is not None:
        raise click.UsageError("--label-column names a column of a list: add --music LIST.csv")
    from featstore.workflows.recipe_execution import run_recipe
    from featstore.workflows.recipes import load_recipe
    from featstore_cli.recipe import tell_result

    how: Any = {"jobs": jobs, "command": typed_command(), "width": table_width()}
    lines = [
        ("featstore quickstart --music FOLDER -o my-answer", "the same on your own music"),
        (f"featstore store info {out}/store.zarr", "what is stored, and what follows from it"),
        (f"featstore report pareto {out}/runs --margin 0.05", "what to keep, when more may be lost"),
    ]
    tell_result(run_recipe(load_recipe("quickstart", smoke=smoke), out, **how), as_json, lines)


def _on_own_music(
    music: str, label_column: str | None, out: Path, smoke: bool, jobs: int | None, as_json: bool
) -> None:
    from featstore.atomic import write_text
    from featstore.workflows.own_music import survey_music
    from featstore.workflows.recipe_execution import run_recipe
    from featstore.workflows.steps import SCRIPT_HEAD, steps_of
    from featstore_cli.recipe import end_with, lacking_lines, result_as_json, tell_answer

    survey = survey_music(music, label_column=label_column, jobs=jobs)
    click.echo(f"{music}:", err=True)
    for sentence in survey.sentences:
        click.echo(f"  {sentence}", err=True)
    recipe = survey.recipe(smoke=smoke)
    how: Any = {"jobs": jobs, "command": typed_command(), "width": table_width()}
    stages = () if survey.trains else ("data", "extract")
    result = run_recipe(recipe, out, only=stages, table=survey.table, **how)
    steps = out / "steps.sh"
    write_text(steps, "\n".join([SCRIPT_HEAD, *steps_of(recipe, out, trains=survey.trains)]) + "\n")
    if as_json:
        print_json({"survey": survey.as_json(), **result_as_json(result), "steps": str(steps)})
    else:
        if survey.trains:
            tell_answer(result)
        else:
            from featstore_cli.store import describe_store, read_sizes

            click.echo(describe_store(*read_sizes(str(out / "store.zarr"))))
        for line in survey.advice:
            click.echo(f"\nNote: {line}.")
        click.echo(next_lines([*_next(survey, out, steps), *(lacking_lines(result) if survey.trains else [])]))
    end_with(result)


def _next(survey: Survey, out: Path, steps: Path) -> list[tuple[str, str]]:
    if survey.trains:
        lines = [
            (f"featstore report pareto {out}/runs --margin 0.05", "what to keep, when more may be lost"),
            (f"featstore recipe run {out} -o again", "the same again, from its recipe"),
        ]
    elif survey.vectors:
        lines = [(f"featstore tag mtt-musicnn {shlex.quote(survey.music)}", "tags of a published model")]
    elif survey.fills_window:
        lines = [("featstore models fetch mtt-musicnn", "get an encoder, then run this again for its vectors")]
    else:
        lines = []
    return [
        *lines,
        (f"featstore store info {out}/store.zarr", "what is stored, and what follows from it"),
        (f"sh {steps}", "all steps as single commands: read it, change it"),
    ]
