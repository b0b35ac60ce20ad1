"""Command ``sweep``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from featstore.units import format_bytes, format_seconds
from featstore_cli.commands import Command, completer
from featstore_cli.common import (
    emit,
    feature_option,
    json_option,
    next_lines,
    parse_seeds,
    render_table,
    store_option,
    wide_option,
)

if TYPE_CHECKING:
    from featstore.workflows.sweep import RunOutcome

__all__ = ["sweep"]


@click.command(cls=Command)
@store_option
@feature_option
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    required=True,
    shell_complete=completer("models"),
    help="A model, for example vgg-cnn; repeats.",
)
@click.option("-o", "--out", required=True, metavar="RUNS", help="Folder of the runs; run again, it goes on.")
@click.option("--seeds", default="0", show_default=True, metavar="N,N…", callback=parse_seeds, help="0,1,2 or 0-2.")
@click.option("--tracks", metavar="T.parquet", help="Labels and splits; those of the store by default.")
@click.option("--config", "config_file", metavar="FILE", help="Settings of all runs as YAML.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting of all runs; repeats.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes; as many as there are cores by default.")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="A running Dask scheduler.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, from a few timed steps; train nothing.")
@wide_option
@json_option
def sweep(
    store: str,
    features: tuple[str, ...],
    models: tuple[str, ...],
    out: str,
    seeds: list[int],
    tracks: str | None,
    config_file: str | None,
    assignments: tuple[str, ...],
    jobs: int | None,
    scheduler: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Train every feature with every model and seed.

    Runs go side by side through Dask, one after the other with -j 1, or on a running scheduler; where its workers
    announce a GPU (dask worker … --resources GPU=1), each run takes one. Run again, finished runs are left as they are
    and stopped ones go on. A run that fails does not end the others; the exit code is 2 then.

    \b
    Examples:
      featstore sweep -s store.zarr -f 'mel(n_mels=96,scale=db)' -f 'mel(n_mels=48,scale=db)' -m vgg-cnn \
          --seeds 0,1,2 -o runs --set data.crop_s=3 --set loop.epochs=20
      featstore sweep -s store.zarr -f grid.yaml -m vgg-cnn -m musicnn -o runs --scheduler tcp://head:8786
    """
    from featstore.features import expand_features
    from featstore.training import TrainConfig
    from featstore.training.settings import merge, parse_assignments, read_yaml
    from featstore.workflows.sweep import carry_out, forecast_sweep, grid_of_runs

    settings = merge(read_yaml(config_file) if config_file else {}, parse_assignments(assignments))
    TrainConfig.resolve(settings)  # a wrong setting is one error here, not one in every run
    names = [str(request) for request in expand_features(features)]
    runs = grid_of_runs(store, out, features=names, models=models, seeds=seeds, settings=settings, tracks=tracks or "")
    if dry_run:
        found = forecast_sweep(runs, jobs=jobs)
        emit(found, as_json, lambda: _describe_forecast(found))
        return
    outcomes = carry_out(runs, jobs=jobs, scheduler=scheduler)
    plain = [
        {
            "model": one.run.model,
            "feature": one.run.feature,
            "seed": one.run.seed,
            "run": one.run.out,
            "state": one.state,
            "error": one.error or None,
            "scores": one.scores,
        }
        for one in outcomes
    ]
    failed = any(one.state == "failed" for one in outcomes)
    emit({"runs": plain}, as_json, lambda: _as_text(outcomes, out), exit_code=2 if failed else 0)


def _as_text(outcomes: Sequence[RunOutcome], out: str) -> str:
    rows = [[os.path.relpath(one.run.out, out), _main_score(one.scores), one.state] for one in outcomes]
    lines = [render_table(rows, [f"run in {out}", "score", "state"])]
    lines += [f"{one.run.out}: {one.error}" for one in outcomes if one.state == "failed"]
    places = [
        (f"featstore report pareto {out}", "what to keep"),
        (f"featstore report html {out} -o report.html", "all on a page"),
    ]
    return "\n".join(lines) + next_lines(places)


def _describe_forecast(found: dict[str, Any]) -> str:
    rows = [
        [run["model"], run["feature"], run["runs"], "" if run["seconds"] is None else format_seconds(run["seconds"])]
        for run in found["configurations"]
    ]
    read = format_bytes(found["bytes_read"])
    return "\n".join(
        [
            render_table(rows, ["model", "feature", "runs", "each"], cut="feature"),
            f"{found['runs']} runs, {found['finished']} of them finished; {found['steps']:,} steps, {read} to read",
            f"about {format_seconds(found['seconds'])} with {found['jobs']} at a time and all epochs",
            "nothing was written",
        ]
    )


def _main_score(scores: dict[str, dict[str, Any]]) -> str:
    """The score that people look at first."""
    from featstore.metrics import METRICS

    for split in ("test", "valid"):
        for name in (*METRICS, "loss"):
            value = scores.get(split, {}).get(name)
            if value is not None:
                return f"{split} {name} {value:.4f}"
    return ""
