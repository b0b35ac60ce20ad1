"""Commands ``featstore store …``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from featstore.units import counted, format_bytes
from featstore_cli.commands import Group
from featstore_cli.common import (
    emit,
    feature_option,
    json_option,
    renamed_option,
    render_table,
    short_names,
    table_width,
    wide_option,
)

if TYPE_CHECKING:
    from featstore.store.store import Store

__all__ = ["describe_store", "read_sizes", "store"]

_FIRST_TO_GO = (
    *("saturated", "of audio", "of float32", "error", "a track", "tracks", "shape", "an hour", "kept", "encoding"),
)


@click.group(cls=Group)
def store() -> None:
    """Look into stores, check, mend, compare, convert and pack them."""


@store.command()
@click.argument("path", metavar="STORE")
@wide_option
@json_option
def info(path: str, as_json: bool) -> None:
    """List the features of a store, stored and derived, with their sizes and what their encodings cost.

    Example:  featstore store info mel.zarr
    """
    opened, rows, weights = read_sizes(path)
    payload = {
        "store": str(opened.location),
        "backend": opened.backend.name,
        "tracks": len(opened.table),
        "shard_tracks": opened.shard_tracks,
        "fingerprint": opened.fingerprint,
        "features": rows,
        "weights": weights,
    }
    emit(payload, as_json, lambda: describe_store(opened, rows, weights))


def read_sizes(path: str) -> tuple[Store, list[dict[str, Any]], dict[str, Any]]:
    """A store, the sizes of its features, and what is known of the weights that made them."""
    from featstore.extract.weights import weights_facts
    from featstore.store import open_store
    from featstore.store.sizes import describe_features

    opened = open_store(path)
    return opened, describe_features(opened), weights_facts(opened)


def describe_store(opened: Store, rows: Sequence[dict[str, Any]], weights: dict[str, Any]) -> str:
    """Say what a store holds, as a line and a table of its features."""
    from featstore.store.mixed_versions import describe_mix

    total = sum(row["bytes_added"] for row in rows)
    size = f"{counted(opened.n_shards, 'shard')} of {opened.shard_tracks}, {format_bytes(total)} stored"
    table = _info_table([_info_row(row) for row in rows])
    mixes = [
        f"\n{_info_row(row)[0]} mixes {describe_mix(row['mixed_versions'])}"
        for row in rows
        if row["stored"] is True and row["mixed_versions"]
    ]
    licences = [
        f"\nweights of {facts['model']} ({digest[:12]}): licence {facts['licence']}, {facts['source']};"
        f" trained on {facts['trained_on']}"
        for digest, facts in weights.items()
    ]
    return f"{opened.location}: {counted(len(opened.table), 'track')}, {size}\n{table}{''.join(mixes + licences)}"


def _info_table(rows: list[list[Any]]) -> str:
    """A row a feature; names that take more than half of the terminal have lines of their own."""
    header = ["feature", "encoding", "kept", "shape", "tracks"]
    header += ["bytes alone", "a track", "an hour", "of float32", "of audio", "error", "saturated"]
    width, longest = table_width(), max((len(row[0]) for row in rows), default=0)
    if width is None or longest <= width // 2:
        return render_table(rows, header, _FIRST_TO_GO)
    heads, rule, *lines = render_table([row[1:] for row in rows], header[1:], _FIRST_TO_GO).split("\n")
    named = [text for row, line in zip(rows, lines, strict=False) for text in (row[0], line)]
    return "\n".join([heads, rule, *named, *lines[len(rows) :]])


def _info_row(row: dict[str, Any]) -> list[Any]:
    packed = row["compression"] if row["compression"] not in ("none", row["dtype"]) else ""
    error = "exact" if row["exact"] else f"<= {row['bound']:.2g}"
    if row["near_ties"] is not None:
        error += f", {row['near_ties']} near ties"
    if row["max_error"] is not None and not row["exact"]:
        error = f"{row['max_error']:.2g} (mean {row['mean_error']:.2g})"
    return [
        short_names(row["name"]),
        row["encoding"].partition("(")[0] + (f", {packed}" if packed and packed != row["encoding"] else ""),
        "stored" if row["stored"] is True else "view",
        "x".join(map(str, row["shape"])),
        row["n_tracks"],
        format_bytes(row["bytes"]),
        format_bytes(row["bytes_per_track"]),
        format_bytes(row["bytes_per_hour"]),
        "" if row["ratio_to_float32"] is None else f"{row['ratio_to_float32']:.3f}",
        "" if row["ratio_to_audio"] is None else f"{row['ratio_to_audio']:.3f}",
        error,
        row["saturated"],
    ]


@store.command()
@click.argument("path", metavar="STORE")
@click.option("--quick", is_flag=True, help="Check presence, sizes, metadata and records; read no data.")
@click.option("--audio", is_flag=True, help="Also look whether the audio files are still the same.")
@json_option
def verify(path: str, quick: bool, audio: bool, as_json: bool) -> None:
    """Check every committed byte; exit code 3 when anything is wrong.

    Example:  featstore store verify mel.zarr --quick
    """
    from featstore.extract.sources import audit_sources
    from featstore.store import open_store
    from featstore.store.verify import verify as examine

    problems = examine(path, quick=quick)
    sources = audit_sources(open_store(path)) if audio and not problems else None
    changed = sources.changed if sources else {}

    def text() -> str:
        lines = list(map(str, problems))
        if sources:
            lines += [f"{file}: the audio of {track} changed since" for track, (file, _) in changed.items()]
            lines += [f"{file}: the audio of {track} is gone (its values stay)" for track, file in sources.gone.items()]
        if problems:
            count = "1 problem: mend it" if len(problems) == 1 else f"{len(problems)} problems: mend them"
            lines.append(f"{count} with featstore store repair {path}")
        elif changed:
            lines.append(f"{len(changed)} tracks: compute them again with featstore store repair {path} --audio")
        else:
            lines.append(f"{path}: all is well" + (" (data not read)" if quick else ""))
        return "\n".join(lines)

    payload: dict[str, Any] = {"store": path, "ok": not problems and not changed, "problems": problems}
    payload |= {"audio": sources.as_json()} if sources else {}
    emit(payload, as_json, text, exit_code=3 if problems or changed else 0)


@store.command()
@click.argument("path", metavar="STORE")
@click.option("--tracks", help="Track table with the audio's present places; restores a lost table, too.")
@click.option("--audio", is_flag=True, help="Also compute shards again whose audio files changed.")
@click.option("-j", "--jobs", type=int, help="Worker processes; all cores by default.")
@json_option
def repair(path: str, tracks: str | None, audio: bool, jobs: int | None, as_json: bool) -> None:
    """Verify, then compute again only what is damaged; exit code 3 when something is left.

    Example:  featstore store repair mel.zarr
    """
    from featstore.datasets import TrackTable
    from featstore.extract import ExtractOptions
    from featstore.workflows.repair import repair as mend

    table = TrackTable.read(tracks) if tracks else None
    report = mend(path, tracks=table, options=ExtractOptions(jobs=jobs), audio=audio)

    def text() -> str:
        changed = report.audio.changed if report.audio else {}
        if not report.found and not changed:
            return f"{path}: nothing to mend"
        lines = list(map(str, report.found))
        lines += [f"{file}: the audio of {track} changed since" for track, (file, _) in changed.items()]
        lines.append(f"{counted(len(report.found), 'problem')}; {counted(report.shards, 'shard')} computed again")
        return "\n".join(lines + ([f"left: {p}" for p in report.left] or ["all is well now"]))

    emit(report.as_json(), as_json, text, exit_code=3 if report.left else 0)


@store.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--quick", is_flag=True, help="Trust equal digests of equal files; do not read them.")
@click.option("--strict", is_flag=True, help="Differences of provenance count, too.")
@json_option
def diff(first: str, second: str, quick: bool, strict: bool, as_json: bool) -> None:
    """Compare two stores by content, whatever their backends; exit code 0 when equal, 1 when not.

    Content is the tracks and their labels, the features, each track's values, length and status. Where the bytes lie,
    audio paths, versions and fingerprints are provenance: they are listed and change nothing.

    Example:  featstore store diff mel.zarr mel.h5 --json
    """
    from featstore.store import open_store
    from featstore.store.diff import compare

    found = compare(open_store(first), open_store(second), quick=quick)
    counted = found if strict else [difference for difference in found if not difference.provenance]

    def text() -> str:
        lines = [("provenance: " if d.provenance else "") + str(d) for d in found]
        verdict = "the stores differ" if counted else "equal in content" + (", not in provenance" if found else "")
        return "\n".join([*lines, verdict])

    payload = {"a": first, "b": second, "equal": not counted, "differences": found}
    emit(payload, as_json, text, exit_code=1 if counted else 0)


@store.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--backend", type=click.Choice(["zarr", "hdf5"]), help="Of DST; by default as its name ends, else the other one."
)
@click.option("--compression", help="none, lz4 or zstd; each array's own by default.")
@json_option
def convert(source: str, target: str, backend: str | None, compression: str | None, as_json: bool) -> None:
    """Write a store again in the other backend or another compression; values, ledger and provenance stay.

    Run again it goes on where it was; featstore store diff says that nothing changed. A packed file becomes a folder.

    Example:  featstore store convert mel.zarr mel-hdf5 --compression zstd
    """
    from featstore.store.convert import convert as write_again
    from featstore.store.sizes import describe_features

    made = write_again(source, target, backend=backend, compression=compression)
    size = sum(row["bytes_added"] for row in describe_features(made))
    shards = sum(len(made.records(key)) for key in made.arrays)
    payload = {"source": source, "store": target, "backend": made.backend.name, "shards": shards, "bytes": size}
    emit(payload, as_json, lambda: f"{target}: {shards} shards as {made.backend.name}, {format_bytes(size)}")


@store.command()
@click.argument("path", metavar="STORE")
@click.option("-o", "--out", metavar="FILE.h5", help="STORE's name with .h5 by default; must not exist.")
@renamed_option("--output", "out", "--out")
@click.option("--compression", default="none", show_default=True, help="none or gzip: what plain h5py can read.")
@json_option
def pack(path: str, out: str | None, compression: str, as_json: bool) -> None:
    """Put a whole store, Zarr or HDF5, into one HDF5 file that plain h5py reads; featstore reads it as a store.

    Example:  featstore store pack mel.zarr -o mel.h5
    """
    from pathlib import Path

    from featstore.store.pack import pack as write_file

    file = Path(out or f"{path.rstrip('/').rpartition('/')[2].rpartition('.')[0] or 'store'}.h5")
    made = write_file(path, file, compression=compression)
    size = file.stat().st_size
    payload = {"source": path, "store": str(file), "bytes": size, "arrays": len(made.arrays)}
    emit(payload, as_json, lambda: f"{file}: {len(made.arrays)} arrays, {format_bytes(size)}")


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
    from featstore.features import expand_features
    from featstore.store import open_store
    from featstore.workflows.derive import derive as write_out
    from featstore.workflows.vector_ranges import vector_cost

    requests = expand_features(features)
    written: dict[str, Any] = dict(write_out(path, requests, compression=compression))
    opened = open_store(path)
    names = {array.header.key: array.header.name for array in opened.arrays.values()}
    vectors = [request for request in requests if request.spec.takes_ranges and request.encoding is not None]
    costs = {str(opened[request].name): vector_cost(opened, request) for request in vectors}

    def text() -> str:
        lines = [f"{short_names(names[key])}: {count} shards written" for key, count in written.items()]
        for name, cost in costs.items():
            lines.append(
                f"{name.rpartition('@')[2]}: cosine to float32 {cost['mean_cosine']:.6f} on average, "
                f"{cost['min_cosine']:.6f} at least; {cost.get('retrieval_at_10', 1):.1%} of ten nearest tracks stay"
            )
        return "\n".join(lines)

    emit(written | ({"vectors": costs} if costs else {}), as_json, text)


@store.command()
@click.argument("path", metavar="STORE")
@click.option("-f", "--feature", required=True, metavar="SPEC", help="An embedding of the store.")
@click.option("--parquet", metavar="FILE", help="One row a track and layer, with the vector as a list.")
@click.option("--npy", metavar="FILE", help="Array (tracks, layers, dimensions); track ids beside it as .json.")
@json_option
def export(path: str, feature: str, parquet: str | None, npy: str | None, as_json: bool) -> None:
    """Write the vectors of all tracks, each the mean over its windows, for other programs.

    Example:  featstore store export vectors.zarr -f 'embedding(model=mtt-musicnn)' --parquet vectors.parquet
    """
    from featstore.errors import ConfigError
    from featstore.store import open_store
    from featstore.workflows.vector_export import export_npy, export_parquet

    if not parquet and not npy:
        raise ConfigError("no file to write is named", "export", "Add --parquet FILE or --npy FILE")
    reader = open_store(path)[feature]
    done = {}
    if parquet:
        done[parquet] = export_parquet(reader, parquet)
    if npy:
        done[npy] = export_npy(reader, npy)
    emit(done, as_json, lambda: "\n".join(f"{file}: {count} tracks" for file, count in done.items()))
