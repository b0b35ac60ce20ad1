"""File formats of stores: what a backend must offer, which there are, and which one a place has."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featstore.arrays import FloatArray, IntArray
from featstore.atomic import DAMAGED, json_object
from featstore.errors import CorruptFeature
from featstore.registry import Registry
from featstore.store.digests import digest_of
from featstore.store.layout import ArrayHeader, StoredArray
from featstore.store.location import Location
from featstore.store.spool import Slab, SlabWriter

__all__ = ["CODEBOOKS", "CODEBOOK_DIMS", "STORES", "Backend", "backend_at", "backend_named_by", "make_backend"]

STORES = Registry(
    "store backend",
    {
        "zarr": "featstore.store.zarr_store:ZarrBackend",
        "hdf5": "featstore.store.hdf5_store:Hdf5Backend",
        "memory": "featstore.store.memory_store:MemoryBackend",
    },
)
CODEBOOKS = "codebooks"  # folder of the code vectors that tokens stand for
CODEBOOK_DIMS = ("codebook", "code", "dimension")
_FIX = "featstore store repair writes it again where the weights are known: name their file in FEATSTORE_WEIGHTS"


class Backend(ABC):
    """A file format of stores at a location.

    Everything that depends on the format is here: names and metadata of files, shard files, codebooks, file counts.
    A new one is a subclass and a line in :data:`STORES`, tested by ``featstore.testing.store_contract``.

    Attributes
    ----------
    name : str
        As in :data:`STORES`.
    root : str
        File that makes a place a store of this backend.
    endings : tuple of str
        Endings of a path, each with its dot, that ask for this backend.
    other_files : tuple of str
        Files at the top of a store, besides the root, that follow from all the rest; by them a store is recognised
        that has lost its root.
    lengths_bytes : int
        About what the frame counts of one shard add to its files, besides four bytes per track.
    """

    name: ClassVar[str]
    root: ClassVar[str]
    endings: ClassVar[tuple[str, ...]] = ()
    other_files: ClassVar[tuple[str, ...]] = ()
    lengths_bytes: ClassVar[int] = 4

    def __init__(self, location: Location) -> None:
        self.location = location

    # -- metadata -------------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def root_files(cls, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Files that make the location a store, the root file last."""

    @abstractmethod
    def read_root(self, content: bytes) -> Any:
        """Return the store's own metadata from the root file."""

    @abstractmethod
    def array_files(
        self, array: StoredArray, n_rows: int, n_frames: int, cost: Mapping[str, float | int] | None = None
    ) -> dict[str, bytes]:
        """Metadata files of an array, the last one makes it exist; ``cost`` holds measured errors of the encoding."""

    @abstractmethod
    def metadata_name(self, key: str) -> str:
        """Name of the file without which an array does not exist."""

    def read_array(self, key: str) -> dict[str, Any]:
        """Attributes of an array, enough to make its header and layout again."""
        return json_object(self.location.read(self.metadata_name(key)))

    def array_keys(self) -> list[str]:
        """Keys of the arrays that have metadata."""
        keys = self.location.list("features")
        self.location.prefetch(self.metadata_name(key) for key in keys)
        return [key for key in keys if self.location.exists(self.metadata_name(key))]

    def derived_files(self, arrays: Mapping[str, StoredArray], n_rows: int) -> dict[str, bytes]:
        """Files that follow from all the rest, for plain readers."""
        return {}

    # -- files of one shard ---------------------------------------------------------------------------------------

    @abstractmethod
    def slab_name(self, array: StoredArray, shard: int, slab: int) -> str:
        """Name of the file that holds one shard's stretch of time."""

    def lengths_file(self, array: StoredArray, shard: int, lengths: IntArray) -> tuple[str, bytes] | None:
        """Name and content of the file with one shard's frame counts; None where they are in the shard's file."""
        return None

    @abstractmethod
    def slab_writer(self, path: Path, array: StoredArray) -> SlabWriter:
        """Open a new shard file for writing, aside from its place."""

    @abstractmethod
    def open_slab(self, name: str, array: StoredArray) -> Slab:
        """Open a shard file for reading; ``FileNotFoundError`` when it is absent."""

    def adopt_shard(
        self, array: StoredArray, shard: int, lengths: IntArray, staged: Iterable[tuple[str, Path, int, str]]
    ) -> tuple[dict[str, list[Any]], list[Callable[[], None]]]:
        """How finished files (name, staged path, bytes, digest) of a shard come into place.

        Returns
        -------
        files : dict
            Name to ``[bytes, digest]``.
        steps : list of callable
            What puts each of them there, to be taken by :meth:`Location.together`.
        """
        files: dict[str, list[Any]] = {}
        steps: list[Callable[[], None]] = []
        for name, path, size, digest in staged:
            steps.append(partial(self.location.adopt, path, name))
            files[name] = [size, digest]
        counts = self.lengths_file(array, shard, lengths)
        if counts is not None:
            steps.append(partial(self.location.write, *counts))
            files[counts[0]] = [len(counts[1]), digest_of(counts[1])]
        return files, steps

    @classmethod
    @abstractmethod
    def metadata_count(cls, header: ArrayHeader, n_shards: int) -> int:
        """Files of an array besides its shard files and records: metadata, and frame counts of that many shards."""

    # -- codebooks ------------------------------------------------------------------------------------------------

    @abstractmethod
    def codebook_files(self, name: str, vectors: FloatArray, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Files of a codebook: vectors float32 (codebooks, codes, width), and what is known of the codec."""

    @abstractmethod
    def codebook_name(self, entry: str) -> str | None:
        """Name of the codebook that an entry of the folder of codebooks belongs to; None for the folder's own file."""

    @abstractmethod
    def load_codebook(self, name: str) -> tuple[FloatArray, dict[str, Any]]:
        """Vectors and attributes as :meth:`codebook_files` wrote them; any error of reading is passed on."""

    def codebook_names(self) -> list[str]:
        """Names of the codebooks that the store holds, sorted."""
        names = map(self.codebook_name, self.location.list(CODEBOOKS))
        return sorted({name for name in names if name is not None})

    def write_codebook(self, name: str, vectors: FloatArray, attributes: dict[str, Any]) -> None:
        """Write code vectors float32 (codebooks, codes, width) and what is known of the codec; again, a no-op."""
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        for path, content in self.codebook_files(name, vectors, attributes).items():
            self.location.write_changed(path, content)

    def read_codebook(self, name: str) -> tuple[FloatArray, dict[str, Any]]:
        """Code vectors (codebooks, codes, width) and attributes.

        Raises
        ------
        CorruptFeature
            When the codebook is missing, or its bytes differ from what was written.
        """
        where = f"{self.location}/{CODEBOOKS}/{name}"
        try:
            return self.load_codebook(name)
        except FileNotFoundError:
            raise CorruptFeature("the codebook of stored tokens is missing", where, _FIX) from None
        except DAMAGED as error:
            raise CorruptFeature(f"the codebook of stored tokens cannot be read: {error}", where, _FIX) from error


def make_backend(name: str, location: Location) -> Backend:
    """Backend by name.

    Raises
    ------
    ConfigError
        For an unknown name.
    StoreError
        When the backend cannot live at that kind of location.
    """
    backend: Backend = STORES.load(name)(location)
    return backend


def backend_named_by(path: str | os.PathLike[str] | Location) -> str | None:
    """Backend that the ending of a new store's path asks for; None where it asks for none."""
    ending = os.path.splitext(str(path).rstrip("/"))[1].lower()
    return next((name for name in STORES if ending in STORES.load(name).endings), None)


def backend_at(location: Location) -> Backend | None:
    """Backend of the store at a location, None where there is none."""
    for name in STORES:
        if location.exists(STORES.load(name).root):
            return make_backend(name, location)
    return None
