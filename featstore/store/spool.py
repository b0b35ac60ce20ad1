"""Encoded chunks appended to a file, with only their index in memory; a failed track is taken back at its end."""

from __future__ import annotations

import abc
import mmap
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt

from featstore.arrays import AnyArray, IntArray
from featstore.atomic import disk_errors
from featstore.errors import CorruptFeature
from featstore.store.digests import new_digest
from featstore.store.layout import StoredArray
from featstore.store.location import FileBytes

__all__ = ["ABSENT", "Slab", "SlabWriter"]

ABSENT = 2**64 - 1  # offset of a chunk that was never written


class Slab:
    """A shard file open for reading: a memory map, and where in it each chunk lies.

    Attributes
    ----------
    decode : callable
        Values from the bytes of a chunk, its type, shape and compression, and its place for messages.
    """

    decode: ClassVar[staticmethod[[memoryview, np.dtype[Any], tuple[int, ...], str, str], AnyArray]]
    _index: npt.NDArray[np.uint64]

    def _set(self, data: FileBytes, where: str, array: StoredArray) -> None:
        self._data, self._where, self._layout = data, where, array.layout
        self._dtype = array.header.encoding.dtype
        self._shape = array.header.shape_of(array.layout.chunk_frames)

    def chunk_span(self, slot: int, chunk: int) -> tuple[int, int] | None:
        """Offset and length of a chunk's bytes in the file, or None where none were written."""
        offset, length = self._index[slot * self._layout.slab_chunks + chunk].tolist()
        return None if offset == ABSENT else (offset, length)

    def expect(self, slot: int, chunk: int) -> None:
        """Let the system fetch a chunk's bytes meanwhile, where the file is mapped."""
        span = self.chunk_span(slot, chunk)
        owner = self._data.obj if isinstance(self._data, memoryview) else None
        if span is not None and isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
            start = span[0] // mmap.PAGESIZE * mmap.PAGESIZE
            with suppress(OSError, ValueError):  # a damaged index is for the read to report
                owner.madvise(mmap.MADV_WILLNEED, start, span[0] + span[1] - start)

    def mapped_chunk(self, slot: int, chunk: int) -> tuple[mmap.mmap, int, int] | None:
        """File, address and bytes of a chunk that is mapped with its crc32c behind it; None where none is."""
        return None

    def chunk_bytes(self, slot: int, chunk: int) -> tuple[memoryview, str]:
        """Encoded bytes of a chunk, and its place for messages; see :meth:`read_chunk`.

        Raises
        ------
        CorruptFeature
            When it is absent or lies outside the file.
        """
        span = self.chunk_span(slot, chunk)
        where = f"{self._where}, track slot {slot}, chunk {chunk}"
        if span is None or span[0] + span[1] > len(self._data):
            raise CorruptFeature("a committed chunk is missing", where, "Run featstore store verify, then repair")
        return self._data[span[0] : span[0] + span[1]], where

    def read_chunk(self, slot: int, chunk: int) -> AnyArray:
        """Values (*item_shape, chunk_frames) of a chunk that the commit record promises.

        Raises
        ------
        CorruptFeature
            When it is absent, lies outside the file, or fails its checksum.
        """
        block, where = self.chunk_bytes(slot, chunk)
        return self.decode(block, self._dtype, self._shape, self._layout.compression, where)


class SlabWriter(abc.ABC):
    """A shard file in the making: chunks one after the other, an index, and a running digest.

    Parameters
    ----------
    path : Path
    array : StoredArray
    """

    def __init__(self, path: Path, array: StoredArray) -> None:
        self.path, self.array, self.layout = path, array, array.layout
        self.index: npt.NDArray[np.uint64] = np.full((self.layout.index_entries, 2), ABSENT, dtype="<u8")
        with disk_errors(path):
            self.file: BinaryIO = open(path, "wb+")  # noqa: SIM115 (closed by close or abandon)
        self.offset = 0
        self.digest = new_digest()
        self._mark: tuple[int, Any, int] = (0, self.digest.copy(), 0)

    def begin(self, slot: int) -> None:
        """Remember this point, to return to when track number ``slot`` of the shard fails."""
        self._mark = (self.offset, self.digest.copy(), slot)

    def put(self, slot: int, chunk: int, *parts: bytes | memoryview) -> None:
        """Append the encoded bytes of a chunk, given in parts."""
        length = 0
        with disk_errors(self.path):
            for part in parts:
                self.file.write(part)
                self.digest.update(part)
                length += len(part)
        self.index[slot * self.layout.slab_chunks + chunk] = (self.offset, length)
        self.offset += length

    @abc.abstractmethod
    def append(self, slot: int, chunk: int, values: AnyArray) -> None:
        """Write chunk number ``chunk`` of track ``slot``: values of shape (*item_shape, chunk_frames)."""

    @abc.abstractmethod
    def close(self, lengths: IntArray) -> tuple[int, str]:
        """Finish the file, given the frames of each track; its bytes and digest."""

    def roll_back(self) -> None:
        """Forget what was appended since :meth:`begin`."""
        offset, digest, slot = self._mark
        with disk_errors(self.path):
            self.file.flush()
            self.file.truncate(offset)
            self.file.seek(offset)
        self.offset, self.digest = offset, digest.copy()
        first = slot * self.layout.slab_chunks
        self.index[first : first + self.layout.slab_chunks] = ABSENT

    def abandon(self) -> None:
        """Close and delete the unfinished file."""
        self.file.close()
        self.path.unlink(missing_ok=True)
