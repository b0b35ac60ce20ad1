"""Codebooks: the code vectors that stored tokens stand for, once in a store whatever the number of token arrays.

In Zarr ``codebooks/<name>`` is an array [codebook, code, dimension] of one checksummed chunk; in HDF5
``codebooks/<name>.h5`` holds the same as ``codebook``, and the master file links to it.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.atomic import canonical_json
from featstore.errors import CorruptFeature
from featstore.store.chunks import checked, crc32c
from featstore.store.location import Location
from featstore.store.records import committed_shards

if TYPE_CHECKING:
    from featstore.store.backends import Backend
    from featstore.store.store import Store

__all__ = ["FOLDER", "codebook_names", "needed_codebooks", "read_codebook", "write_codebook"]

FOLDER = "codebooks"
_DIMS = ["codebook", "code", "dimension"]
_FIX = "featstore store repair writes it again where the weights are known: name their file in FEATSTORE_WEIGHTS"


def codebook_names(location: Location) -> list[str]:
    """Names of the codebooks in a store."""
    return sorted(name.removesuffix(".h5") for name in location.list(FOLDER) if name != "zarr.json")


def needed_codebooks(store: Store) -> dict[str, list[str]]:
    """Codebooks that committed tokens stand for, whether they are there or not: name to the keys of their arrays."""
    needed: dict[str, list[str]] = {}
    for key, (header, _) in store.arrays.items():
        name = getattr(header.spec, "codebook_name", None)
        if name is not None and next(committed_shards(store.location, key), None) is not None:
            needed.setdefault(name, []).append(key)
    return needed


def write_codebook(backend: Backend, name: str, vectors: FloatArray, attributes: dict[str, Any]) -> None:
    """Write code vectors float32 (codebooks, codes, width) and what is known of the codec; again, a no-op."""
    location = backend.location
    vectors = np.ascontiguousarray(vectors, dtype="<f4")
    for path, content in (_zarr_files if backend.name == "zarr" else _hdf5_files)(name, vectors, attributes).items():
        if not location.exists(path) or location.read(path) != content:
            location.write(path, content)


def read_codebook(backend: Backend, name: str) -> tuple[FloatArray, dict[str, Any]]:
    """Code vectors (codebooks, codes, width) and attributes.

    Raises
    ------
    CorruptFeature
        When the codebook is missing, or its bytes differ from what was written.
    """
    where = f"{backend.location}/{FOLDER}/{name}"
    try:
        return (_read_zarr if backend.name == "zarr" else _read_hdf5)(backend.location, name, where)
    except FileNotFoundError:
        raise CorruptFeature("the codebook of stored tokens is missing", where, _FIX) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFeature(f"the codebook of stored tokens cannot be read: {error}", where, _FIX) from error


def _zarr_files(name: str, vectors: FloatArray, attributes: dict[str, Any]) -> dict[str, bytes]:
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(vectors.shape),
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(vectors.shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN",
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "dimension_names": _DIMS,
        "attributes": attributes,
        "storage_transformers": [],
    }
    raw = vectors.tobytes()
    return {
        f"{FOLDER}/{name}/c/0/0/0": raw + crc32c(raw),
        f"{FOLDER}/{name}/zarr.json": canonical_json(array),
        f"{FOLDER}/zarr.json": canonical_json(group),
    }


def _read_zarr(location: Location, name: str, where: str) -> tuple[FloatArray, dict[str, Any]]:
    metadata = json.loads(location.read(f"{FOLDER}/{name}/zarr.json"))
    body = checked(memoryview(location.read(f"{FOLDER}/{name}/c/0/0/0")), where)
    vectors = np.frombuffer(body, dtype="<f4").reshape(metadata["shape"])
    return vectors.astype(np.float32), metadata["attributes"]


def _hdf5_files(name: str, vectors: FloatArray, attributes: dict[str, Any]) -> dict[str, bytes]:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        dataset = file.create_dataset(
            "codebook", data=vectors, chunks=vectors.shape, fletcher32=True, fillvalue=np.nan, track_times=False
        )
        dataset.attrs["dimensions"] = _DIMS
        dataset.attrs["attributes"] = canonical_json(attributes).decode()
    return {f"{FOLDER}/{name}.h5": buffer.getvalue()}


def _read_hdf5(location: Location, name: str, where: str) -> tuple[FloatArray, dict[str, Any]]:
    import h5py

    with h5py.File(io.BytesIO(location.read(f"{FOLDER}/{name}.h5")), "r") as file:
        dataset = file["codebook"]
        vectors: FloatArray = dataset[()]
        return vectors, json.loads(dataset.attrs["attributes"])
