"""The HDF5 backend: one file for each shard of an array, and a master file whose virtual datasets show whole arrays.

A shard's chunks are spooled aside first and put into the HDF5 file when it is closed: chunks that were taken back leave
no hole, and the bytes depend on the content alone. Chunks carry HDF5's own fletcher32; with compression they are Blosc
chunks (filter 32001), which plain h5py reads with ``hdf5plugin`` installed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore.arrays import AnyArray, IntArray
from featstore.atomic import canonical_json, disk_errors
from featstore.errors import CorruptFeature
from featstore.store.chunks import GZIP_LEVEL, PACKED_BITS, compress, decompress, packed_axis
from featstore.store.codebooks import FOLDER as CODEBOOKS
from featstore.store.codebooks import codebook_names
from featstore.store.digests import digest_text, new_digest
from featstore.store.layout import ArrayHeader, Layout
from featstore.store.location import Location
from featstore.store.spool import ABSENT, IndexedSlab, Spool

__all__ = [
    "MASTER",
    "Hdf5Backend",
    "Hdf5SlabWriter",
    "create_chunked",
    "decode_hdf5_chunk",
    "describe_array",
    "encode_hdf5_chunk",
]

MASTER = "master.h5"
_BLOSC_FILTER = 32001
PACKED_FILTER = 47311  # of the numbers that HDF5 leaves to private use; featstore.store.packed_filter brings it
_LIBVER = ("v110", "v110")  # checksummed metadata, and one known layout whatever version writes
_BLOSC_CODES = {"lz4": (1, 5), "zstd": (5, 3)}  # compressor, level


def _fletcher32() -> Any:
    from numcodecs import Fletcher32

    return Fletcher32()


class Hdf5Backend:
    """Names, metadata and files of arrays kept as HDF5 at a location."""

    name = "hdf5"
    root = "store.json"

    def __init__(self, location: Location) -> None:
        self.location = location

    # -- metadata ------------------------------------------------------------------------------------------------

    def root_files(self, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Return the file that makes the location a store."""
        return {self.root: canonical_json({"featstore": attributes})}

    def read_root(self, content: bytes) -> Any:
        """Return the store's own metadata from the root file."""
        return json.loads(content)["featstore"]

    def array_files(
        self,
        header: ArrayHeader,
        layout: Layout,
        n_rows: int,
        n_frames: int,
        cost: Mapping[str, float | int] | None = None,
    ) -> dict[str, bytes]:
        """Metadata file of one logical array; the master file shows the same to plain readers."""
        attributes = header.as_attributes(layout) | {"n_rows": n_rows, "n_frames": n_frames}
        attributes |= {"cost": dict(cost)} if cost else {}
        return {f"features/{header.key}/array.json": canonical_json(attributes)}

    def read_array(self, key: str) -> dict[str, Any]:
        """Attributes of an array, as :meth:`array_files` wrote them."""
        attributes: dict[str, Any] = json.loads(self.location.read(f"features/{key}/array.json"))
        return attributes

    def array_keys(self) -> list[str]:
        """Keys of the arrays that have metadata."""
        return [key for key in self.location.list("features") if self.location.exists(f"features/{key}/array.json")]

    def derived_files(self, arrays: Mapping[str, tuple[ArrayHeader, Layout]], n_rows: int) -> dict[str, bytes]:
        """Return the master file: every array as one virtual dataset over its shard files."""
        import h5py

        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=_LIBVER) as master:
            for key, (header, layout) in sorted(arrays.items()):
                group, attributes = master.create_group(f"features/{key}"), self.read_array(key)
                self._virtual(group, header, layout, n_rows, int(attributes["n_frames"]))
                describe_array(group, header, layout, attributes.get("cost", {}))
            books = codebook_names(self.location)
            # a group that comes about by itself has the time of day in it
            folder: Any = master.create_group(CODEBOOKS) if books else None
            for name in books:
                folder[name] = h5py.ExternalLink(f"{CODEBOOKS}/{name}.h5", "/codebook")
        return {MASTER: buffer.getvalue()}

    def _virtual(self, group: Any, header: ArrayHeader, layout: Layout, n_rows: int, n_frames: int) -> None:
        import h5py

        dtype, cut = header.encoding.dtype, self._cut
        data = h5py.VirtualLayout(shape=header.shape_of(n_frames, n_rows), dtype=dtype)
        frames = h5py.VirtualLayout(shape=(n_rows,), dtype="<i4")
        for name in self.location.list(f"features/{header.key}"):
            parts = name.removesuffix(".h5").split(".")
            if not name.endswith(".h5") or not all(part.isdecimal() for part in parts):
                continue
            shard, slab = int(parts[0]), int(parts[1]) if len(parts) > 1 else 0
            file = f"features/{header.key}/{name}"
            first, begin = shard * layout.shard_tracks, slab * layout.slab_frames
            rows, width = min(layout.shard_tracks, n_rows - first), min(layout.slab_frames, n_frames - begin)
            if rows > 0 and width > 0:
                whole = header.shape_of(layout.slab_frames, layout.shard_tracks)
                source = h5py.VirtualSource(file, "data", shape=whole, dtype=dtype)
                there, here = slice(first, first + rows), slice(begin, begin + width)
                data[cut(header, there, here)] = source[cut(header, slice(rows), slice(width))]
            if rows > 0 and slab == 0:
                counts = h5py.VirtualSource(file, header.lengths_name, shape=(layout.shard_tracks,), dtype="<i4")
                frames[first : first + rows] = counts[:rows]
        for virtual in (data, frames):
            virtual.dcpl.set_obj_track_times(False)  # bytes must not depend on the time of day
        group.create_virtual_dataset("data", data, fillvalue=header.encoding.fill_value)
        group.create_virtual_dataset(header.lengths_name, frames, fillvalue=-1)
        if header.has_clips:  # the same for all: said by the fill value
            group.create_dataset("n_frames", shape=(n_rows,), dtype="<i4", fillvalue=header.clip_frames)

    @staticmethod
    def _cut(header: ArrayHeader, rows: slice, frames: slice) -> tuple[Any, ...]:
        """Index of some tracks and a stretch of the axis of growth."""
        return (rows, frames) if header.has_clips else (rows, ..., frames)

    # -- files of one shard ---------------------------------------------------------------------------------------

    def slab_name(self, header: ArrayHeader, shard: int, slab: int) -> str:
        """Name of the file that holds one shard's stretch of time."""
        return f"features/{header.key}/{shard}.h5" if slab == 0 else f"features/{header.key}/{shard}.{slab}.h5"

    def lengths_file(
        self, header: ArrayHeader, layout: Layout, shard: int, lengths: IntArray
    ) -> tuple[str, bytes] | None:
        """Return nothing: frame counts are in the shard's file."""
        return None

    def slab_writer(self, path: Path, header: ArrayHeader, layout: Layout) -> Hdf5SlabWriter:
        """Open a new shard file for writing, aside from its place."""
        return Hdf5SlabWriter(path, header, layout)

    def open_slab(self, name: str, header: ArrayHeader, layout: Layout) -> Hdf5Slab:
        """Open a shard file for reading."""
        return Hdf5Slab(self.location, name, header, layout)


class Hdf5SlabWriter(Spool):
    """A shard file in the making: chunks are spooled, then put into an HDF5 file in one go."""

    def append(self, slot: int, chunk: int, values: AnyArray) -> None:
        """Write chunk number ``chunk`` of track ``slot``: values of shape (*item_shape, chunk_frames)."""
        self.put(slot, chunk, encode_hdf5_chunk(values, self.layout.compression))

    def close(self, lengths: IntArray) -> tuple[int, str]:
        """Make the HDF5 file from the spool; its bytes and digest."""
        import h5py

        target = self.path.with_name(self.path.name + ".h5")
        with disk_errors(self.path):
            with h5py.File(target, "w", libver=_LIBVER) as file:
                shape = self.header.shape_of(self.layout.slab_frames, self.layout.shard_tracks)
                dataset = create_chunked(file, "data", shape, self.header, self.layout)
                steps = self.layout.slab_chunks
                for entry in np.flatnonzero(self.index[:, 0] != ABSENT):
                    offset, length = (int(value) for value in self.index[entry])
                    self.file.seek(offset)
                    slot, chunk = divmod(int(entry), steps)
                    place = self.header.chunk_place(slot, chunk * self.layout.chunk_frames)
                    dataset.id.write_direct_chunk(place, self.file.read(length))
                padded = np.full(self.layout.shard_tracks, -1, dtype="<i4")
                padded[: len(lengths)] = lengths
                file.create_dataset(
                    self.header.lengths_name, data=padded, chunks=padded.shape, fletcher32=True, fillvalue=-1
                )
            self.file.close()
            target.replace(self.path)
        digest, size = new_digest(), 0
        with open(self.path, "rb") as finished:
            while block := finished.read(1 << 20):
                digest.update(block)
                size += len(block)
        return size, digest_text(digest)

    def abandon(self) -> None:
        """Close and delete the unfinished file."""
        super().abandon()
        self.path.with_name(self.path.name + ".h5").unlink(missing_ok=True)


class Hdf5Slab(IndexedSlab):
    """A shard file open for reading: HDF5 tells once where the chunks lie, then they are read from the memory map."""

    def __init__(self, location: Location, name: str, header: ArrayHeader, layout: Layout) -> None:
        self._where, self._layout = f"{location}/{name}", layout
        self._dtype = header.encoding.dtype
        self._shape = header.shape_of(layout.chunk_frames)
        self._grows = 1 if header.has_clips else -1
        self._data = location.map(name)
        self._index = self._find_chunks(location.path(name))

    def _find_chunks(self, path: Path) -> npt.NDArray[np.uint64]:
        import h5py

        index = np.full((self._layout.index_entries, 2), ABSENT, dtype=np.uint64)
        try:
            with h5py.File(path, "r", locking=False) as file:
                steps, size = self._layout.slab_chunks, self._layout.chunk_frames

                def note(chunk: Any) -> None:
                    place = chunk.chunk_offset
                    index[place[0] * steps + place[self._grows] // size] = (chunk.byte_offset, chunk.size)

                file["data"].id.chunk_iter(note)
        except FileNotFoundError:
            raise
        except (OSError, KeyError, RuntimeError, ValueError, IndexError, TypeError) as error:
            raise CorruptFeature("a shard file is no valid HDF5", self._where, "Run featstore store repair") from error
        return index

    def read_chunk(self, slot: int, chunk: int) -> AnyArray:
        """Values (*item_shape, chunk_frames) of a chunk that the commit record promises.

        Raises
        ------
        CorruptFeature
            When it is absent, lies outside the file, or fails its checksum.
        """
        block, where = self.chunk_bytes(slot, chunk)
        return decode_hdf5_chunk(block, self._dtype, self._shape, self._layout.compression, where)


def encode_hdf5_chunk(values: AnyArray, compression: str) -> bytes:
    """Bytes of a chunk as HDF5's filters leave them, fletcher32 included."""
    return bytes(_fletcher32().encode(compress(values, compression)))


def decode_hdf5_chunk(
    block: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], compression: str, where: str
) -> AnyArray:
    """Values of a chunk that :func:`encode_hdf5_chunk` made.

    Raises
    ------
    CorruptFeature
        When it fails its checksum.
    """
    try:
        body = _fletcher32().decode(np.frombuffer(block, dtype=np.uint8))
    except RuntimeError as error:
        raise CorruptFeature(
            "stored bytes fail their checksum", where, "Run featstore store verify, then featstore store repair"
        ) from error
    return decompress(memoryview(body), dtype, shape, compression, where)


def describe_array(group: Any, header: ArrayHeader, layout: Layout, cost: Mapping[str, float | int]) -> None:
    """Tell plain readers what a group's ``data`` are: our attributes, the CF ones, and netCDF's named dimensions."""
    for name, value in header.as_attributes(layout).items():
        if not isinstance(value, (dict, list)) and value is not None:
            group.attrs[name] = value
    data = group["data"]
    for name, value in (header.cf_attributes() | dict(cost)).items():
        data.attrs[name] = value
    data.attrs["_FillValue"] = np.array([header.encoding.fill_value], dtype=header.encoding.dtype)
    for axis, (name, size) in enumerate(zip(("track", *header.dims), data.shape, strict=True)):
        scale = group.create_dataset(name, shape=(size,), dtype=">f4", track_times=False)  # has no values of its own
        scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{size:10d}")
        data.dims[axis].attach_scale(scale)
    group[header.lengths_name].dims[0].attach_scale(group["track"])


def create_chunked(group: Any, name: str, shape: tuple[int, ...], header: ArrayHeader, layout: Layout) -> Any:
    """Create a dataset of encoded values whose chunks are then written directly."""
    import h5py

    chunks = header.shape_of(layout.chunk_frames, 1)
    itemsize = header.encoding.dtype.itemsize
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk(chunks)
    settings.set_fill_value(np.array(header.encoding.fill_value, dtype=header.encoding.dtype))
    settings.set_obj_track_times(False)  # bytes must not depend on the time of day
    if layout.compression in PACKED_BITS:
        numbers = (PACKED_BITS[layout.compression], 1 + packed_axis(len(chunks) - 1), *chunks)
        settings.set_filter(PACKED_FILTER, h5py.h5z.FLAG_OPTIONAL, numbers)
    elif layout.compression == "gzip":
        settings.set_shuffle()
        settings.set_deflate(GZIP_LEVEL)
    elif layout.compression != "none":
        code, level = _BLOSC_CODES[layout.compression]
        numbers = (2, 2, itemsize, int(np.prod(chunks)) * itemsize, level, 2, code)
        settings.set_filter(_BLOSC_FILTER, h5py.h5z.FLAG_OPTIONAL, numbers)
    settings.set_fletcher32()
    # chunks must fit into the largest shape: where no track fills one, that is larger than the shape
    most = tuple(max(size, chunk) for size, chunk in zip(shape, chunks, strict=True))
    space = h5py.h5s.create_simple(shape, most)
    kind = h5py.h5t.py_create(header.encoding.dtype)
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, settings))
