"""A store in memory with the reading surface of a feature, for tests of the loaders alone."""

from __future__ import annotations

import numpy as np

from featstore.errors import MissingFeature
from featstore.specs import Encoding, parse_spec
from featstore.specs.views import view_of


class FakeBase:
    chunk_frames, mapped = 1 << 30, False

    def __init__(self, rows, dtype, lengths):
        self.rows, self.dtype, self.lengths, self.reads = rows, np.dtype(dtype), lengths, []
        self.item_shape = rows[0].shape[:-1]

    def stage(self):
        pass

    def mapped_chunk(self, row, chunk):
        return None

    def read_chunk(self, row, chunk):
        self.reads.append(row)
        return self.rows[row]

    def read(self, row, start, stop):
        self.reads.append(row)
        assert 0 <= start <= stop <= self.lengths[row], (row, start, stop, self.lengths[row])
        return self.rows[row][..., start:stop]


class FakeReader:
    """Reader of ``want`` over arrays of ``base`` values."""

    clip_frames = None

    def __init__(self, arrays, want, *, base=None, encoding="float32", shard_tracks=4):
        base_spec = parse_spec(base or want)
        self.spec = parse_spec(want)
        self.encoding = Encoding.parse(encoding, base_spec)
        self.view = view_of(self.spec, base_spec)
        self._ids = list(arrays)
        self._values = [np.asarray(array, dtype=np.float32) for array in arrays.values()]
        lengths = np.array([array.shape[-1] for array in self._values])
        codes = [self.encoding.encode(array)[0] for array in self._values]
        self.base = FakeBase(codes, self.encoding.dtype, lengths)
        self.lengths = -(-lengths // self.view.stride)
        self.shape_of_item = self._values[0].shape[:-1]
        self.shard_rows = [range(a, min(a + shard_tracks, len(codes))) for a in range(0, len(codes), shard_tracks)]
        self.name = f"{self.spec}@{self.encoding}"

    @property
    def track_ids(self):
        return [track for track, length in zip(self._ids, self.lengths, strict=True) if length >= 0]

    def rows_of(self, track_ids):
        return np.array([self._ids.index(track) if track in self._ids else -1 for track in track_ids], np.int64)

    def row_of(self, track_id):
        try:
            return self._ids.index(track_id)
        except ValueError:
            raise MissingFeature(f"no track {track_id!r}") from None

    def read_row(self, row, start, stop):
        codes = self.base.rows[row][..., :: self.view.stride][..., start:stop]
        return self.view.apply(self.encoding.decode(codes))

    def __getitem__(self, track_id):
        row = self.row_of(track_id)
        return self.read_row(row, 0, int(self.lengths[row]))


def make_arrays(lengths, *, bands=3, seed=0):
    """Positive values (bands, length) for each track ``t00``, ``t01`` …"""
    rng = np.random.default_rng(seed)
    return {f"t{i:02d}": rng.uniform(1e-6, 10, (bands, n)).astype(np.float32) for i, n in enumerate(lengths)}
