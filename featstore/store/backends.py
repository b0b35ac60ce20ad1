"""Which backend a store has: by its root file when it is there, by name when it is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from featstore.arrays import IntArray
from featstore.errors import StoreError
from featstore.registry import Registry
from featstore.store.layout import ArrayHeader, Layout
from featstore.store.location import Location
from featstore.store.s3_location import S3Location
from featstore.store.spool import Slab, SlabWriter

__all__ = ["ROOTS", "STORES", "Backend", "backend_at", "backend_meant", "make_backend"]

STORES = Registry(
    "store backend",
    {"zarr": "featstore.store.zarr_store:ZarrBackend", "hdf5": "featstore.store.hdf5_store:Hdf5Backend"},
)
ROOTS = {"zarr.json": "zarr", "store.json": "hdf5"}


class Backend(Protocol):
    """What the rest of the room asks of a file format."""

    name: str
    root: str
    location: Location

    def root_files(self, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Files that make the location a store, the root file last."""

    def read_root(self, content: bytes) -> Any:
        """Return the store's own metadata from the root file."""

    def array_files(
        self,
        header: ArrayHeader,
        layout: Layout,
        n_rows: int,
        n_frames: int,
        cost: Mapping[str, float | int] | None = None,
    ) -> dict[str, bytes]:
        """Metadata files of one array, the last one makes it exist; ``cost`` holds measured errors of the encoding."""

    def read_array(self, key: str) -> dict[str, Any]:
        """Attributes of an array, enough to make its header and layout again."""

    def array_keys(self) -> list[str]:
        """Keys of the arrays that have metadata."""

    def derived_files(self, arrays: Mapping[str, tuple[ArrayHeader, Layout]], n_rows: int) -> dict[str, bytes]:
        """Files that follow from all the rest, for plain readers."""

    def slab_name(self, header: ArrayHeader, shard: int, slab: int) -> str:
        """Name of the file that holds one shard's stretch of time."""

    def lengths_file(
        self, header: ArrayHeader, layout: Layout, shard: int, lengths: IntArray
    ) -> tuple[str, bytes] | None:
        """Name and content of the file with one shard's frame counts, where they have one of their own."""

    def slab_writer(self, path: Path, header: ArrayHeader, layout: Layout) -> SlabWriter:
        """Open a new shard file for writing, aside from its place."""

    def open_slab(self, name: str, header: ArrayHeader, layout: Layout) -> Slab:
        """Open a shard file for reading."""


def make_backend(name: str, location: Location) -> Backend:
    """Backend by name.

    Raises
    ------
    ConfigError
        For an unknown name.
    StoreError
        For HDF5 in a bucket: its virtual datasets cannot reach shard files there, so no other program could read it.
    """
    if name == "hdf5" and isinstance(location, S3Location):
        raise StoreError(
            "HDF5 stores live on a file system", str(location), "Use the zarr backend there, or store convert to it"
        )
    backend: Backend = STORES.load(name)(location)
    return backend


def backend_meant(path: str | os.PathLike[str] | Location) -> str | None:
    """Backend that the ending of a new store's name speaks of: .h5 and .hdf5, .zarr; None for any other."""
    ending = os.path.splitext(str(path).rstrip("/"))[1].lower()
    return {".h5": "hdf5", ".hdf5": "hdf5", ".zarr": "zarr"}.get(ending)


def backend_at(location: Location) -> Backend | None:
    """Backend of the store at a location, None where there is none."""
    for root, name in ROOTS.items():
        if location.exists(root):
            return make_backend(name, location)
    return None
