"""Answers of ``featstore report query``: rows of a SELECT, or what to keep and its alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from featstore_cli.common import print_json, table_width
from featstore_cli.report_options import metric_of, read_runs

if TYPE_CHECKING:
    from featstore.results import RunSet

__all__ = ["answer_choice", "answer_sql"]


def answer_sql(runs: RunSet, sql: str, style: Any) -> None:
    """Print the rows of a SELECT."""
    from featstore.results.sql import query as run_query
    from featstore.results.tables import format_rows, plain_rows

    rows = plain_rows(run_query(runs, sql))
    if style == "json":
        print_json(rows)
        return
    names = list(rows[0]) if rows else ["(no rows)"]

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.6g}" if isinstance(value, float) and style != "csv" else str(value)

    click.echo(format_rows(names, [[cell(row[name]) for name in names] for row in rows], style))


def answer_choice(runs: tuple[str, ...], style: Any, as_json: bool, asked: Mapping[str, Any]) -> None:
    """Answer --good-enough, --minimise or --budget: the answer first, then the alternatives."""
    from featstore.errors import ConfigError
    from featstore.results import choices, format_table, summarise
    from featstore.results.conditions import parse_bounds
    from featstore.results.fronts import MARGIN
    from featstore.units import parse_bytes, parse_within

    found = read_runs(runs, asked["conditions"])
    summary, bounds = summarise(found), parse_bounds(asked["least"], "--min")
    about: Any = {"metric": metric_of(found, asked["metric"] or next(iter(bounds), None)), "runs": found}
    if asked["good_enough"]:
        answer = choices.good_enough(summary, asked["cost"], margin=asked["margin"] or MARGIN, **about)
    elif asked["margin"] is not None:
        raise ConfigError("--margin belongs to --good-enough", "report query", "Add --good-enough, or use --within")
    elif asked["minimise"]:
        about |= {"within": parse_within(asked["within"]) if asked["within"] else None, "sure": asked["sure"]}
        answer = choices.minimise(summary, asked["minimise"], at_least=bounds, **about)
    elif asked["tracks"] is None:
        raise ConfigError("--budget needs the size of the collection", "report query", "Add --tracks 241904")
    else:
        size = parse_bytes(asked["budget"])
        answer = choices.fit_budget(summary, size, asked["tracks"], track_seconds=asked["track_seconds"], **about)
    if as_json:
        print_json(answer.as_json())
        return
    click.echo(f"{answer.sentence}\n")
    click.echo(f"All {len(answer.frame)} of {answer.considered} that qualify, the answer first:")
    click.echo(format_table(answer.frame, style, width=table_width()))
    if style in ("text", "markdown"):
        click.echo(f"\n{answer.statement}")
