"""A backend that is one class and one line in the registry keeps the contract: nothing else knows formats by name."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from featstore.errors import CorruptFeature
from featstore.store.backends import STORES, Backend
from featstore.store.digests import digest_of
from featstore.testing.store_contract import StoreContract


class LinesBackend(Backend):
    """Shard files with one chunk after the other, then a line of JSON that says where they are; no compression."""

    name, root, endings = "lines", "lines.json", (".lines",)

    @classmethod
    def root_files(cls, attributes):
        return {cls.root: json.dumps(attributes, sort_keys=True).encode()}

    def read_root(self, content):
        return json.loads(content)

    def array_files(self, array, n_rows, n_frames, cost=None):
        about = {"array": array.as_attributes(), "shape": [n_rows, n_frames], "cost": dict(cost or {})}
        return {self.metadata_name(array.key): json.dumps(about, sort_keys=True).encode()}

    def metadata_name(self, key):
        return f"features/{key}/about.json"

    def read_array(self, key):
        return json.loads(self.location.read(self.metadata_name(key)))["array"]

    def slab_name(self, array, shard, slab):
        return f"features/{array.key}/{shard}-{slab}.chunks"

    def slab_writer(self, path, array):
        return LinesWriter(path)

    def open_slab(self, name, array):
        return LinesSlab(self.location.map(name), f"{self.location}/{name}", array)

    @classmethod
    def metadata_count(cls, header, n_shards):
        return 1

    def codebook_files(self, name, vectors, attributes):
        body = json.dumps([vectors.tolist(), attributes], sort_keys=True)
        return {f"codebooks/{name}": f"{body}\n{zlib.crc32(body.encode())}".encode()}

    def codebook_name(self, entry):
        return entry

    def load_codebook(self, name):
        body, _, checksum = self.location.read(f"codebooks/{name}").rpartition(b"\n")
        if zlib.crc32(body) != int(checksum):
            raise ValueError("checksum")
        vectors, attributes = json.loads(body)
        return np.array(vectors, dtype=np.float32), attributes


class LinesWriter:
    def __init__(self, path: Path) -> None:
        self.path, self.chunks, self.slot = path, {}, -1

    def begin(self, slot):
        self.slot = slot

    def append(self, slot, chunk, values):
        self.chunks[slot, chunk] = np.ascontiguousarray(values).tobytes()

    def roll_back(self):
        self.chunks = {place: block for place, block in self.chunks.items() if place[0] != self.slot}

    def close(self, lengths):
        body, index = b"", []
        for (slot, chunk), block in sorted(self.chunks.items()):
            index.append([slot, chunk, len(body), len(block), zlib.crc32(block)])
            body += block
        content = body + b"\n" + json.dumps(index).encode()
        self.path.write_bytes(content)
        return len(content), digest_of(content)

    def abandon(self):
        self.path.unlink(missing_ok=True)


class LinesSlab:
    def __init__(self, data, where, array) -> None:
        self.data, self.where, self.header = bytes(data), where, array.header
        self.shape = array.header.shape_of(array.layout.chunk_frames)
        try:
            index = json.loads(self.data[self.data.rindex(b"\n") :])
            self.index = {(slot, chunk): place for slot, chunk, *place in index}
        except (ValueError, TypeError) as error:
            raise CorruptFeature("a shard file cannot be read", where) from error

    def chunk_span(self, slot, chunk):
        found = self.index.get((slot, chunk))
        return None if found is None else (found[0], found[1])

    def read_chunk(self, slot, chunk):
        start, size, checksum = self.index.get((slot, chunk), (0, 0, -1))
        block = self.data[start : start + size]
        if zlib.crc32(block) != checksum:
            raise CorruptFeature("stored bytes fail their checksum", self.where)
        return np.frombuffer(block, dtype=self.header.encoding.dtype).reshape(self.shape)


class TestLines(StoreContract):
    backend = "lines"

    @pytest.fixture(autouse=True)
    def registered(self) -> Iterator[None]:
        STORES["lines"] = f"{__name__}:LinesBackend"
        yield
        del STORES["lines"]
