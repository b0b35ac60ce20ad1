"""Token arrays: whole numbers without scale, in the smallest type, in both backends."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
import zarr

from featstore.errors import SpecError
from featstore.specs import KINDS, Encoding, FeatureSpec, parse_spec
from featstore.specs.base import integer
from featstore.store import ArrayHeader, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.layout import choose_layout
from featstore.store.missing import find_missing
from featstore.store.records import CommitRecord
from featstore.store.sizes import describe_features, measured
from featstore.store.writing import add_arrays, write_shard
from tests.store.test_store import track_frame

FRAMES = 10335  # of a 30 s clip at the lowest level of the codec


@dataclass(frozen=True, slots=True, kw_only=True)
class ToySpec(FeatureSpec):
    kind: ClassVar[str] = "toy_tokens"
    sample_rate: int = integer(44100)
    codes: int = integer(2048)
    books: int = integer(1)

    @property
    def vocabulary(self) -> int:
        return self.codes

    @property
    def frame_step(self) -> int:
        return 128


@pytest.fixture(autouse=True)
def known(monkeypatch) -> None:
    monkeypatch.setitem(KINDS, "toy_tokens", f"{__name__}:ToySpec")


def header_of(encoding: str, *, codes: int = 2048, books: int = 1, fixed: int | None = None) -> ArrayHeader:
    spec = ToySpec(codes=codes, books=books)
    return ArrayHeader(spec, Encoding.parse(encoding, spec), (books,), ("codebook", "frame"), fixed)


def tokens(row: int, n: int, *, codes: int = 2048, books: int = 1) -> np.ndarray:
    found = np.random.default_rng(row).integers(0, codes, (books, n))
    if n:
        found[0, -1] = codes - 1  # the last code is a valid one
    return found


def test_what_does_not_fit_is_refused() -> None:
    spec = ToySpec(codes=300)
    with pytest.raises(SpecError, match=r"uint8 holds 255 codes, not 300.*Use uint16"):
        Encoding.parse("uint8", spec)
    with pytest.raises(SpecError, match="float32 is not for tokens"):
        Encoding.parse("float32", spec)
    with pytest.raises(SpecError, match="takes no range"):
        Encoding.parse("uint16(low=0,high=1)", spec)
    with pytest.raises(SpecError, match="unknown encoding 'packed11'"):
        Encoding.parse("packed11", spec)
    encoding = Encoding.parse("uint16", spec)
    for wrong in (-1.0, 300.0, 2.5):
        with pytest.raises(SpecError, match=f"{wrong} is no token"):
            encoding.encode(np.array([1.0, wrong], dtype=np.float32))


def test_defaults_and_attributes() -> None:
    assert str(Encoding.default(ToySpec(codes=255))) == "uint8"
    assert str(Encoding.default(ToySpec(codes=256))) == "uint16"
    assert str(Encoding.default(parse_spec("mel"))) == "float32"
    encoding = Encoding.parse("uint16", ToySpec())
    assert (encoding.dtype, encoding.fill_value, encoding.scale_factor, encoding.add_offset) == ("<u2", 65535, 1.0, 0.0)
    assert (str(encoding), encoding.error_bound, encoding.missing) == ("uint16", 0.0, -1)
    import torch

    codes = np.array([3, 65535, 2047], dtype=np.uint16)
    assert encoding.decode(codes).tolist() == [3, -1, 2047]
    assert encoding.decode(torch.from_numpy(codes), xp=torch).tolist() == [3, -1, 2047]


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("encoding", ["uint16", "uint8"])
def test_tokens_are_read_as_written(tmp_path: Path, backend: str, encoding: str) -> None:
    codes, books = (200 if encoding == "uint8" else 2048), 2
    header = header_of(encoding, codes=codes, books=books)
    store = create_store(tmp_path / "s", track_frame(6), [header], shard_tracks=4, backend=backend)
    add_arrays(store, [header], "zstd")
    long = choose_layout(header, 4).slab_frames + 70
    lengths = {row: n for row, n in enumerate((1, 2, FRAMES, 7, long, 5)) if row != 3}
    for shard, keys in find_missing(store, [header.key]):
        with write_shard(store, shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot)
                if row not in lengths:
                    writer.append(header.key, tokens(row, 9, codes=codes, books=books))
                    writer.fail(slot, "failed", "decode", "broken")
                    continue
                values = tokens(row, lengths[row], codes=codes, books=books)
                for start in range(0, lengths[row], 4000):
                    writer.append(header.key, values[:, start : start + 4000].astype(np.float32))
                writer.end()
            writer.commit({})
    consolidate(store)
    opened = open_store(tmp_path / "s")
    reader = opened[f"toy_tokens(codes={codes},books={books})"]
    assert reader.encoding.name == encoding and reader.view.exact
    for row, n in lengths.items():
        expected = tokens(row, n, codes=codes, books=books)
        assert reader.read_row(row).dtype == np.int32 and np.array_equal(reader.read_row(row), expected)
        assert np.array_equal(reader.read_row(row, n // 2, n), expected[:, n // 2 :])
    both = reader.read([opened.tracks.index[0], opened.tracks.index[2]], 0, 20)
    assert both.dtype == np.int32 and (both[0, :, 1:] == -1).all() and (both[1] >= 0).all()
    assert (describe_features(opened)[0]["dtype"], describe_features(opened)[0]["bound"]) == (
        header.encoding.dtype.name,
        0.0,
    )
    record = opened.records(header.key)[0]
    assert record.quality["max_error"] == 0.0
    plain = read_plainly(tmp_path / "s", header.key, backend)
    fill = header.encoding.fill_value
    for row, n in lengths.items():
        assert np.array_equal(plain[row, :, :n], tokens(row, n, codes=codes, books=books))
        assert (plain[row, :, n:] == fill).all()
    assert (plain[3] == fill).all(), "a failed track reads as missing, never as a token"


def read_plainly(path: Path, key: str, backend: str) -> np.ndarray:
    if backend == "zarr":
        return zarr.open(str(path), mode="r")[f"features/{key}/data"][:]
    import hdf5plugin  # noqa: F401

    with h5py.File(path / "master.h5", "r") as master:
        return master[f"features/{key}/data"][:]


def test_near_ties_are_summed_only_where_every_shard_tells() -> None:
    def record(shard: int, **quality: float) -> CommitRecord:
        found = {"values": 10, "saturated": 0, "max_error": 0.0, "sum_error": 0.0} | quality
        return CommitRecord(
            key="k", name="n", shard=shard, generation=1, first_row=0, n_frames=[], sources=[], quality=found
        )

    told, silent, empty = record(0, near_ties=3), record(1), record(2, values=0)
    assert measured([told, record(1, near_ties=0), empty])["near_ties"] == 3
    assert "near_ties" not in measured([told, silent]), "a sum that leaves a shard out would be too small"
    assert "near_ties" not in measured([silent]) and measured([silent])["measured_values"] == 10
