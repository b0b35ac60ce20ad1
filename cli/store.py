"""Commands ``featstore store …``."""

from __future__ import annotations

import click

from featstore_cli.common import emit, feature_option, human_bytes, json_option, render_table

__all__ = ["store"]


@click.group()
def store() -> None:
    """Look into stores, check and mend them."""


@store.command()
@click.argument("path", metavar="STORE")
@json_option
def info(path: str, as_json: bool) -> None:
    """List the features of a store, stored and derived, with their sizes.

    Example:  featstore store info mel.zarr
    """
    from featstore.specs import parse_feature
    from featstore.store import open_store

    opened = open_store(path)
    rows = opened.info()

    def text() -> str:
        table = [
            (
                parse_feature(row["name"]).spec.short(),
                row["encoding"],
                "stored" if row["stored"] is True else "view",
                "exact" if row["exact"] else f"within {row['bound']:.2g}",
                "x".join(map(str, row["shape"])),
                row["n_tracks"],
                human_bytes(row["bytes"]),
                human_bytes(row["bytes_per_track"]),
            )
            for row in rows
        ]
        header = ["feature", "encoding", "kept", "values", "shape", "tracks", "bytes alone", "a track"]
        total = sum(row["bytes_added"] for row in rows)
        size = f"{opened.n_shards} shards of {opened.shard_tracks}, {human_bytes(total)} stored"
        return f"{opened.location}: {len(opened.tracks)} tracks, {size}\n" + render_table(table, header)

    payload = {
        "store": str(opened.location),
        "tracks": len(opened.tracks),
        "shard_tracks": opened.shard_tracks,
        "fingerprint": opened.fingerprint,
        "features": rows,
    }
    emit(payload, as_json, text)


@store.command()
@click.argument("path", metavar="STORE")
@click.option("--quick", is_flag=True, help="Check presence, sizes, metadata and records; read no data.")
@json_option
def verify(path: str, quick: bool, as_json: bool) -> None:
    """Check every committed byte; exit code 3 when anything is wrong.

    Example:  featstore store verify mel.zarr --quick
    """
    from featstore.store.verify import verify as examine

    problems = examine(path, quick=quick)

    def text() -> str:
        if not problems:
            return f"{path}: all is well" + (" (data not read)" if quick else "")
        return "\n".join(
            [*map(str, problems), f"{len(problems)} problems: mend them with featstore store repair {path}"]
        )

    emit({"store": path, "ok": not problems, "problems": [p.as_json() for p in problems]}, as_json, text)
    if problems:
        raise click.exceptions.Exit(3)


@store.command()
@click.argument("path", metavar="STORE")
@click.option("--tracks", help="Track table with the audio's present places; restores a lost table, too.")
@click.option("-j", "--jobs", type=int, help="Worker processes; all cores by default.")
@json_option
def repair(path: str, tracks: str | None, jobs: int | None, as_json: bool) -> None:
    """Verify, then compute again only what is damaged; exit code 3 when something is left.

    Example:  featstore store repair mel.zarr
    """
    from featstore.datasets import TrackTable
    from featstore.extract import ExtractOptions
    from featstore.workflows.repair import repair as mend

    table = TrackTable.read(tracks) if tracks else None
    report = mend(path, tracks=table, options=ExtractOptions(jobs=jobs))

    def text() -> str:
        if not report.found:
            return f"{path}: nothing to mend"
        lines = [*map(str, report.found), f"{len(report.found)} problems; {report.shards} shards computed again"]
        return "\n".join(lines + ([f"left: {p}" for p in report.left] or ["all is well now"]))

    emit(report.as_json(), as_json, text)
    if report.left:
        raise click.exceptions.Exit(3)


@store.command()
@click.argument("path", metavar="STORE")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@json_option
def gc(path: str, dry_run: bool, as_json: bool) -> None:
    """Remove what dead writers left behind; nothing of a living one.

    Example:  featstore store gc mel.zarr --dry-run
    """
    from featstore.store import open_store
    from featstore.store.garbage import collect_garbage

    found = collect_garbage(open_store(path).location, dry_run=dry_run)
    word = "would be removed" if dry_run else "removed"
    emit(
        {"store": path, "removed": found, "dry_run": dry_run},
        as_json,
        lambda: "\n".join([*found, f"{len(found)} {word}"]),
    )


@store.command()
@click.argument("path", metavar="STORE")
@feature_option
@click.option("--compression", default="none", show_default=True, help="none, lz4 or zstd.")
@json_option
def derive(path: str, features: tuple[str, ...], compression: str, as_json: bool) -> None:
    """Write views out as arrays of their own, from what is stored, without touching the audio.

    Example:  featstore store derive mel.zarr -f 'mel(n_mels=48,scale=db,hop_length=1024)'
    """
    from featstore.specs import expand_features
    from featstore.workflows.derive import derive as write_out

    written = write_out(path, expand_features(features), compression=compression)
    emit(written, as_json, lambda: "\n".join(f"{key}: {count} shards written" for key, count in written.items()))
