"""Command ``featstore tag``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from featstore_cli.commands import Command
from featstore_cli.common import print_json, render_table, wide_option

if TYPE_CHECKING:
    from featstore.workflows.tag import FileTags, TagReport

__all__ = ["tag"]

Tagged: TypeAlias = "tuple[FileTags, list[tuple[str, float]]]"


@click.command(cls=Command)
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
@wide_option
def tag(model: str, audio: tuple[str, ...], **settings: Any) -> int:
    r"""Tag AUDIO files and folders with MODEL: a run's folder, a checkpoint file, or a published model.

    Published models: mtt-musicnn, msd-musicnn, msd-musicnn-big, mtt-vgg, msd-vgg. Their weights come from the package
    musicnn: fetched before (featstore models fetch mtt-musicnn), installed, or named by --weights.
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
    from featstore.workflows.tag import tag_stream
    from featstore.workflows.taggram_figure import TaggramFolder

    if settings["as_csv"] and settings["as_json"]:
        raise ConfigError("--csv and --json", "tag", "Choose one")
    if settings["windows"] and not settings["as_json"]:
        raise ConfigError("--windows without --json", "tag", "Add --json")
    passed = {name: settings[name] for name in ("weights", "window_s", "step_s", "short", "short_decode", "store")}
    options = ExtractOptions(jobs=settings["jobs"], short_decode=settings["short_decode"])
    report, files = tag_stream(model, audio, options=options, **passed)
    top = None if settings["all_tags"] else settings["top"]
    figures = TaggramFolder(settings["taggrams"], n_tags=max(top or 10, 10)) if settings["taggrams"] else None
    notes, n_files, n_failed = [], 0, 0

    def passing() -> Iterator[Tagged]:
        nonlocal n_files, n_failed
        for file in files:
            n_files, n_failed = n_files + 1, n_failed + bool(file.error)
            yield file, file.top(report.classes, top, settings["threshold"])
            if figures is not None:
                figures.draw(report, file)
            if file.note:
                notes.append(f"note: {file.path}: {file.note}")

    if settings["as_csv"]:
        _print_csv(passing())
    elif settings["as_json"]:
        _print_json(report, passing(), windows=settings["windows"])
    else:
        _print_table(passing())
    for line in notes:
        click.echo(line, err=True)
    if figures is not None:
        click.echo(f"{figures.n_drawn} figures in {figures.folder}", err=True)
    if n_failed:
        click.echo(f"{n_failed} of {n_files} files could not be tagged", err=True)
    return 2 if n_failed else 0


def _print_table(files: Iterator[Tagged]) -> None:
    """Columns for people, printed at the end."""
    rows = []
    for file, tags in files:
        found = ", ".join(f"{name} {score:.2f}" for name, score in tags)
        rows.append([file.path, f"{file.duration_s:.1f}", f"failed: {file.error}" if file.error else found])
    click.echo(render_table(rows, ["file", "s", "tags"], cut="tags"))


def _print_csv(files: Iterator[Tagged]) -> None:
    """Lines that are printed as files are done, so that a run of hours can be followed and loses nothing."""
    from featstore.results.tables import csv_text

    click.echo(csv_text([("path", "rank", "tag", "score", "error")]))
    for file, tags in files:
        for rank, (name, score) in enumerate(tags, start=1):
            click.echo(csv_text([(file.path, rank, name, f"{score:.6f}", "")]))
        if file.error:
            click.echo(csv_text([(file.path, "", "", "", file.error)]))


def _print_json(report: TagReport, files: Iterator[Tagged], *, windows: bool) -> None:
    """One value for programs, printed at the end."""
    entries = []
    for file, tags in files:
        entry: dict[str, Any] = {
            "path": file.path,
            "duration_s": round(file.duration_s, 3),
            "n_windows": len(file.starts_s),
            "tags": [{"tag": name, "score": score} for name, score in tags],
            "note": file.note,
            "error": file.error,
        }
        entries.append(entry | ({"starts_s": file.starts_s, "taggram": file.taggram} if windows else {}))
    head = {"model": report.model, "feature": report.feature, "window_s": report.window_s, "step_s": report.step_s}
    print_json(head | ({"classes": report.classes} if windows else {}) | {"files": entries})
