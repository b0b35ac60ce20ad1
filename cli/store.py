"""Commands ``featstore store …``."""

from __future__ import annotations

import click
from featstore_cli.common import emit, human_bytes, json_option, render_table

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
