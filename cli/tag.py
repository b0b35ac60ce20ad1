"""Command ``featstore tag``."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import click

from featstore_cli.common import print_json, render_table

if TYPE_CHECKING:
    from featstore.workflows.tag import TagReport

__all__ = ["tag"]


@click.command()
@click.argument("model")
@click.argument("audio", nargs=-1)
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1), help="Tags of each file.")
@click.option("--all", "all_tags", is_flag=True, help="All tags of each file.")
@click.option("--threshold", default=0.0, type=click.FloatRange(0, 1), help="Leave out tags that score less.")
@click.option("--weights", metavar="PATH", help="Folder or wheel of the package musicnn, for a published model.")
@click.option("--window", "window_s", type=float, help="Seconds of one window, for models of any length.")
@click.option("--step", "step_s", type=float, help="Seconds between windows; side by side by default.")
@click.option(
    "--short",
    type=click.Choice(["fail", "repeat"]),
    default="fail",
    show_default=True,
    help="Files shorter than a window.",
)
@click.option("--short-decode", type=click.Choice(["fail", "flag", "keep"]), default="fail", help="Files cut short.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: path, rank, tag, score, error.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--windows", is_flag=True, help="With --json: scores of every window, all tags.")
@click.option("--taggrams", metavar="FOLDER", help="Draw tags over time, one PNG a file.")
@click.option("-s", "--store", metavar="STORE", help="Go through the extractor: compute into this store, read from it.")
@click.option("-j", "--jobs", type=int, help="With --store: worker processes; all cores by default.")
def tag(model: str, audio: tuple[str, ...], **settings: Any) -> int:
    r"""Tag AUDIO files and folders with MODEL: a run's folder, a checkpoint file, or a published model.

    Published models: mtt-musicnn, msd-musicnn, msd-musicnn-big, mtt-vgg, msd-vgg. Their weights come from the package
    musicnn, installed (pip install --no-deps musicnn==0.1.0) or named by --weights; nothing is downloaded.
    A file that cannot be tagged is listed with the reason, and the exit code is 2.

    \b
    Examples:
      featstore tag runs/first song.mp3
      featstore tag mtt-musicnn music/ --top 3 --csv > tags.csv
      featstore tag msd-musicnn song.mp3 --step 1 --taggrams figures
      featstore tag runs/first music/ --store tags.zarr -j 8
    """
    from featstore.errors import ConfigError
    from featstore.extract import ExtractOptions
    from featstore.workflows.tag import tag as tag_audio

    if settings["as_csv"] and settings["as_json"]:
        raise ConfigError("--csv and --json", "tag", "Choose one")
    if settings["windows"] and not settings["as_json"]:
        raise ConfigError("--windows without --json", "tag", "Add --json")
    passed = {name: settings[name] for name in ("weights", "window_s", "step_s", "short", "short_decode", "store")}
    options = ExtractOptions(jobs=settings["jobs"], short_decode=settings["short_decode"])
    report = tag_audio(model, audio, options=options, **passed)
    top = None if settings["all_tags"] else settings["top"]
    shown = [(file, file.top(report.classes, top, settings["threshold"])) for file in report.files]
    if settings["as_json"]:
        print_json(_as_json(report, shown, windows=settings["windows"]))
    else:
        click.echo(_as_csv(shown) if settings["as_csv"] else _as_table(shown), nl=not settings["as_csv"])
    if settings["taggrams"]:
        from featstore.workflows.taggram_figure import draw_taggrams

        drawn = draw_taggrams(report, settings["taggrams"], n_tags=10 if top is None else max(top, 10))
        click.echo(f"{len(drawn)} figures in {settings['taggrams']}", err=True)
    for file in report.files:
        if file.note:
            click.echo(f"note: {file.path}: {file.note}", err=True)
    if report.failures:
        click.echo(f"{len(report.failures)} of {len(report.files)} files could not be tagged", err=True)
    return 2 if report.failures else 0


def _as_table(shown: Any) -> str:
    rows = []
    for file, tags in shown:
        found = ", ".join(f"{name} {score:.2f}" for name, score in tags)
        rows.append([file.path, f"{file.duration_s:.1f}", f"failed: {file.error}" if file.error else found])
    return str(render_table(rows, ["file", "s", "tags"]))


def _as_csv(shown: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "rank", "tag", "score", "error"])
    for file, tags in shown:
        for rank, (name, score) in enumerate(tags, start=1):
            writer.writerow([file.path, rank, name, f"{score:.6f}", ""])
        if file.error:
            writer.writerow([file.path, "", "", "", file.error])
    return out.getvalue()


def _as_json(report: TagReport, shown: Any, *, windows: bool) -> dict[str, Any]:
    files = []
    for file, tags in shown:
        entry: dict[str, Any] = {
            "path": file.path,
            "duration_s": round(file.duration_s, 3),
            "n_windows": len(file.starts_s),
            "tags": [{"tag": name, "score": score} for name, score in tags],
            "note": file.note,
            "error": file.error,
        }
        if windows:
            entry["starts_s"] = file.starts_s.tolist()
            entry["taggram"] = file.taggram.tolist()
        files.append(entry)
    head = {"model": report.model, "feature": report.feature, "window_s": report.window_s, "step_s": report.step_s}
    return head | ({"classes": list(report.classes)} if windows else {}) | {"files": files}
