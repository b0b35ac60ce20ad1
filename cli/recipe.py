"""Commands ``featstore recipe …``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from featstore_cli.commands import Group, completer
from featstore_cli.common import (
    emit,
    json_option,
    next_lines,
    parse_seeds,
    print_json,
    render_table,
    table_width,
    typed_command,
    wide_option,
)

__all__ = ["end_with", "lacking_lines", "recipe", "result_as_json", "tell_answer", "tell_result"]


@click.group(cls=Group)
def recipe() -> None:
    """List, show and run whole experiments."""


@recipe.command(name="list")
@wide_option
@json_option
def list_(as_json: bool) -> None:
    """List the recipes that are installed.

    Example:  featstore recipe list
    """
    from featstore.workflows.recipes import list_recipes

    header = ["name", "title", "features", "models", "seeds", "minutes"]
    rows = [(r.name, r.title, r.n_features, r.n_models, len(r.seeds), r.minutes) for r in list_recipes()]
    payload = [dict(zip(header, row, strict=True)) for row in rows]
    emit(payload, as_json, lambda: render_table(rows, header, cut="title"))


@recipe.command()
@click.argument("name", shell_complete=completer("recipes"))
def show(name: str) -> None:
    """Print a recipe's files.

    Example:  featstore recipe show quickstart
    """
    from featstore.workflows.recipes import recipe_text

    click.echo(recipe_text(name))


@recipe.command()
@click.argument("name", shell_complete=completer("recipes"))
@click.option(
    "--data",
    multiple=True,
    metavar="KIND[=ROOT]",
    help="Use this data set instead of the recipe's own; a second one is what models may start from.",
)
@click.option(
    "--data-option", "data_options", multiple=True, metavar="NAME=VALUE", help="An option of the data set; repeats."
)
@click.option(
    "--encoder", "encoders", multiple=True, metavar="NAME=FILE", help="Weights of an encoder that the recipe names."
)
@click.option("-o", "--out", help="Folder for everything; the recipe's name by default.")
@click.option("--smoke", is_flag=True, help="The same path in seconds, to see that it works.")
@click.option("--seeds", metavar="N,N…", callback=parse_seeds, help="One run for each: 0,1,2 or 0-2.")
@click.option("--width", type=float, help="Width of the models that have one, such as 0.125.")
@click.option("--epochs", type=int, help="Epochs at most.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A training setting; repeats.")
@click.option(
    "--only",
    multiple=True,
    metavar="STAGE|EXPERIMENT|CONDITION",
    help="data, extract, train, shift or report; an experiment of the recipe; or configurations, such as "
    "n_mels=48|96 or model=vgg-cnn; repeats.",
)
@click.option(
    "--budget-minutes",
    type=click.FloatRange(min=0, min_open=True),
    metavar="M",
    help="Train what fits into M minutes: short runs first, the better half goes on with twice the epochs.",
)
@click.option("-j", "--jobs", type=int, help="Processes; all cores by default.")
@wide_option
@json_option
def run(
    name: str,
    data: tuple[str, ...],
    data_options: tuple[str, ...],
    encoders: tuple[str, ...],
    out: str | None,
    smoke: bool,
    assignments: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    r"""Run a recipe stage by stage; run again, it does only what is missing.

    A run that fails ends nothing else; it is named at the end. The exit code is 2 when runs or tracks failed.

    NAME is an installed recipe, a folder with a plan.yaml, or a folder that a recipe was run in.

    \b
    Examples:
      featstore recipe run quickstart --smoke --out smoke
      featstore recipe run ferraro2020 --budget-minutes 60
      featstore recipe run ferraro2020 --data mtat=MagnaTagATune --only 'scale=db,n_mels=48|96' --seeds 0-2
    """
    from featstore.training.settings import parse_assignments
    from featstore.workflows.recipe_execution import run_recipe
    from featstore.workflows.recipe_weights import given_encoders
    from featstore.workflows.recipes import load_recipe, with_overrides

    own = {"data_options": parse_assignments(data_options), "changes": given_encoders(encoders)}
    chosen = load_recipe(name, smoke=smoke, data=data[0] if data else None, **own)
    over = {key: options.pop(key) for key in ("seeds", "width", "epochs")}
    chosen = with_overrides(chosen, settings=parse_assignments(assignments), **over)
    before = [load_recipe(name, smoke=smoke, data=each) for each in data[1:]]
    result = run_recipe(
        chosen, out or chosen.name, command=typed_command(), before=before, width=table_width(), **options
    )
    place = result.folder
    lines = [(f"featstore store info {place}/store.zarr", "what is stored, and what follows from it")]
    if (place / "runs").is_dir():
        lines.insert(0, (f"featstore report pareto {place}/runs", "what to keep"))
        lines.insert(1, (f"featstore report html {place}/runs -o report.html", "all runs on one page"))
    tell_result(result, as_json, lines)


def lacking_lines(result: Any) -> list[tuple[str, str]]:
    """How to add the rows of optional encoders whose weights are not here."""
    return [
        (f"featstore models fetch {name}", "get a published encoder; the same command then adds its vectors")
        for name in result.lacking
    ]


def result_as_json(result: Any) -> dict[str, Any]:
    """Return what a recipe left behind, as plain values."""
    return {
        "folder": str(result.folder),
        "extraction": result.extraction.as_json(),
        "answer": {key: value for key, value in result.answer.items() if key != "rows"},
        "configurations": result.answer.get("rows", []),
        "lacking": result.lacking,
        "files": [str(path) for path in result.files],
        "failed": result.failed,
    }


def tell_result(result: Any, as_json: bool, after: Sequence[tuple[str, str]]) -> None:
    """Print the answer, the table, what was written and what to do next."""
    if as_json:
        print_json(result_as_json(result))
    else:
        tell_answer(result)
        click.echo(next_lines([*after, *lacking_lines(result)]))
    end_with(result)


def end_with(result: Any) -> None:
    """Say how many tracks failed; end with exit code 2 where tracks or runs did."""
    if failed := result.extraction.asked.get("failed"):
        of = f"{failed} of {result.extraction.asked['tracks']}"
        click.echo(f"{of} tracks failed: featstore status {result.extraction.store} --failures", err=True)
    if failed or result.failed:
        raise click.exceptions.Exit(2)


def tell_answer(result: Any) -> None:
    """Print the answer, the table and what was written."""
    click.echo(result.report)
    for path in result.files:
        click.echo(f"wrote {path}")
    for text in result.failed:
        click.echo(f"failed: {text}", err=True)
