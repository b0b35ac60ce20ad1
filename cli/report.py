"""Commands ``featstore report …``: answers from measured runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from featstore.units import counted
from featstore_cli.commands import Group, completer
from featstore_cli.common import emit, json_option, print_json, table_width, terminal_width, wide_option
from featstore_cli.report_options import (
    format_option,
    late_gain_option,
    margin_option,
    metric_of,
    out_option,
    read_runs,
    retired_options,
    runs_argument,
    split_option,
    where_option,
)
from featstore_cli.report_query import answer_choice, answer_sql

__all__ = ["report"]

_COSTS = ("bytes", "storage", "gmacs", "time")
_KINDS = ("pareto", "figure1", *_COSTS, "curves", "classes", "encoding", "probes", "gallery")


@click.group(cls=Group)
def report() -> None:
    r"""Answer from measured runs: tables, questions, SQL, fronts, figures, a page.

    RUNS are folders that hold runs at any depth. What cannot be used is listed and skipped.

    \b
    Example:
      featstore report table runs/
    """


def _names(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",")]


@report.command()
@runs_argument
@click.option("--by", metavar="COLUMNS", help="Columns that make a row: model,n_mels,hop_multiple,encoding,…")
@where_option
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=completer("metrics"),
    help="Metric to show; repeats. All by default.",
)
@split_option
@click.option("--over", type=click.Choice(["auto", "run", "seed", "fold"]), default="auto", show_default=True,
              help="What counts as one repetition.")  # fmt: skip
@click.option("--confidence", type=click.FloatRange(0.5, 0.9999), default=0.95, show_default=True)
@click.option("--costs", metavar="COLUMNS", help="Costs to show: bytes_alone,bytes_added,bytes_per_hour,gmacs,…")
@click.option("--published", is_flag=True, help="Put the papers' numbers for the same configuration beside.")
@format_option
@click.option("--wide", is_flag=True, help="Every cost, the interval of every metric, all columns.")
@click.option("-o", "--out", "output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead.")
@json_option
def table(
    runs: tuple[str, ...],
    by: str | None,
    conditions: tuple[str, ...],
    metrics: tuple[str, ...],
    split: str,
    costs: str | None,
    published: bool,
    style: Any,
    wide: bool,
    output: Path | None,
    as_json: bool,
    **repeats: Any,
) -> None:
    r"""Print mean ± std [interval] over seeds or folds, and what it costs.

    \b
    Examples:
      featstore report table runs/ --by model,n_mels,hop_multiple --format latex
      featstore report table runs/ --where encoding=uint8 --published
    """
    from featstore.atomic import write_text
    from featstore.results import format_table, join_published, summarise

    found = read_runs(runs, conditions, split)
    summary = summarise(found, _names(by) if by else None, metrics=metrics or None, split=split, **repeats)
    if published:
        summary = join_published(summary, metrics[0] if metrics else metric_of(found, None, split))
    width = None if wide or output else terminal_width()
    text = format_table(
        summary, "json" if as_json else style, costs=_names(costs) if costs else None, wide=wide, width=width
    )
    if output is None:
        click.echo(text)
        return
    write_text(output, text + "\n")
    click.echo(f"Written: {output}", err=True)


@report.command()
@runs_argument
@click.option("--sql", metavar="SELECT", help="One SELECT over runs, scores, epochs, stores, features, tracks, …")
@click.option("--good-enough", is_flag=True, help="Find the cheapest that is sure to lose at most --margin.")
@margin_option
@click.option("--cost", default="bytes_alone", show_default=True, help="What is to be small, for --good-enough.")
@click.option("--minimise", metavar="COST", help="Find the cheapest whose mean is high enough: bytes, gmacs, time, …")
@click.option("--min", "least", multiple=True, metavar="METRIC=VALUE", help="Least mean score; repeats.")
@click.option("--sure", is_flag=True, help="The whole interval has to meet --min and --within, not only the mean.")
@click.option("--within", metavar="SHARE", help="How far below the best is good enough: 0.5% of it, or 0.005.")
@click.option("--of", "of", type=click.Choice(["best"]), default="best", help="What --within is measured from.")
@click.option("--budget", metavar="SIZE", help="Find what loses least among those that fit on a disk: 50GB, 2TiB.")
@click.option("--tracks", type=click.IntRange(min=1), help="Tracks of the collection, for --budget.")
@click.option("--track-seconds", type=click.FloatRange(min=0.0, min_open=True), help="Their mean duration.")
@click.option(
    "--metric",
    shell_complete=completer("metrics"),
    help="Metric to compare by; the first that the runs have by default.",
)
@where_option
@retired_options("test")
@wide_option
@format_option
@json_option
def query(runs: tuple[str, ...], sql: str | None, style: Any, as_json: bool, **question: Any) -> None:
    r"""Answer a question in plain options, or in SQL (read-only).

    \b
    Examples:
      featstore report query runs/ --good-enough --margin 0.02
      featstore report query runs/ --minimise bytes --min roc_auc=0.88
      featstore report query runs/ --minimise bytes --within 0.5% --of best
      featstore report query runs/ --budget 50GB --tracks 241904
      featstore report query runs/ --sql "SELECT n_mels, avg(roc_auc) FROM runs GROUP BY n_mels"
    """
    from featstore.errors import ConfigError

    asked = [name for name in ("good_enough", "minimise", "budget") if question[name]] + (["sql"] if sql else [])
    if len(asked) != 1:
        text = " and ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise ConfigError(
            f"{text} are two questions" if asked else "no question was asked",
            "report query",
            "Give one of --good-enough, --budget, --minimise, --sql",
        )
    if sql:
        answer_sql(read_runs(runs, question["conditions"]), sql, "json" if as_json else style)
    else:
        answer_choice(runs, style, as_json, question)


@report.command()
@runs_argument
@click.option("--x", default="bytes_alone", show_default=True, help="Axis of cost, or two separated by a comma.")
@click.option("--y", default=None, help="Metric; the first that the runs have by default.")
@margin_option
@late_gain_option
@click.option("--confidence", type=click.FloatRange(0.5, 0.9999), default=0.95, show_default=True,
              help="That all bounds hold at once.")  # fmt: skip
@retired_options("test", "alpha", "bootstrap")
@where_option
@split_option
@out_option
@click.option("--title", default="", help="Title of the figure.")
@wide_option
@format_option
@json_option
def pareto(
    runs: tuple[str, ...],
    x: str,
    y: str | None,
    late_gain: float | None,
    conditions: tuple[str, ...],
    outputs: tuple[Path, ...],
    title: str,
    style: Any,
    as_json: bool,
    **options: Any,
) -> None:
    r"""Say what to keep: what each configuration costs, and how much worse than the best it can be.

    \b
    Examples:
      featstore report pareto runs/ -o front.png -o front.svg
      featstore report pareto runs/ --margin 0.01
      featstore report pareto runs/ --x rate,gmacs --y pr_auc
    """
    from featstore.results import answer_sentences, format_table, mark_undertrained, plot_pareto, summarise
    from featstore.results import pareto as find_front
    from featstore.results.choices import cost_name
    from featstore.results.fronts import MARGIN
    from featstore.results.sentences import answer_json

    options["margin"] = options["margin"] or MARGIN
    split = options["split"]
    found = read_runs(runs, conditions, split)
    axes = [cost_name(name) for name in _names(x)]
    metric = metric_of(found, y, split)
    summary = mark_undertrained(summarise(found, split=split), found, metric, late_gain)
    front = find_front(summary, axes, metric, runs=found, **options)
    drawn = plot_pareto(front, outputs, title=title) if outputs else []
    if as_json:
        print_json(answer_json(front) | {"figures": [str(path) for path in drawn]})
        return
    people = style in ("text", "markdown")
    if people:
        click.echo("\n".join(answer_sentences(front)) + "\n")
    click.echo(format_table(front.frame, style, width=table_width()))
    if people:
        click.echo(f"\n{front.statement}")
    for path in drawn:
        click.echo(f"Figure: {path}", err=not people)


@report.command()
@runs_argument
@click.option("-k", "--kind", type=click.Choice(_KINDS), default="pareto", show_default=True, help="What to draw.")
@out_option
@click.option("--metric", shell_complete=completer("metrics"), help="Metric; the first that the runs have by default.")
@click.option("--colour", default="", metavar="COLUMN", help="bytes, gmacs, time: a colour for each value of it.")
@click.option("--published", metavar="DATASET", default="", help="figure1: add the study's own numbers, MTAT or MSD.")
@click.option("--store", default="", help="gallery: the store; that of the first run by default.")
@click.option("-f", "--feature", "features", multiple=True, help="gallery: features to show; all by default.")
@click.option("--track", default="", help="gallery: track id; the first by default.")
@click.option("--start", "start_s", default=0.0, help="gallery: first second.")
@click.option("--seconds", default=10.0, help="gallery: seconds to show.")
@where_option
@click.option("--title", default="", help="Title of the figure.")
@json_option
def plot(
    runs: tuple[str, ...],
    kind: str,
    outputs: tuple[Path, ...],
    metric: str | None,
    conditions: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    r"""Draw a figure: pareto, figure1 of the resolution study, bytes, gmacs, time, curves, classes, encoding, gallery.

    \b
    Examples:
      featstore report plot runs/ --kind figure1 -o figure1.pdf -o figure1.png
      featstore report plot runs/ --kind classes --where n_mels=48 -o classes.svg
    """
    from featstore.results.figures import draw

    found = read_runs(runs, conditions)
    targets = list(outputs) or [Path(f"{kind}.png")]
    written = draw(found, kind, targets, metric=metric_of(found, metric), **options)
    payload = {"kind": kind, "figures": written}
    emit(payload, as_json, lambda: "\n".join(f"Figure: {path}" for path in written))


@report.command()
@runs_argument
@click.option("-o", "--out", default="report.html", show_default=True, type=click.Path(path_type=Path))
@click.option("--title", default="featstore report", show_default=True)
@click.option("--details", default=300, show_default=True, type=click.IntRange(min=0),
              help="Most runs with curves, class scores and confusion on the page, best first.")  # fmt: skip
@margin_option
@late_gain_option
@click.option("--audio", default=0, type=click.IntRange(0, 50), metavar="N",
              help="Put N clips of test tracks on the page, to be played beside their spectra.")  # fmt: skip
@where_option
@json_option
def html(
    runs: tuple[str, ...], out: Path, audio: int, conditions: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    r"""Write one self-contained page that works offline, in any browser of the last years.

    \b
    Examples:
      featstore report html runs/ -o report.html
      featstore report html runs/ --audio 4 -o report.html
    """
    from featstore.results import write_html
    from featstore.results.fronts import MARGIN

    found, clips = read_runs(runs, conditions), []
    if audio:
        from featstore.workflows.page_clips import make_clips

        clips = make_clips(found, audio)
    written = write_html(found, out, clips=clips, **(options | {"margin": options["margin"] or MARGIN}))
    size = written.stat().st_size
    payload = {"page": written, "runs": len(found), "clips": len(clips), "bytes": size}
    text = f"Page: {written} ({counted(len(found), 'run')}, {size / 1e6:.1f} MB); open it in a browser"
    emit(payload, as_json, lambda: text)


@report.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--test",
    type=click.Choice(["welch", "independent"]),
    default="welch",
    show_default=True,
    help="t-test against the best; independent pools the variances, as the resolution study did.",
)
@click.option("--bootstrap", default=1000, show_default=True, type=click.IntRange(min=0), help="Resamples; 0 for none.")
@click.option("--where-a", multiple=True, metavar="CONDITION", help="Only these runs of A.")
@click.option("--where-b", multiple=True, metavar="CONDITION", help="Only these runs of B.")
@json_option
def diff(
    a: str, b: str, test: Any, bootstrap: int, where_a: tuple[str, ...], where_b: tuple[str, ...], as_json: bool
) -> None:
    r"""Say what changed from A to B, two runs or two folders of runs: settings, scores, costs, significance.

    \b
    Examples:
      featstore report diff runs/mel96/seed0 runs/mel48/seed0
      featstore report diff runs/ runs/ --where-a n_mels=96 --where-b n_mels=48
    """
    from featstore.results.diff import describe_diff, diff_runs

    sides = [read_runs((root,), conditions) for root, conditions in ((a, where_a), (b, where_b))]
    found = diff_runs(*sides, test=test, bootstrap=bootstrap > 0, resamples=max(bootstrap, 1))
    emit(found.as_json(), as_json, lambda: describe_diff(found))
