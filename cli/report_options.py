"""Options that commands of ``featstore report`` share, and the runs that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from featstore.results import RunSet

__all__ = [
    "format_option",
    "late_gain_option",
    "margin_option",
    "metric_of",
    "out_option",
    "read_runs",
    "retired_options",
    "runs_argument",
    "split_option",
    "where_option",
]

_STYLES = ("text", "markdown", "csv", "json", "latex")


runs_argument = click.argument("runs", nargs=-1, required=True)

where_option = click.option(
    "-w",
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only runs that meet it: model=vgg-cnn, n_mels>=48, encoding=uint8|float16; repeats.",
)

split_option = click.option("--split", default="test", show_default=True, help="Split that was scored.")

out_option = click.option(
    "-o",
    "--out",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to draw: .png, .svg or .pdf; repeats.",
)

margin_option = click.option(
    "--margin",
    type=click.FloatRange(0.0, min_open=True),
    help="Loss against the best that is accepted, on the score's own scale: 0.02 is 2 points.  [default: 0.02]",
)

late_gain_option = click.option(
    "--late-gain",
    type=click.FloatRange(0.0),
    help="Rows whose validation score gained more than this in the last quarter of training are on no front.",
)


def retired_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options of the t-tests that bounds have replaced: they say so, and do nothing."""

    def warn(_: click.Context, option: click.Parameter, value: Any) -> None:
        if value is not None:
            text = "has no effect: bounds on the loss have replaced the tests, and test tracks are always resampled."
            click.echo(f"--{option.name} {text} The option goes with the next release.", err=True)

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            function = click.option(f"--{name}", hidden=True, expose_value=False, callback=warn)(function)
        return function

    return decorated


def format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format``; ``json`` in it is the old way to say ``--json``."""

    def warn(_: click.Context, option: click.Parameter, value: str) -> str:
        if value == "json":
            click.echo("--format json is called --json now; the old name goes with the next release", err=True)
        return value

    shown = f"[{'|'.join(style for style in _STYLES if style != 'json')}]"
    settings: dict[str, Any] = {"type": click.Choice(_STYLES), "metavar": shown, "default": "text", "callback": warn}
    return click.option("--format", "style", show_default=True, **settings)(function)


def read_runs(roots: tuple[str, ...], conditions: tuple[str, ...] = (), split: str = "test") -> RunSet:
    """Read the runs that meet the conditions, and say on stderr what was skipped."""
    from featstore.errors import ConfigError
    from featstore.results import read_results
    from featstore.results.conditions import selected

    found = read_results(*roots)
    for skip in found.skipped[:10]:
        click.echo(f"skipped: {skip}", err=True)
    if len(found.skipped) > 10:
        click.echo(f"skipped: {len(found.skipped) - 10} more folders", err=True)
    if not len(found):
        raise ConfigError("no finished run was found", ", ".join(roots), "Train a model first: featstore train --help")
    kept = selected(found, conditions, split=split) if conditions else found
    if not len(kept):
        raise ConfigError(f"none of {len(found)} runs meets the conditions", "--where", "Loosen them")
    return kept


def metric_of(runs: RunSet, metric: str | None, split: str = "test") -> str:
    """The metric asked for, or the first one that the runs have."""
    from featstore.errors import ConfigError
    from featstore.results.frames import metrics_in

    found = metrics_in(runs.frame, split)
    if not metric and not found:
        raise ConfigError(f"no run has scores on the split {split!r}", "report", "Choose another with --split")
    return metric or found[0]
