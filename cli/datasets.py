"""``featstore datasets``: list, index, check and split."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featstore.atomic import write_text
from featstore.errors import ConfigError
from featstore.units import counted
from featstore_cli.commands import Group
from featstore_cli.common import emit, json_option, print_json

if TYPE_CHECKING:
    from featstore.datasets import TrackTable

__all__ = ["datasets"]

_MOST_SHOWN = 20


@click.group(cls=Group)
def datasets() -> None:
    r"""Turn folders, lists and built-in music into track tables.

    \b
    Example:
      featstore datasets index folder MUSIC -o tracks.parquet
    """


@datasets.command("list")
@json_option
def list_command(as_json: bool) -> None:
    r"""List the kinds of data sets: options, citation, licence, and checksums where they are published.

    \b
    Example:
      featstore datasets list
    """
    from featstore.datasets import DATASETS, about, describe

    rows: list[dict[str, Any]] = []
    for kind in DATASETS:
        summary, options = describe(kind)
        facts = about(kind)
        row: dict[str, Any] = {"kind": kind, "summary": summary, "options": list(options), "citation": facts.citation}
        rows.append(row | {"licence": facts.licence, "checksums": facts.checksums, "counts": facts.counts})
    if as_json:
        print_json(rows)
        return
    width = max(len(row["kind"]) for row in rows)
    for row in rows:
        sums = ", ".join(f"{name} {digest}" for name, digest in row["checksums"].items())
        details = {"options": ", ".join(row["options"]), "cite": row["citation"], "licence": row["licence"], "": sums}
        click.echo(f"{row['kind']:<{width}}  {row['summary'].replace('``', '')}")
        for label, text in details.items():
            if text:
                click.echo(f"{'':<{width}}  {label or 'checksums'}: {text}")


@datasets.command("index")
@click.argument("kind")
@click.argument("root", required=False)
@click.option("-o", "--out", required=True, metavar="FILE", help="Where to write the track table (parquet).")
@click.option("--label-column", metavar="NAME", help="csv: the column of the labels.")
@click.option("--size", metavar="SIZE", help="demo: quick, standard, study, full, or a number of clips per style.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any option of the kind; repeats.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Files handled at a time.")
@json_option
def index_command(
    kind: str,
    root: str | None,
    out: str,
    settings: tuple[str, ...],
    jobs: int | None,
    as_json: bool,
    **named: str | None,
) -> None:
    r"""Make the track table of a data set; KIND is one of `featstore datasets list`.

    Files that cannot be read stay in the table with the reason; the exit code is then 2.

    \b
    Examples:
      featstore datasets index folder MUSIC -o tracks.parquet
      featstore datasets index csv list.csv --label-column genre -o tracks.parquet
      featstore datasets index demo --size quick -o tracks.parquet
    """
    from featstore.datasets import DATASETS
    from featstore.workflows.indexing import index_tracks

    DATASETS.load(kind)
    options = _parsed(settings) | {name: value for name, value in named.items() if value is not None}
    if kind == "demo":
        from featstore.datasets.demo import NOTICE

        click.echo(NOTICE, err=True)
    table = index_tracks(kind, root, jobs=jobs, **options)
    table.write(out)
    broken = table.frame[table.frame["probe_error"].notna()]
    summary = _summary(table, out)
    emit(summary, as_json, lambda: _as_text(summary))
    _tell_broken(dict(zip(broken["track_id"], broken["probe_error"], strict=True)))
    if len(broken) > _MOST_SHOWN:
        click.echo(f"… and {len(broken) - _MOST_SHOWN} more: featstore datasets check {out}", err=True)
    if table.info.notes and kind != "demo":
        click.echo(f"note: {_one_line(table.info.notes)}", err=True)
    if len(broken):
        sys.exit(2)


@datasets.command("check")
@click.argument("tracks")
@click.option("--no-audio", is_flag=True, help="Do not compare files of equal size.")
@click.option("--fingerprint", is_flag=True, help="Decode every file: find recordings that are there twice.")
@click.option("--repeats", metavar="FILE", help="With --fingerprint: write the repeats found, as JSON lists of ids.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Files decoded at a time.")
@json_option
def check_command(
    tracks: str, no_audio: bool, fingerprint: bool, repeats: str | None, jobs: int | None, as_json: bool
) -> None:
    r"""Look for groups on two sides, double ids, similar names, missing, broken and equal files, repeats.

    The exit code is 3 when something is wrong; warnings alone leave it at 0.

    \b
    Example:
      featstore datasets check tracks.parquet
    """
    from featstore.datasets import TrackTable, check_table
    from featstore.log import progress_bar

    table = TrackTable.read(tracks, checked=False)
    with progress_bar(total=len(table), desc="check", unit="file") as bar:
        findings = check_table(table, compare_audio=not no_audio, on_file=lambda: bar.update(1))
    if fingerprint:
        from featstore.workflows.repeats import repeat_findings

        more, found = repeat_findings(table, jobs=jobs)
        findings += more
        if repeats:
            write_text(repeats, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    elif repeats:
        raise ConfigError("--repeats without --fingerprint", "", "Add --fingerprint: it is what finds them")
    errors = sum(each.severity == "error" for each in findings)

    def text() -> str:
        lines = [f"{each.severity:<7} {each.kind}: {_one_line(each.message)}" for each in findings]
        counts = {"track": len(table), "error": errors, "warning": len(findings) - errors}
        return "\n".join([*lines, ", ".join(counted(count, noun) for noun, count in counts.items())])

    payload = {"tracks": len(table), "errors": errors, "findings": findings}
    emit(payload, as_json, text, exit_code=3 if errors else 0)


@datasets.command("duplicates")
@click.argument("store")
@click.option("--by", required=True, metavar="SPEC", help="An embedding of the store.")
@click.option("--bound", type=float, default=0.99, show_default=True, help="Least cosine of the centred vectors.")
@json_option
def duplicates_command(store: str, by: str, bound: float, as_json: bool) -> None:
    r"""List tracks of a store whose vectors nearly agree; the exit code is 3 when a pair lies on two sides of a split.

    \b
    Example:
      featstore datasets duplicates vectors.zarr --by 'embedding(model=mtt-musicnn)' --bound 0.99
    """
    from featstore.store import open_store
    from featstore.workflows.vector_export import near_pairs

    opened = open_store(store)
    table = opened.tracks
    splits = table["split"].dropna().astype(str).to_dict() if "split" in table else {}
    pairs = near_pairs(opened[by], bound=bound, splits=splits)
    crossing = sum(pair.crosses for pair in pairs)

    def text() -> str:
        lines = [
            f"{pair.cosine:.4f}  {pair.first}  {pair.second}"
            + (f"  {' and '.join(pair.splits)}: a leak" if pair.crosses else "")
            for pair in pairs
        ]
        return "\n".join([*lines, f"{len(pairs)} pairs with a cosine of {bound:g} or more, {crossing} across splits"])

    emit({"pairs": pairs, "across_splits": crossing}, as_json, text, exit_code=3 if crossing else 0)


@datasets.command("split")
@click.argument("tracks")
@click.option("-o", "--out", required=True, metavar="FILE", help="Where to write the table with splits.")
@click.option("--fractions", default="0.7,0.1,0.2", show_default=True, help="Shares of train,valid,test.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed draws another assignment.")
@click.option("--group-column", default="group", show_default=True, help="Tracks of one value here stay together.")
@click.option("--stratify-column", help="Column whose proportions are kept; the labels by default.")
@click.option("--repeats", metavar="FILE", help="JSON lists of ids that stay together, as `datasets check` writes.")
@json_option
def split_command(
    tracks: str,
    out: str,
    fractions: str,
    seed: int,
    group_column: str,
    stratify_column: str | None,
    repeats: str | None,
    as_json: bool,
) -> None:
    r"""Draw train, valid and test, whole groups at a time, in proportion within each class.

    Files that cannot be read are in none. With --repeats, groups that hold one recording are on one side too; all
    others have the split that they have without it.

    \b
    Examples:
      featstore datasets split tracks.parquet -o tracks.parquet --fractions 0.7,0.1,0.2 --seed 0
      featstore datasets split tracks.parquet -o tracks.parquet --repeats repeats.json
    """
    from featstore.datasets import TrackTable
    from featstore.workflows.indexing import with_splits

    try:
        shares = [float(each) for each in fractions.split(",")]
    except ValueError:
        raise ConfigError(f"--fractions {fractions} is not a list of numbers", "", "Write: 0.7,0.1,0.2") from None
    table = TrackTable.read(tracks)
    result = with_splits(
        table,
        shares,
        seed,
        by=stratify_column or "",
        group_column=group_column,
        repeats=() if repeats is None else repeats,
    )
    result.write(out)
    summary = _summary(result, out)
    emit(summary, as_json, lambda: _as_text(summary))


def _parsed(settings: tuple[str, ...]) -> dict[str, Any]:
    """Options from ``name=value``, as texts: each kind brings them to its types."""
    options: dict[str, Any] = {}
    for each in settings:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {each!r} is not of the form name=value", "", "Write: --set separator=;")
        options[name.strip()] = value
    return options


def _summary(table: TrackTable, out: str) -> dict[str, Any]:
    frame = table.frame
    splits = {str(name): int(count) for name, count in frame["split"].value_counts().sort_index().items()}
    return {
        "table": str(Path(out)),
        "name": table.info.name,
        "tracks": len(frame),
        "broken": int(frame["probe_error"].notna().sum()),
        "task": table.info.task,
        "classes": len(table.info.classes),
        "groups": int(frame["group"].nunique()),
        "splits": splits,
        "hours": round(float(frame["duration_s"].sum()) / 3600, 3),
        "bytes": int(frame["size_bytes"].sum()),
    }


def _as_text(summary: dict[str, Any]) -> str:
    splits = ", ".join(f"{name} {count}" for name, count in summary["splits"].items()) or "none yet (datasets split)"
    broken = f", {summary['broken']} cannot be read" if summary["broken"] else ""
    size = f"{summary['hours']:.2f} h, {summary['bytes'] / 1e6:.1f} MB{broken}"
    return (
        f"{summary['table']}: {summary['tracks']} tracks ({size}), "
        f"{summary['task']} with {summary['classes']} classes, {summary['groups']} groups\nsplits: {splits}"
    )


def _tell_broken(errors: Mapping[str, str]) -> None:
    for track_id, error in list(errors.items())[:_MOST_SHOWN]:
        click.echo(f"cannot be read: {_one_line(track_id)}: {error}", err=True)


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")


@datasets.command("alter")
@click.argument("tracks")
@click.argument("alteration")
@click.option("-o", "--out", required=True, metavar="FOLDER", help="Gets the copies, and their table tracks.parquet.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what the alteration draws.")
@click.option("--split", help="Only the tracks of this split, such as test.")
@click.option("--most", type=click.IntRange(1), metavar="N", help="At most N tracks, chosen by their ids.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Files handled at a time.")
@json_option
def alter_command(
    tracks: str, alteration: str, out: str, split: str | None, most: int | None, as_json: bool, **how: Any
) -> None:
    r"""Copy tracks in an altered form, as mono; ids, labels and splits stay.

    ALTERATION is one of mp3-64k (kbit/s), gain-6dB (softer), noise-20dB (ratio to white noise), resample-8k or
    resample-half (a lower rate), scramble (phases at random, short-time magnitudes as they were), or timbre-FONT (the
    built-in music, played with another sound font of this machine). What a feature owes to it shows when the same
    features of both are compared (`featstore store diff`), what a model owes to it when it is scored on the copies
    (`featstore evaluate RUN -s STORE`).

    \b
    Examples:
      featstore datasets alter tracks.parquet noise-20dB --split test -o noisy
      featstore datasets alter tracks.parquet scramble -o scrambled
    """
    from featstore.datasets import TrackTable
    from featstore.workflows.alter import alter_tracks, part_of

    table = part_of(TrackTable.read(tracks), split=split, most=most)
    found = alter_tracks(table, alteration, out, **how)
    place = str(Path(out) / "tracks.parquet")
    found.table.write(place)
    summary = {"out": place, "tracks": len(found.table.frame), "failed": found.failed}
    emit(summary, as_json, lambda: f"{len(found.table.frame)} copies: {place}")
    _tell_broken(found.failed)
    if found.failed:
        sys.exit(2)
