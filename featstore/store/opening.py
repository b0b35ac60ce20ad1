"""Opening a store, and making a new one: its track order is frozen, its shards are cut, its root is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.atomic import DAMAGED
from featstore.errors import NewerFormat, StoreError
from featstore.store.backends import Backend, backend_at, make_backend
from featstore.store.layout import ArrayHeader, choose_shard_tracks
from featstore.store.leases import hold_store
from featstore.store.location import Location, open_location
from featstore.store.packed_file import PackedBackend, packed_location
from featstore.store.store import FORMAT, NEWEST_FORMAT, Store
from featstore.store.stored_tracks import TRACKS, ordered, parquet_bytes
from featstore.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CONVERSION", "create_store", "existing_backend", "open_store"]

CONVERSION = "conversion.json"  # in a store that a conversion is being written to, from its first file to its last


def open_store(path: str | os.PathLike[str] | Location, *, old_formats: bool = False) -> Store:
    """Open a store for reading: a folder, or the one file that ``featstore store pack`` made.

    Parameters
    ----------
    path : path or URL
    old_formats : bool
        Accept arrays in formats that are no longer written: for conversion.

    Raises
    ------
    StoreError
        When there is none, or a newer version wrote it.

    See Also
    --------
    create_store : Makes a new store.
    featstore.store.verify.verify : Checks that a store is whole.

    Examples
    --------
    >>> open_store("nowhere.zarr")
    Traceback (most recent call last):
    featstore.errors.StoreError: there is no store [nowhere.zarr]. Check the path, or make one with featstore extract
    """
    packed = packed_location(path)
    location = packed or open_location(path)
    backend: Backend | None = PackedBackend(packed) if packed else backend_at(location)
    if backend is None:
        raise StoreError("there is no store", str(location), "Check the path, or make one with featstore extract")
    try:
        attributes = backend.read_root(location.read(backend.root))
        newer = attributes["format"] > NEWEST_FORMAT
        numbers = (attributes["format"], 1 if newer else attributes["shard_tracks"])
        if any(type(number) is not int or not 1 <= number < 1 << 40 for number in numbers):
            raise ValueError("format and shard_tracks")
    except DAMAGED as error:
        raise StoreError(
            "this is no store of featstore, or its root is damaged", str(location), "Run featstore store verify"
        ) from error
    if newer:
        raise NewerFormat(
            f"the store has format {attributes['format']}, this version reads up to {NEWEST_FORMAT}",
            str(location),
            "Upgrade featstore",
        )
    return Store(backend, attributes, old_formats=old_formats)


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
        Name in :data:`featstore.store.backends.STORES`.

    Raises
    ------
    StoreError
        When the place holds other files, or a store of another backend.

    See Also
    --------
    open_store : Opens a store for reading.
    featstore.store.writing : Adds arrays, tracks and shards.
    """
    packed = packed_location(path)
    if packed is not None:
        raise StoreError("this is a file; a store to write is a folder", str(packed), "Choose a new or empty folder")
    location = open_location(path)
    made = make_backend(backend, location)
    there = existing_backend(location)
    if there is not None:
        if there.name != made.name:
            raise StoreError(
                f"the store is {there.name}, not {made.name}",
                str(location),
                "Leave --backend out, or choose another path",
            )
        return open_store(location)
    if shard_tracks is None:
        shard_tracks = choose_shard_tracks(headers, tracks.get("duration_s", ()), len(tracks))
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
        if backend_at(location) is None:  # of several processes one makes the store, the others find it
            location.write(TRACKS, parquet_bytes(ordered(tracks, seed, 0)))
            for name, content in made.root_files(attributes).items():
                location.write(name, content)
    return open_store(location)


def existing_backend(location: Location) -> Backend | None:
    """Backend of the store at a location; None where a store can be made.

    That is an empty place, or one that holds only what the killed creation of a store left.

    Raises
    ------
    StoreError
        When there is anything else.
    """
    ours = {"features", "leases", "requests", "staging", TRACKS, CONVERSION}
    # listed before the search for a store: another process may make one in between
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
