"""``featstore report``: answers from measured runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["report"]


@click.group()
def report() -> None:
    r"""Answer from measured runs: tables, fronts, SQL, figures, a page.

    RUNS are folders that hold runs at any depth. Folders that cannot be used are listed and skipped.

    \b
    Example:
      featstore report table runs/
    """


def _runs(roots: tuple[str, ...]) -> Any:
    """Read the runs, and say on stderr what was skipped."""
    from featstore.errors import ConfigError
    from featstore.results import read_results

    found = read_results(*roots)
    for skip in found.skipped[:10]:
        click.echo(f"skipped: {skip}", err=True)
    if len(found.skipped) > 10:
        click.echo(f"skipped: {len(found.skipped) - 10} more folders", err=True)
    if not len(found):
        raise ConfigError("no finished run was found", ", ".join(roots), "Train a model first: featstore train --help")
    return found


@report.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--by", help="Columns that make a row, separated by commas: model,n_mels,hop_multiple,encoding,…")
@click.option("--metric", "metrics", multiple=True, help="Metric to show; repeats. All by default.")
@click.option("--split", default="test", show_default=True, help="Split that was scored.")
@click.option(
    "--format", "style", default="text", show_default=True, help="text, markdown, csv, json or latex (booktabs)."
)
@click.option("--wide", is_flag=True, help="Every cost, and the interval of every metric.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def table(
    runs: tuple[str, ...], by: str | None, metrics: tuple[str, ...], split: str, style: str, wide: bool, as_json: bool
) -> None:
    r"""Print mean ± std and interval over seeds or folds, with what it costs.

    \b
    Example:
      featstore report table runs/ --by model,n_mels,hop_multiple --format latex
    """
    from featstore.results import format_table, summarise

    columns = [name.strip() for name in by.split(",")] if by else None
    summary = summarise(_runs(runs), columns, metrics=metrics or None, split=split)
    click.echo(format_table(summary, "json" if as_json else style, wide=wide))  # type: ignore[arg-type]


@report.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--x", default="bytes_alone", show_default=True, help="Axis of cost, or two separated by a comma.")
@click.option("--y", default=None, help="Metric; the first one that the runs have by default.")
@click.option("--test", default="welch", show_default=True, help="welch, or independent as in the resolution study.")
@click.option("-o", "--out", "outputs", multiple=True, type=click.Path(path_type=Path), help="Figure: png, svg, pdf.")
@click.option("--json", "as_json", is_flag=True, help="Print plain values for programs.")
def pareto(runs: tuple[str, ...], x: str, y: str | None, test: str, outputs: tuple[Path, ...], as_json: bool) -> None:
    r"""Find what is worth its bytes, and what cannot be told apart from the best.

    \b
    Example:
      featstore report pareto runs/ --x bytes_alone --y roc_auc -o front.png -o front.svg
    """
    from featstore.results import format_table, summarise
    from featstore.results import pareto as find_front
    from featstore.results.frames import metrics_in

    found = _runs(runs)
    metric = y or metrics_in(found.frame)[0]
    front = find_front(summarise(found), [name.strip() for name in x.split(",")], metric, test=test)  # type: ignore[arg-type]
    if outputs:
        from featstore.results import plot_pareto

        plot_pareto(front, outputs)
    if as_json:
        click.echo(json.dumps(front.as_dict(), indent=1, ensure_ascii=False))
        return
    click.echo(format_table(front.frame))
    click.echo(f"\n{front.statement}")
    for path in outputs:
        click.echo(f"Figure: {path}")


@report.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("-o", "--out", default="report.html", show_default=True, type=click.Path(path_type=Path))
@click.option("--title", default="featstore report", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print plain values for programs.")
def html(runs: tuple[str, ...], out: Path, title: str, as_json: bool) -> None:
    r"""Write one self-contained page that works offline.

    \b
    Example:
      featstore report html runs/ -o report.html
    """
    from featstore.results import write_html

    written = write_html(_runs(runs), out, title=title)
    click.echo(json.dumps({"page": str(written)}) if as_json else f"Page: {written}")
