"""Command ``featstore quickstart``."""

from __future__ import annotations

import click

from featstore_cli.common import json_option

__all__ = ["quickstart"]


@click.command()
@click.option("-o", "--out", default="featstore-quickstart", show_default=True, help="Folder for everything it makes.")
@click.option("--smoke", is_flag=True, help="The same path in under a minute, to see that it works.")
@click.option("-j", "--jobs", type=int, help="Processes; all cores by default.")
@json_option
def quickstart(out: str, smoke: bool, jobs: int | None, as_json: bool) -> None:
    """From music to an answer: demo music, features, 36 small models, what to keep, table, figure and page.

    Takes minutes on two cores, no GPU and no internet. Killed or run again, it goes on where it stopped.

    Example:  featstore quickstart -o first-look
    """
    from featstore.workflows.recipes import load_recipe, run_recipe
    from featstore_cli.recipe import tell_result

    result = run_recipe(load_recipe("quickstart", smoke=smoke), out, jobs=jobs)
    tell_result(result, as_json)
    if not as_json:
        click.echo(
            "\nNext:\n"
            f"  featstore store info {out}/store.zarr          what is stored, and what follows from it\n"
            f"  featstore report pareto {out}/runs              what to keep; --margin 0.05 accepts more\n"
            "  featstore datasets index folder YOUR_MUSIC -o tracks.parquet    your own collection"
        )
