"""The HDF5 backend: one file for each shard of an array, and a master file whose virtual datasets show whole arrays.

A shard's chunks are spooled aside first and put into the HDF5 file when it is closed: chunks that were taken back leave
no hole, and the bytes depend on the content alone. Chunks carry HDF5's own fletcher32; with compression they are Blosc
chunks (filter 32001), which plain h5py reads with ``hdf5plugin`` installed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featstore.arrays import AnyArray, FloatArray, IntArray
from featstore.atomic import canonical_json, damage, disk_errors, json_object
from featstore.errors import StoreError
from featstore.seekable_file import SeekableFile
from featstore.store.backends import CODEBOOK_DIMS, CODEBOOKS, Backend
from featstore.store.chunks import GZIP_LEVEL, compress, decompress
from featstore.store.digests import digest_text, new_digest
from featstore.store.layout import ArrayHeader, StoredArray
from featstore.store.location import Location
from featstore.store.spool import ABSENT, Slab, SlabWriter

__all__ = [
    "LIBVER",
    "MASTER",
    "Hdf5Backend",
    "Hdf5SlabWriter",
    "chunk_places",
    "create_chunked",
    "decode_hdf5_chunk",
    "describe_array",
    "encode_hdf5_chunk",
    "open_hdf5",
]

MASTER = "master.h5"
_BLOSC_FILTER = 32001
LIBVER = ("v110", "v110")  # checksummed metadata, and one known layout whatever version writes
_BLOSC_CODES = {"lz4": (1, 5), "zstd": (5, 3)}  # compressor, level


def _fletcher32() -> Any:
    from numcodecs import Fletcher32

    return Fletcher32()


class Hdf5Backend(Backend):
    """Names, metadata and files of arrays kept as HDF5 at a location.

    Raises
    ------
    StoreError
        In a bucket: virtual datasets cannot reach shard files there, so no other program could read the store.
    """

    name, root = "hdf5", "store.json"
    endings: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")
    other_files: ClassVar[tuple[str, ...]] = (MASTER,)
    lengths_bytes = 1400

    def __init__(self, location: Location) -> None:
        if location.is_remote:
            advice = "Use the zarr backend there, or store convert to it"
            raise StoreError("HDF5 stores live on a file system", str(location), advice)
        super().__init__(location)

    # -- metadata ------------------------------------------------------------------------------------------------

    @classmethod
    def root_files(cls, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Return the file that makes the location a store."""
        return {cls.root: canonical_json({"featstore": attributes})}

    def read_root(self, content: bytes) -> Any:
        """Return the store's own metadata from the root file."""
        return json_object(content)["featstore"]

    def array_files(
        self, array: StoredArray, n_rows: int, n_frames: int, cost: Mapping[str, float | int] | None = None
    ) -> dict[str, bytes]:
        """Metadata file of one logical array; the master file shows the same to plain readers."""
        attributes = array.as_attributes() | {"n_rows": n_rows, "n_frames": n_frames}
        attributes |= {"cost": dict(cost)} if cost else {}
        return {self.metadata_name(array.key): canonical_json(attributes)}

    def metadata_name(self, key: str) -> str:
        """Name of the array's metadata."""
        return f"features/{key}/array.json"

    def derived_files(self, arrays: Mapping[str, StoredArray], n_rows: int) -> dict[str, bytes]:
        """Return the master file: every array as one virtual dataset over its shard files."""
        import h5py

        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=LIBVER) as master:
            for key, array in sorted(arrays.items()):
                group, attributes = master.create_group(f"features/{key}"), self.read_array(key)
                self._virtual(group, array, n_rows, int(attributes["n_frames"]))
                describe_array(group, array, attributes.get("cost", {}))
            books = self.codebook_names()
            # a group that comes about by itself has the time of day in it
            folder: Any = master.create_group(CODEBOOKS) if books else None
            for name in books:
                folder[name] = h5py.ExternalLink(f"{CODEBOOKS}/{name}.h5", "/codebook")
        return {MASTER: buffer.getvalue()}

    def _virtual(self, group: Any, array: StoredArray, n_rows: int, n_frames: int) -> None:
        import h5py

        header, layout = array.header, array.layout
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

    @staticmethod
    def _cut(header: ArrayHeader, rows: slice, frames: slice) -> tuple[Any, ...]:
        """Index of some tracks and a stretch of the axis of growth."""
        return (rows, frames) if header.has_clips else (rows, ..., frames)

    # -- files of one shard ---------------------------------------------------------------------------------------

    def slab_name(self, array: StoredArray, shard: int, slab: int) -> str:
        """Name of the file that holds one shard's stretch of time."""
        return f"features/{array.key}/{shard}.h5" if slab == 0 else f"features/{array.key}/{shard}.{slab}.h5"

    def slab_writer(self, path: Path, array: StoredArray) -> Hdf5SlabWriter:
        """Open a new shard file for writing, aside from its place."""
        return Hdf5SlabWriter(path, array)

    def open_slab(self, name: str, array: StoredArray) -> Hdf5Slab:
        """Open a shard file for reading."""
        return Hdf5Slab(self.location.map(name), f"{self.location}/{name}", array)

    @classmethod
    def metadata_count(cls, header: ArrayHeader, n_shards: int) -> int:
        """One file: frame counts are in the shards' files."""
        return 1

    # -- codebooks ------------------------------------------------------------------------------------------------

    def codebook_files(self, name: str, vectors: FloatArray, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Return the file with the dataset ``codebook``, which the master file links to."""
        import h5py

        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=LIBVER) as file:
            dataset = file.create_dataset(
                "codebook", data=vectors, chunks=vectors.shape, fletcher32=True, fillvalue=np.nan, track_times=False
            )
            dataset.attrs["dimensions"] = CODEBOOK_DIMS
            dataset.attrs["attributes"] = canonical_json(attributes).decode()
        return {f"{CODEBOOKS}/{name}.h5": buffer.getvalue()}

    def codebook_name(self, entry: str) -> str | None:
        """Name of the file without its ending."""
        return entry.removesuffix(".h5")

    def load_codebook(self, name: str) -> tuple[FloatArray, dict[str, Any]]:
        """Vectors and attributes of a codebook."""
        import h5py

        with h5py.File(io.BytesIO(self.location.read(f"{CODEBOOKS}/{name}.h5")), "r") as file:
            dataset = file["codebook"]
            vectors: FloatArray = dataset[()]
            return vectors, json_object(dataset.attrs["attributes"])


class Hdf5SlabWriter(SlabWriter):
    """A shard file in the making: chunks are spooled, then put into an HDF5 file in one go."""

    def append(self, slot: int, chunk: int, values: AnyArray) -> None:
        """Write chunk number ``chunk`` of track ``slot``: values of shape (*item_shape, chunk_frames)."""
        self.put(slot, chunk, encode_hdf5_chunk(values, self.layout.compression))

    def close(self, lengths: IntArray) -> tuple[int, str]:
        """Make the HDF5 file from the spool; its bytes and digest."""
        import h5py

        target = self.path.with_name(self.path.name + ".h5")
        with disk_errors(self.path):
            with h5py.File(target, "w", libver=LIBVER) as file:
                header = self.array.header
                shape = header.shape_of(self.layout.slab_frames, self.layout.shard_tracks)
                dataset = create_chunked(file, "data", shape, self.array)
                steps = self.layout.slab_chunks
                for entry in np.flatnonzero(self.index[:, 0] != ABSENT):
                    offset, length = (int(value) for value in self.index[entry])
                    self.file.seek(offset)
                    slot, chunk = divmod(int(entry), steps)
                    place = header.chunk_place(slot, chunk * self.layout.chunk_frames)
                    dataset.id.write_direct_chunk(place, self.file.read(length))
                padded = np.full(self.layout.shard_tracks, -1, dtype="<i4")
                padded[: len(lengths)] = lengths
                file.create_dataset(
                    header.lengths_name, data=padded, chunks=padded.shape, fletcher32=True, fillvalue=-1
                )
            self.file.close()
            target.replace(self.path)
        return self.path.stat().st_size, digest_text(new_digest().update_mmap(self.path))

    def abandon(self) -> None:
        """Close and delete the unfinished file."""
        super().abandon()
        self.path.with_name(self.path.name + ".h5").unlink(missing_ok=True)


class _MappedFile(SeekableFile):
    """Mapped bytes as a file for h5py.

    HDF5 refuses a path that the same process has open with other settings, as a user's plain h5py may. Through this it
    sees a file of its own.
    """

    def __init__(self, data: memoryview) -> None:
        self._data, self.size = data, len(data)

    def _next(self, count: int) -> memoryview:
        return self._data[self._at : self._at + count]


def open_hdf5(data: memoryview) -> Any:
    """Open an HDF5 file of mapped bytes for reading, as a context manager.

    Raises
    ------
    OSError
        When it is no HDF5 file.
    """
    import h5py

    return h5py.File(_MappedFile(data), "r")


def chunk_places(dataset: Any, array: StoredArray) -> npt.NDArray[np.uint64]:
    """Offset and length of every chunk of a dataset, (tracks, chunks of a track, 2)."""
    axis, size = 1 if array.header.has_clips else -1, array.layout.chunk_frames
    width = -(-dataset.shape[axis] // size)
    places: npt.NDArray[np.uint64] = np.full((dataset.shape[0], width, 2), ABSENT, dtype=np.uint64)

    def note(chunk: Any) -> None:
        place = chunk.chunk_offset
        places[place[0], place[axis] // size] = (chunk.byte_offset, chunk.size)

    dataset.id.chunk_iter(note)
    return places


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
    with damage("stored bytes fail their checksum", where, "Run featstore store verify, then featstore store repair"):
        body = _fletcher32().decode(np.frombuffer(block, dtype=np.uint8))
    return decompress(memoryview(body), dtype, shape, compression, where)


class Hdf5Slab(Slab):
    """A shard file open for reading: HDF5 locates the chunks once, then they are read from the memory map."""

    decode = staticmethod(decode_hdf5_chunk)

    def __init__(self, data: memoryview, where: str, array: StoredArray) -> None:
        self._set(data, where, array)
        with damage("a shard file is no valid HDF5", where), open_hdf5(data) as file:
            if file["data"].shape != array.header.shape_of(array.layout.slab_frames, array.layout.shard_tracks):
                raise ValueError("another shape")
            self._index = chunk_places(file["data"], array).reshape(-1, 2)


def describe_array(group: Any, array: StoredArray, cost: Mapping[str, float | int]) -> None:
    """Tell plain readers what a group's ``data`` are: our attributes, the CF ones, and netCDF's named dimensions."""
    header, data = array.header, group["data"]
    if header.has_clips:  # the same for all: said by the fill value
        group.create_dataset("n_frames", shape=data.shape[:1], dtype="<i4", fillvalue=header.clip_frames)
    for name, value in array.as_attributes().items():
        if not isinstance(value, (dict, list)) and value is not None:
            group.attrs[name] = value
    for name, value in (header.cf_attributes() | dict(cost)).items():
        data.attrs[name] = value
    data.attrs["_FillValue"] = np.array([header.encoding.fill_value], dtype=header.encoding.dtype)
    for axis, (name, size) in enumerate(zip(("track", *header.dims), data.shape, strict=True)):
        scale = group.create_dataset(name, shape=(size,), dtype=">f4", track_times=False)  # has no values of its own
        scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{size:10d}")
        data.dims[axis].attach_scale(scale)
    group[header.lengths_name].dims[0].attach_scale(group["track"])


def create_chunked(group: Any, name: str, shape: tuple[int, ...], array: StoredArray) -> Any:
    """Create a dataset of encoded values whose chunks are then written directly."""
    header, layout = array.header, array.layout
    chunks, dtype = header.shape_of(layout.chunk_frames, 1), header.encoding.dtype
    filters: dict[str, Any] = {}
    if layout.compression == "gzip":
        filters = {"shuffle": True, "compression": "gzip", "compression_opts": GZIP_LEVEL}
    elif layout.compression != "none":
        code, level = _BLOSC_CODES[layout.compression]
        numbers = (2, 2, dtype.itemsize, int(np.prod(chunks)) * dtype.itemsize, level, 2, code)
        filters = {"compression": _BLOSC_FILTER, "compression_opts": numbers, "allow_unknown_filter": True}
    # chunks must fit into the largest shape: where no track fills one, that is larger than the shape
    most = tuple(max(size, chunk) for size, chunk in zip(shape, chunks, strict=True))
    fill = np.array(header.encoding.fill_value, dtype=dtype)
    filters |= {"fletcher32": True, "track_times": False}  # bytes must not depend on the time of day
    return group.create_dataset(name, shape, dtype, chunks=chunks, maxshape=most, fillvalue=fill, **filters)
