"""The Zarr v3 backend: metadata that plain zarr and xarray read, and a streaming writer of sharded files.

A shard file holds encoded chunks in the order in which they were appended, then an index of (offset, length) pairs in C
order of the chunk grid, then the index's crc32c. Chunks that were never written have no bytes and the index says so.
"""

from __future__ import annotations

import base64
import contextlib
import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featstore.arrays import AnyArray, FloatArray, IntArray
from featstore.atomic import canonical_json, disk_errors, json_object
from featstore.errors import CorruptFeature, StoreError
from featstore.store.backends import CODEBOOK_DIMS, CODEBOOKS, Backend
from featstore.store.chunks import CRC_BYTES, checked, compress, crc32c, decode_chunk, zarr_codecs
from featstore.store.digests import digest_text
from featstore.store.layout import ArrayHeader, StoredArray
from featstore.store.location import FileBytes
from featstore.store.spool import Slab, SlabWriter
from featstore.store.write_behind import WriteBehind

__all__ = ["ZarrBackend", "ZarrSlabWriter"]

_GROUP = {"zarr_format": 3, "node_type": "group"}
_RAW_CODECS = zarr_codecs("none", 4)


def _array_metadata(
    shape: list[int], chunk_shape: list[int], dtype: str, fill: Any, codecs: list[Any], dims: list[str], attributes: Any
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "dimension_names": dims,
        "attributes": attributes,
        "storage_transformers": [],
    }


class ZarrBackend(Backend):
    """Names, metadata and files of arrays in a Zarr v3 hierarchy at a location."""

    name, root = "zarr", "zarr.json"
    endings: ClassVar[tuple[str, ...]] = (".zarr",)

    # -- metadata ------------------------------------------------------------------------------------------------

    @classmethod
    def root_files(cls, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Files that make the location a Zarr group; the attributes are the store's own metadata."""
        return {
            "features/zarr.json": canonical_json(_GROUP | {"attributes": {}}),
            cls.root: canonical_json(_GROUP | {"attributes": {"featstore": attributes}}),
        }

    def read_root(self, content: bytes) -> Any:
        """Return the store's own metadata from the root file."""
        return json_object(content)["attributes"]["featstore"]

    def metadata_name(self, key: str) -> str:
        """Name of the group's metadata."""
        return f"features/{key}/zarr.json"

    def read_array(self, key: str) -> dict[str, Any]:
        """Attributes of an array's group, as :meth:`array_files` wrote them."""
        attributes: dict[str, Any] = super().read_array(key)["attributes"]
        return attributes

    def array_files(
        self, array: StoredArray, n_rows: int, n_frames: int, cost: Mapping[str, float | int] | None = None
    ) -> dict[str, bytes]:
        """Metadata files of one logical array; ``cost`` holds measured errors of the encoding."""
        header, layout = array.header, array.layout
        prefix = f"features/{header.key}"
        encoding = header.encoding
        # plain readers decode by the CF convention from the array's own attributes; this is xarray's form for floats
        fill = (
            encoding.fill_value if encoding.is_integer else base64.b64encode(struct.pack("<d", float("nan"))).decode()
        )
        sharding = {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": list(header.shape_of(layout.chunk_frames, 1)),
                "codecs": zarr_codecs(layout.compression, encoding.dtype.itemsize),
                "index_codecs": _RAW_CODECS,
                "index_location": "end",
            },
        }
        data = _array_metadata(
            list(header.shape_of(n_frames, n_rows)),
            list(header.shape_of(layout.slab_frames, layout.shard_tracks)),
            encoding.dtype.name,
            encoding.fill_value if encoding.is_integer else "NaN",
            [sharding],
            ["track", *header.dims],
            header.cf_attributes() | {"_FillValue": fill} | dict(cost or {}),
        )
        lengths = _array_metadata(
            [n_rows],
            [layout.shard_tracks],
            "int32",
            -1,
            _RAW_CODECS,
            ["track"],
            {"long_name": f"{'excerpts' if header.has_clips else 'frames'} of each track, -1 where nothing is stored"},
        )
        excerpts = {}
        if header.has_clips:  # the same for all: said by the fill value, without a file
            each = {"long_name": "frames of each excerpt"}
            constant = lengths | {"fill_value": header.clip_frames, "attributes": each}
            excerpts = {f"{prefix}/n_frames/zarr.json": canonical_json(constant)}
        return excerpts | {
            f"{prefix}/data/zarr.json": canonical_json(data),
            f"{prefix}/{header.lengths_name}/zarr.json": canonical_json(lengths),
            f"{prefix}/zarr.json": canonical_json(_GROUP | {"attributes": array.as_attributes()}),
        }

    # -- files of one shard ---------------------------------------------------------------------------------------

    def slab_name(self, array: StoredArray, shard: int, slab: int) -> str:
        """Name of the file that holds one shard's stretch of time."""
        return f"features/{array.key}/data/c/{'/'.join(map(str, array.header.chunk_place(shard, slab)))}"

    def lengths_file(self, array: StoredArray, shard: int, lengths: IntArray) -> tuple[str, bytes] | None:
        """Name and content of the file with one shard's frame counts: a whole chunk, -1 beyond the last row."""
        padded = np.full(array.layout.shard_tracks, -1, dtype="<i4")
        padded[: len(lengths)] = lengths
        raw = padded.tobytes()
        return f"features/{array.key}/{array.header.lengths_name}/c/{shard}", raw + crc32c(raw)

    def slab_writer(self, path: Path, array: StoredArray) -> ZarrSlabWriter:
        """Open a new shard file for writing, aside from its place."""
        return ZarrSlabWriter(path, array)

    def open_slab(self, name: str, array: StoredArray) -> ZarrSlab:
        """Open a shard file for reading."""
        return ZarrSlab(self.location.open(name), f"{self.location}/{name}", array)

    @classmethod
    def metadata_count(cls, header: ArrayHeader, n_shards: int) -> int:
        """Metadata of the group, the data and the frame counts (of excerpts, both counts), and a count per shard."""
        return 3 + n_shards + int(header.has_clips)

    # -- codebooks ------------------------------------------------------------------------------------------------

    def codebook_files(self, name: str, vectors: FloatArray, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Files of ``codebooks/<name>``, an array [codebook, code, dimension] of one checksummed chunk."""
        shape, dims = list(vectors.shape), list(CODEBOOK_DIMS)
        raw = vectors.tobytes()
        return {
            f"{CODEBOOKS}/{name}/c/0/0/0": raw + crc32c(raw),
            f"{CODEBOOKS}/{name}/zarr.json": canonical_json(
                _array_metadata(shape, shape, "float32", "NaN", _RAW_CODECS, dims, attributes)
            ),
            f"{CODEBOOKS}/zarr.json": canonical_json(_GROUP | {"attributes": {}}),
        }

    def codebook_name(self, entry: str) -> str | None:
        """Name of the folder, but for the file that makes the folder of codebooks a group."""
        return None if entry == "zarr.json" else entry

    def load_codebook(self, name: str) -> tuple[FloatArray, dict[str, Any]]:
        """Vectors and attributes of a codebook."""
        metadata = json_object(self.location.read(f"{CODEBOOKS}/{name}/zarr.json"))
        chunk = f"{CODEBOOKS}/{name}/c/0/0/0"
        body = checked(memoryview(self.location.read(chunk)), f"{self.location}/{CODEBOOKS}/{name}")
        vectors = np.frombuffer(body, dtype="<f4").reshape(metadata["shape"])
        return vectors.astype(np.float32), metadata["attributes"]


class ZarrSlabWriter(SlabWriter):
    """A shard file in the making: append a track's chunks in order, take a track back, close.

    Only the index is held in memory. The digest covers every byte of the finished file.
    """

    def __init__(self, path: Path, array: StoredArray) -> None:
        super().__init__(path, array)
        self._behind = WriteBehind(self.file.fileno(), path)

    def append(self, slot: int, chunk: int, values: AnyArray) -> None:
        """Write chunk number ``chunk`` of track ``slot``: values of shape (*item_shape, chunk_frames)."""
        body = compress(values, self.layout.compression)
        self.put(slot, chunk, body, crc32c(body))
        self._behind.written(len(body))

    def close(self, lengths: IntArray) -> tuple[int, str]:
        """Write the index and return the file's size and digest."""
        index = self.index.tobytes()
        tail = index + crc32c(index)
        self._behind.wait()
        with disk_errors(self.path):
            self.file.write(tail)
            self.file.close()
        self.digest.update(tail)
        return self.offset + len(tail), digest_text(self.digest)

    def abandon(self) -> None:
        """Close and delete the unfinished file."""
        with contextlib.suppress(StoreError):  # its bytes are not wanted any more
            self._behind.wait()
        super().abandon()


class ZarrSlab(Slab):
    """A shard file open for reading: the index parsed once, chunks decoded from the memory map."""

    decode = staticmethod(decode_chunk)

    def __init__(self, data: FileBytes, where: str, array: StoredArray) -> None:
        self._set(data, where, array)
        size = 16 * array.layout.index_entries + CRC_BYTES
        if len(data) < size:
            raise CorruptFeature(
                f"a shard file has {len(data)} bytes, too few for its index", where, "Run featstore store repair"
            )
        index = checked(data[-size:], where)
        self._index: npt.NDArray[np.uint64] = np.frombuffer(index, dtype="<u8").reshape(-1, 2)
        file = data.obj if isinstance(data, memoryview) else None
        self._file = file if isinstance(file, mmap.mmap) and array.layout.compression == "none" else None
        self._address = 0 if self._file is None else np.frombuffer(self._file, np.uint8).__array_interface__["data"][0]
        self._chunk_bytes = math.prod(self._shape) * self._dtype.itemsize

    def mapped_chunk(self, slot: int, chunk: int) -> tuple[mmap.mmap, int, int] | None:
        """File, address and bytes of a chunk that is mapped with its crc32c behind it; None where none is."""
        span = self.chunk_span(slot, chunk)
        if self._file is None or span is None or span[1] != self._chunk_bytes + CRC_BYTES:
            return None
        inside = span[0] + span[1] <= len(self._data)
        return (self._file, self._address + span[0], self._chunk_bytes) if inside else None
