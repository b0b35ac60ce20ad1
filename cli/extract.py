"""Commands ``plan``, ``extract`` and ``status``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from featstore.typed_values import build
from featstore.units import counted, format_bytes, parse_bytes
from featstore_cli.commands import Command
from featstore_cli.common import (
    emit,
    feature_option,
    json_option,
    next_lines,
    print_json,
    render_table,
    store_option,
    wide_option,
)

__all__ = ["extract", "plan", "status"]


@click.command(cls=Command)
@click.argument("tracks")
@feature_option
@click.option("--tracks", "n_tracks", type=int, help="Forecast for this many tracks instead of those in TRACKS.")
@click.option("--encoding", help="Encoding of features that name none: float32, float16, uint16, uint8.")
@click.option("--backend", default="zarr", show_default=True, help="Of the store: zarr or hdf5.")
@click.option("--compression", default="none", show_default=True, help="none, lz4 or zstd, tried on the timed tracks.")
@click.option("-j", "--jobs", type=int, help="Worker processes to forecast for; all cores by default.")
@click.option("--shard-tracks", type=int, help="Tracks a shard; by size unless given.")
@click.option("--sample", type=int, default=8, show_default=True, help="Tracks to time; 0 forecasts no seconds.")
@click.option("--figure", metavar="FILE", help="Draw the graph as well: a .png, .svg or .pdf.")
@json_option
def plan(
    tracks: str,
    features: tuple[str, ...],
    encoding: str | None,
    figure: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Print the graph of an extraction and what it would cost; nothing but the figure is written.

    TRACKS is a track table (Parquet), a CSV file, or a folder of audio.

    Example:  featstore plan tracks.parquet -f ferraro2020 --tracks 1000000 --figure plan.svg
    """
    from featstore.extract.forecast import forecast

    result = forecast(*_asked(tracks, features, encoding), **settings)
    if figure:
        from featstore.workflows.plan_figure import draw_plan

        draw_plan(result, figure)
    emit(result.as_json(), as_json, result.as_text)


def _asked(tracks: str, features: tuple[str, ...], encoding: str | None) -> tuple[Any, Any]:
    """Track table and plan; what cannot be computed is refused before a file is opened."""
    from featstore.extract import make_plan
    from featstore.features import expand_features
    from featstore.workflows.toplevel import load_tracks

    made = make_plan(expand_features(features, encoding))
    return load_tracks(tracks), made


def _parse_range(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    part, slash, parts = value.partition("/")
    if not slash or not part.isdecimal() or not parts.isdecimal():
        raise click.BadParameter(f"{value!r} is not of the form i/N, for example 0/8")
    return int(part), int(parts)


@click.command(cls=Command)
@click.argument("tracks")
@feature_option
@store_option
@click.option("--encoding", help="Encoding of features that name none: float32, float16, uint16, uint8.")
@click.option("--backend", help="Of a new store: zarr or hdf5; by default as its name ends (.h5), else zarr.")
@click.option("--compression", default="none", show_default=True, help="Of new arrays: none, lz4 or zstd.")
@click.option("-j", "--jobs", type=int, help="Workers; all cores by default.")
@click.option(
    "--scheduler",
    default="auto",
    show_default=True,
    help="auto, forks, threads, processes, sync, or tcp://HOST:PORT; auto takes forks where the work survives one.",
)
@click.option("--cluster", metavar="FILE", help="Ask a batch system for workers: a YAML file, see docs/cluster.md.")
@click.option("--shard-range", callback=_parse_range, metavar="i/N", help="Do part i of N (from 0), for job arrays.")
@click.option("--shard-tracks", type=int, help="Tracks a shard, for a new store.")
@click.option(
    "--retry",
    multiple=True,
    metavar="REASON|all|changed",
    help="Compute shards with such failures, or with changed audio files, again; repeats.",
)
@click.option("--limit", type=int, help="Stop after this many tracks.")
@click.option(
    "--short-decode", default="fail", show_default=True, help="Files shorter than they say: fail, flag, keep."
)
@click.option(
    "--changed",
    default="refuse",
    show_default=True,
    help="Audio files that changed since values were stored: refuse, recompute, keep.",
)
@click.option("--strict", is_flag=True, help="Refuse to mix library versions.")
@click.option("--track-timeout", type=float, metavar="SECONDS", help="Time that one track may take; 1800, 0: any.")
@click.option(
    "--track-memory",
    metavar="SIZE",
    callback=lambda context, parameter, value: None if value is None else parse_bytes(value),
    help="Memory a worker may grow to over one track, such as 4GB.",
)
@click.option(
    "--licence-allow",
    metavar="LIST",
    callback=lambda context, parameter, value: tuple(filter(None, (name.strip() for name in (value or "").split(",")))),
    help="Refuse encoders whose weights have another licence, such as ISC,MIT.",
)
@click.option("--dry-run", is_flag=True, help="Say what is missing, write nothing.")
@json_option
def extract(
    tracks: str,
    features: tuple[str, ...],
    store: str,
    encoding: str | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Decode every track once and store all features asked for; run again, it does only what is missing.

    TRACKS is a track table (Parquet), a CSV file, or a folder of audio.
    Exit code 2 says that some tracks failed: see featstore status STORE --failures.
    With --json, stdout holds one JSON document at the end, and stderr one JSON line every two seconds.

    Example:  featstore extract tracks.parquet -f 'mel(n_mels=96,scale=db)' -f 'mel(n_mels=48,scale=db)' -s mel.zarr
    """
    from featstore.extract import ExtractOptions
    from featstore.extract.run import dry_run as say_what_is_missing
    from featstore.extract.run import extract as run

    options = build(ExtractOptions, settings | {"progress": "json" if as_json else "bar"}, "extract")
    table, made = _asked(tracks, features, encoding)
    if dry_run:
        missing = say_what_is_missing(table, made, store, options)
        emit(missing, as_json, lambda: _describe_missing(missing, tracks, features))
        return
    report = run(table, made, store, options)
    failed = report.asked["failed"] or report.given_up

    def text() -> str:
        return _describe_report(report) + next_lines(_after(report, features))

    emit(report.as_json(), as_json, text, exit_code=2 if failed else 0)


def _describe_missing(missing: dict[str, Any], tracks: str, features: tuple[str, ...]) -> str:
    there = "" if missing["exists"] else ", a new store"
    counts = {"track": missing["tracks"], "new array": len(missing["arrays"]), "step": missing["steps"]}
    what = ", ".join(counted(count, noun) for noun, count in counts.items()) + " a track"
    asked = " ".join(f"-f {shlex.quote(each)}" for each in features)
    line = (f"featstore plan {shlex.quote(tracks)} {asked}", "bytes and seconds, from a timed sample")
    return f"{missing['store']}{there}: to compute {what}; nothing was written\n" + next_lines([line])[1:]


def _after(report: Any, features: tuple[str, ...]) -> list[tuple[str, str]]:
    """What people do with a store."""
    from featstore.specs import expand_features

    lines = [(f"featstore store info {report.store}", "what is stored, and what follows from it")]
    made = expand_features(features)
    if len(made) == 1:
        command = f"featstore train -s {report.store} -f {shlex.quote(features[0])} -m {made[0].spec.usual_model}"
        lines.append((f"{command} -o runs/first", "train on it"))
    return lines


def _describe_report(report: Any) -> str:
    state = report.status
    speed = report.audio_s / report.seconds if report.seconds else 0
    done = (
        f"{counted(report.tracks, 'track')} ({report.audio_s / 3600:.2f} h of audio) in {report.seconds:.1f} s, "
        f"{speed:.0f}x real time, {format_bytes(report.written_bytes)} written"
        if report.shards
        else f"nothing to do: {_why_nothing(report)}"
    )
    pending = {"pending": state["pending"]} if state["pending"] else {}
    reasons = ", ".join(f"{count} {reason}" for reason, count in (pending | state["by_reason"]).items())
    spent = report.seconds_per_minute
    if spent is not None and any("vq_tokens" in key for key in report.keys):
        done += f", {spent:.2f} s of a worker for a minute of music"
    lines = [
        done,
        f"{report.store}: {state['ok']} of {state['tracks']} tracks ok"
        + (f", {flagged} of them flagged" if (flagged := _n_flagged(state)) else "")
        + (f" ({reasons})" if reasons else ""),
    ]
    if state["pending"] > report.asked["pending"]:
        lines.append(
            f"{report.asked['ok']} of {report.asked['tracks']} tracks ok in the features asked for; "
            "extract the store's other features, too, where tracks are pending"
        )
    if report.left_shards:
        lines.append(f"{counted(report.left_shards, 'shard')} left to the other parts of --shard-range")
    if report.lost_workers:
        lines.append(f"{counted(report.lost_workers, 'worker')} lost on the way; what they had in work was done again")
    if report.given_up:
        shards = counted(len(report.given_up), "shard")
        lines.append(f"{shards} left, after losing too many workers: run the command again")
    if state["failed"]:
        lines.append(f"see what failed: featstore status {report.store} --failures")
    return "\n".join(lines)


def _n_flagged(counts: dict[str, Any]) -> int:
    """Tracks that are stored, and of which something is said: silent, clipped, or short ones that were to be kept."""
    return max(0, sum(counts["by_reason"].values()) - counts["failed"])


def _why_nothing(report: Any) -> str:
    """Why a run computed nothing: only of what it was given, and of what is true of all tracks asked for."""
    if report.part_shards == 0:
        return "the part that --shard-range chose has no shards: the store has fewer than there are parts"
    if report.part_shards is not None:
        return f"the {report.part_shards} shards of this part are done"
    if report.asked["pending"]:
        return "all tracks before --limit are done"
    failed = report.asked["failed"]
    return f"{failed} tracks failed before, all others are stored" if failed else "everything asked for is stored"


@click.command(cls=Command)
@click.argument("store")
@click.option("--failures", is_flag=True, help="List every track that is not plainly ok, with its reason.")
@wide_option
@json_option
def status(store: str, failures: bool, as_json: bool) -> None:
    """Count the tracks of a store by what became of them, and tell of extractions under way, wherever they run.

    Example:  featstore status mel.zarr --failures
    """
    from featstore.extract.run_progress import runs_under_way
    from featstore.store import open_store
    from featstore.store.convert import unfinished_conversion
    from featstore.store.ledger import read_ledger, read_status
    from featstore.store.mixed_versions import mixed_sources

    opened = open_store(store)
    counts = read_status(opened)
    runs = runs_under_way(opened.location)
    mixed = mixed_sources(opened)
    ledger = read_ledger(opened).drop_duplicates(["track_id", "status", "error"]) if failures else None
    if as_json:
        counts["runs"] = runs
        if mixed:
            counts["mixed_sources"] = mixed
        if ledger is not None:
            counts["failures"] = ledger[["track_id", "status", "stage", "error", "path", "stored"]].to_dict("records")
        print_json(counts)
        return
    shown = {name: str(counts[name]) for name in ("tracks", "ok", "failed", "pending")}
    shown["ok"] += f" ({flagged} flagged)" if (flagged := _n_flagged(counts)) else ""
    click.echo("  ".join(f"{name} {count}" for name, count in shown.items()))
    for reason, count in counts["by_reason"].items():
        click.echo(f"  {reason}: {count}")
    if mixed:
        count = "1 track holds" if len(mixed) == 1 else f"{len(mixed)} tracks hold"
        click.echo(
            f"{count} features of two versions of the audio file, such as {next(iter(mixed.values()))}: "
            "extract again with --changed recompute"
        )
    for run in runs:
        click.echo(_describe_run(run))
    if (unfinished := unfinished_conversion(opened.location)) is not None:
        click.echo(unfinished)
    if ledger is not None and len(ledger):
        rows = ledger[["track_id", "status", "error"]].itertuples(index=False)
        header = ["track", "status", "reason"]
        click.echo(render_table([tuple(row) for row in rows], header, ["status"], cut="reason"))


def _describe_run(run: dict[str, Any]) -> str:
    """Tell one extraction under way in a line."""
    where = f"process {run['pid']} on {run['host']}"
    if run["state"] == "interrupted":
        return f"interrupted: {where} ended {run['silent_s']:.0f} s ago or more; run the extraction again to go on"
    left = "unknown time" if run["remaining_s"] is None else f"{run['remaining_s']:.0f} s"
    slowest = max((track["seconds"] for track in run["in_work"]), default=0.0)
    return (
        f"running: {where}, {run['tracks_done'] + run['tracks_in_work']} of {run['tracks']} tracks, "
        f"{run['tracks_per_s']:.1f} tracks/s, {run['real_time']:.0f}x real time, {run['mb_per_s']:.1f} MB/s written, "
        f"{run['failed']} failed, {run['lost_workers']} workers lost, {left} left "
        f"({len(run['in_work'])} tracks in work, the longest for {slowest:.0f} s)"
    )
