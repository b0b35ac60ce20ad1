"""Commands ``train``, ``pretrain`` and ``evaluate``."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from featstore.units import counted, format_bytes, format_seconds
from featstore_cli.commands import Command, completer
from featstore_cli.common import (
    definitions,
    emit,
    feature_option,
    json_option,
    next_lines,
    render_table,
    short_names,
    store_option,
    wide_option,
)

__all__ = ["evaluate", "pretrain", "train"]


def _print_settings(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """Print the settings of training instead of training."""
    if value is None or context.resilient_parsing:
        return
    from featstore.training.catalogue import list_settings

    entries = []
    for each in list_settings("" if value == "all" else value):
        default = "null" if each.default is None else str(each.default)
        entries.append((f"{each.name}={default}", f"{each.meaning} [{each.takes}]".strip()))
    click.echo(definitions(entries).rstrip())
    if value == "all":
        click.echo("Those of a model are listed by: featstore models show NAME")
    context.exit()


def _run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that ``train`` and ``pretrain`` share."""
    options = [
        store_option,
        feature_option,
        click.option(
            "-m", "--model", required=True, shell_complete=completer("models"), help="A model, for example vgg-cnn."
        ),
        click.option(
            "-o", "--out", required=True, metavar="RUN", help="The run's folder; a stopped run in it goes on."
        ),
        click.option("--tracks", metavar="T.parquet", help="Labels and splits; those of the store by default."),
        click.option(
            "--config", "config_file", metavar="FILE", help="Settings as YAML; another run's config.yaml will do."
        ),
        click.option(
            "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting, like loop.epochs=20; repeats."
        ),
        click.option("--seed", type=int, help="Of weights, order and crops; 0 by default."),
        click.option(
            "--dry-run", is_flag=True, help="Time a few steps, say hours and memory of the run, write nothing."
        ),
        click.option(
            "--list-settings",
            is_flag=False,
            flag_value="all",
            is_eager=True,
            expose_value=False,
            metavar="[SECTION]",
            callback=_print_settings,
            help="Print what --set takes, all of it or one section, and stop.",
        ),
        wide_option,
        json_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command(cls=Command)
@_run_options
def train(**options: Any) -> None:
    r"""Train a model from a store, or go on with a run that was stopped.

    A finished run says so and does nothing. Ctrl-C stops after the current batch and keeps everything. Several features
    become one input: stacked as channels, or by name where the model takes them so.

    \b
    Examples:
      featstore train -s store.zarr -f 'mel(n_mels=96,scale=db)' -m vgg-cnn -o runs/first
      featstore train -s store.zarr -f 'mel(n_mels=48,scale=db)' -m vgg-cnn -o runs/small --seed 1 \
          --set data.crop_s=3 --set model.width=0.125 --set loop.epochs=20
      featstore train -s store.zarr -f 'mel(n_mels=96,scale=db)' -m conv-encoder -o runs/tuned \
          --set start.run=runs/pretrained --set start.layer_decay=0.75
    """
    _train(options, {})


@click.command(cls=Command)
@_run_options
def pretrain(**options: Any) -> None:
    r"""Pretrain a model: it learns to fill in hidden stretches of its input. No labels are needed.

    Use what it has learnt with: featstore train … --set start.run=RUN. Pretraining on the labels of another table
    is --set objective.name=supervised --tracks T.parquet.

    \b
    Examples:
      featstore pretrain -s store.zarr -f 'mel(n_mels=96,scale=db)' -m conv-encoder -o runs/pretrained \
          --set data.crop_s=3 --set loop.epochs=50
      featstore pretrain -s store.zarr -f 'mel(n_mels=96,scale=db)' -m conv-encoder -o runs/longer \
          --set data.crop_s=3 --set objective.span_ms=200 --set objective.share=0.5
    """
    _train(options, {"objective": {"name": "masked"}})


def _train(options: dict[str, Any], stage: dict[str, Any]) -> None:
    from featstore.features import expand_features
    from featstore.training import TrainConfig
    from featstore.training import train as train_run
    from featstore.training.folders import RunFolder
    from featstore.training.settings import merge, parse_assignments, read_yaml
    from featstore.workflows.toplevel import load_tracks

    out, file = options["out"], options["config_file"]
    settings = merge(stage, read_yaml(file) if file else {})
    config = TrainConfig.resolve(merge(settings, parse_assignments(options["assignments"])), seed=options["seed"])
    requests = list(expand_features(options["features"]))
    table = None if options["tracks"] is None else load_tracks(options["tracks"])
    if options["dry_run"]:
        from featstore.training.forecast import forecast

        found = forecast(options["store"], requests, options["model"], tracks=table, config=config)
        emit(found, options["as_json"], lambda: _as_forecast(found))
        return
    before = RunFolder(out).result.is_file()
    result = train_run(options["store"], requests, options["model"], out, tracks=table, config=config)
    if before:
        click.echo(f"{out} is finished already; nothing was done", err=True)
    emit(result, options["as_json"], lambda: _as_text(result, out) + next_lines(_after(result, out)))


def _after(result: Mapping[str, Any], out: str) -> list[tuple[str, str]]:
    """What people do with a run."""
    if result["task"] == "none":
        again = f"featstore train -s STORE -f SPEC -m {result['model']} -o RUN --set start.run={shlex.quote(out)}"
        return [(again, "train on labels from what was learnt")]
    return [
        (f"featstore tag {shlex.quote(out)} SONG.mp3", "tags of a file"),
        (f"featstore report table {shlex.quote(str(Path(out).parent))}", "this run beside the others"),
    ]


@click.command(cls=Command)
@click.argument("run")
@click.option("-s", "--store", help="Read features from here instead of the store it was trained from.")
@click.option("--tracks", metavar="T.parquet", help="Labels and splits; those of the training by default.")
@click.option("--split", "splits", multiple=True, help="Score this split; repeats. By default those of the settings.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting of device or evaluate.")
@click.option("--classes", "by_class", is_flag=True, help="Also a table with a row a class.")
@click.option(
    "--predictions", metavar="P.parquet", help="File for the predictions; of a run scored as it was trained, its own."
)
@wide_option
@json_option
def evaluate(
    run: str,
    store: str | None,
    tracks: str | None,
    splits: tuple[str, ...],
    assignments: tuple[str, ...],
    by_class: bool,
    predictions: str | None,
    as_json: bool,
) -> None:
    r"""Score a trained model again, from its checkpoint; RUN is its folder.

    With -s the run's tracks are scored as another store has them, such as one of altered copies (`featstore datasets
    alter`); a store with some of the tracks is enough. With any option the run's own predictions stay as they are.

    \b
    Examples:
      featstore evaluate runs/first
      featstore evaluate runs/first -s noisy.zarr --split test
      featstore evaluate runs/first --split test --classes
      featstore evaluate runs/first --set evaluate.pool=majority
    """
    from featstore.training.folders import RunFolder
    from featstore.workflows.toplevel import evaluate as evaluate_run

    elsewhere = store is not None or tracks is not None
    with tempfile.TemporaryDirectory() as aside:
        own = not (predictions or elsewhere or splits or assignments)
        kept = Path(predictions or aside, *([] if predictions else ["predictions.parquet"]))
        scores = evaluate_run(
            run, store=store, tracks=tracks, splits=splits, settings=assignments, predictions=None if own else kept
        )
        written = RunFolder(run).predictions if own else kept
        per_class = _per_class(written) if by_class or as_json else {}
    text = [run, _score_table(scores, {}), *_class_tables(per_class), *([] if elsewhere else [_compared(run, scores)])]
    emit({"run": run, "scores": scores, "per_class": per_class}, as_json, lambda: "\n".join(text))


def _as_forecast(found: Mapping[str, Any]) -> str:
    lines = [
        f"{found['model']} on {short_names(found['feature'])}: {found['parameters']:,} parameters",
        f"tracks: {', '.join(f'{count:,} {split}' for split, count in found['tracks'].items())}; "
        f"{format_bytes(found['bytes_read'])} to read",
        f"{format_seconds(3600 * found['hours'])} at most: {found['epochs']} epochs",
        f"{found['steps_per_epoch']:,} steps an epoch, {format_seconds(found['seconds_per_step'])} a step",
        f"{format_seconds(found['seconds_validate'])} a validation",
        f"{format_bytes(found['memory_bytes'])} of memory; {format_seconds(found['audio_s'])} of audio seen",
    ]
    return "\n".join([*lines, "nothing was written; the scores at the end of a run are not counted"])


def _as_text(result: Mapping[str, Any], out: str) -> str:
    from featstore.training.input_shape import InputShape

    seconds, rates, size = result["seconds"], result["rates"], result["bytes"]["alone"]
    inputs = InputShape.from_mapping(result["input"]).inputs
    lines = [
        f"{result['model']} on {short_names(result['feature'])}",
        _score_table(result["scores"], result["intervals"]),
        f"{counted(result['epochs'], 'epoch')}, best number {result['best_epoch'] + 1}; "
        f"{result['parameters']:,} parameters, "
        f"{result['gmacs']:.4g} GMAC an input of {' and '.join(map(str, inputs.values()))}",
        f"training {format_seconds(seconds['train'])} at {rates['train_samples_per_s']:.0f} samples/s, waiting for "
        f"data {100 * rates['waiting_share']:.1f} %; scoring {rates['inference_tracks_per_s']:.0f} tracks/s",
        f"feature {format_bytes(size)} alone, {format_bytes(result['bytes']['added'])} added to the store",
    ]
    for split, classes in result["classes_without_both"].items():
        if classes and split in result["scores"]:
            lines.append(f"{split}: left out of ROC and PR AUC, always or never true: {', '.join(classes)}")
    return "\n".join([*lines, f"run: {out}"])


def _score_table(scores: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a metric, a column a split."""
    names = dict.fromkeys(name for values in scores.values() for name in values)
    rows = [[name, *(_score_cell(scores, intervals, split, name) for split in scores)] for name in names]
    return render_table(rows, ["metric", *scores])


def _score_cell(scores: Mapping[str, Any], intervals: Mapping[str, Any], split: str, name: str) -> str:
    value, around = scores[split].get(name), intervals.get(split, {}).get(name)
    if value is None or value != value:
        return ""
    bounds = around is not None and None not in around
    return f"{value:.4f} [{around[0]:.3f}, {around[1]:.3f}]" if bounds else f"{value:.4f}"


def _per_class(predictions: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics of each class, from the predictions just written; a run without labels writes none."""
    from featstore.results.details import prediction_file
    from featstore.training import per_class_of

    if not predictions.is_file():
        return {}
    parts = prediction_file(predictions)
    return {split: per_class_of(part.target, part.score, part.classes) for split, part in parts.items()}


def _class_tables(per_class: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    tables = []
    for split, classes in per_class.items():
        columns = list(next(iter(classes.values())))
        rows = [[name, *values.values()] for name, values in classes.items()]
        tables.append(render_table(rows, [split, *columns]))
    return tables


def _compared(run: str, scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Say whether the scores are those of the result."""
    from featstore.training.folders import RunFolder

    result = RunFolder(run).read_result()
    if result is None:
        return "the run has no result yet"
    pairs = [
        (f"{split} {name}", value, result["scores"][split][name])
        for split, values in scores.items()
        if split in result["scores"]
        for name, value in values.items()
        if name in result["scores"][split] and value == value and result["scores"][split][name] is not None
    ]
    far = [f"{name} {new:.6f}, recorded {old:.6f}" for name, new, old in pairs if abs(new - old) > 1e-6]
    return "scores differ from result.json: " + "; ".join(far) if far else "the same scores as in result.json"
