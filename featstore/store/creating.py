"""Making a new store: the order of its tracks is frozen, its shards are cut, its root is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.errors import StoreError
from featstore.store.backends import Backend, backend_at, make_backend
from featstore.store.layout import ArrayHeader, choose_shard_tracks
from featstore.store.leases import hold_store
from featstore.store.location import Location, open_location
from featstore.store.packed_file import packed_location
from featstore.store.store import FORMAT, TRACKS, Store, open_store
from featstore.store.track_order import ordered, parquet_bytes
from featstore.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["backend_or_room", "create_store"]


def backend_or_room(location: Location) -> Backend | None:
    """Backend of the store at a place; None where a store can be made.

    That is where nothing is, or what a store's creation left when it was killed.

    Raises
    ------
    StoreError
        When there is anything else.
    """
    ours = {"features", "leases", "requests", "staging", TRACKS}
    # listed before the look for a store: another process may make one in between
    names = location.list("")
    there = backend_at(location)
    if there is not None:
        return there
    other = [name for name in names if name not in ours and not (name.startswith(".") and name.endswith(".part"))]
    if other:
        raise StoreError(
            f"the folder holds other files ({other[0]!r}) and is no store",
            str(location),
            "Choose a new or empty folder",
        )
    return None


def create_store(
    path: str | os.PathLike[str] | Location,
    tracks: pd.DataFrame,
    headers: Sequence[ArrayHeader],
    *,
    shard_tracks: int | None = None,
    seed: int = 0,
    backend: str = "zarr",
) -> Store:
    """Make a new, empty store with a frozen track order, or open the one that is there.

    Parameters
    ----------
    path : path or URL
    tracks : pandas.DataFrame
        Columns ``track_id``, ``path``, and any others to keep.
    headers : sequence of ArrayHeader
        The features asked for first; with the probed durations they decide how many tracks a shard holds.
    shard_tracks : int, optional
        Fix that number.
    seed : int
        Of the track order.
    backend : str
        ``zarr`` or ``hdf5``.
    """
    packed = packed_location(path)
    if packed is not None:
        raise StoreError("this is a file; a store to write is a folder", str(packed), "Choose a new or empty folder")
    location = open_location(path)
    made = make_backend(backend, location)
    there = backend_or_room(location)
    if there is not None:
        if there.name != made.name:
            raise StoreError(
                f"the store is {there.name}, not {made.name}",
                str(location),
                "Leave --backend out, or choose another path",
            )
        return open_store(location)
    durations = [float(value) for value in tracks.get("duration_s", ())]
    if shard_tracks is None:
        shard_tracks = choose_shard_tracks(headers, durations, len(tracks))
    elif shard_tracks < 1:
        raise StoreError(f"shard_tracks={shard_tracks} is too small", str(location), "Give at least 1")
    attributes = {
        "format": FORMAT,
        "backend": made.name,
        "shard_tracks": int(shard_tracks),
        "seed": seed,
        "featstore": __version__,
    }
    with hold_store(location):
        if backend_at(location) is None:  # of several who come at once one makes the store, the others find it
            location.write(TRACKS, parquet_bytes(ordered(tracks, seed, 0)))
            for name, content in made.root_files(attributes).items():
                location.write(name, content)
    return open_store(location)
