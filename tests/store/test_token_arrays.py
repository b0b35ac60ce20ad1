"""Token arrays: whole numbers without scale, smallest types, 11-bit packing to the byte, in both backends."""

import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import CorruptFeature, SpecError, StoreError
from featstore.specs import KINDS, Encoding, FeatureSpec, parse_spec
from featstore.specs.base import integer
from featstore.store import ArrayHeader, create_store, open_store
from featstore.store.chunks import compress, decompress, zarr_codecs
from featstore.store.consolidate import consolidate
from featstore.store.layout import choose_layout
from featstore.store.missing import find_missing
from featstore.store.packing import MISSING, pack_bits, pack_chunk, packed_bytes, unpack_bits, unpack_chunk
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


def test_the_size_of_a_clip_is_exact() -> None:
    values = tokens(0, FRAMES).astype(np.uint16)
    packed = pack_bits(values, 11)
    assert len(packed) == packed_bytes(FRAMES, 11) == 14211
    assert np.array_equal(unpack_bits(packed, 11, FRAMES), values[0])


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(9, 16),
    books=st.integers(1, 3),
    total=st.integers(1, 70),
    there=st.integers(0, 70),
    seed=st.integers(0, 9),
)
def test_packing_keeps_codes_and_what_is_missing(bits: int, books: int, total: int, there: int, seed: int) -> None:
    there = min(there, total)
    chunk = np.full((1, books, total), MISSING, dtype="<u2")
    chunk[..., :there] = np.random.default_rng(seed).integers(0, min(1 << bits, MISSING), (1, books, there))
    packed = pack_chunk(chunk, bits)
    assert len(packed) == packed_bytes(books * there, bits)
    assert np.array_equal(unpack_chunk(packed, bits, chunk.shape), chunk)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(StoreError, match="the code 2048 does not fit into 11 bits"):
        pack_bits(np.array([1, 2048], dtype=np.uint16), 11)
    with pytest.raises(ValueError, match="no packed chunk of shape"):
        unpack_chunk(bytes(12), 11, (1, 1, 8))
    spec = ToySpec(codes=300)
    with pytest.raises(SpecError, match=r"uint8 holds 255 codes, not 300.*Use uint16 or packed11"):
        Encoding.parse("uint8", spec)
    with pytest.raises(SpecError, match="float32 is not for tokens"):
        Encoding.parse("float32", spec)
    with pytest.raises(SpecError, match="takes no range"):
        Encoding.parse("uint16(low=0,high=1)", spec)
    with pytest.raises(SpecError, match="packed11 is for tokens"):
        Encoding.parse("packed11", parse_spec("mel(scale=db)"))
    encoding = Encoding.parse("uint16", spec)
    for wrong in (-1.0, 300.0, 2.5):
        with pytest.raises(SpecError, match=f"{wrong} is no token"):
            encoding.encode(np.array([1.0, wrong], dtype=np.float32))


def test_defaults_and_attributes() -> None:
    assert str(Encoding.default(ToySpec(codes=255))) == "uint8"
    assert str(Encoding.default(ToySpec(codes=256))) == "uint16"
    assert str(Encoding.default(parse_spec("mel"))) == "float32"
    encoding = Encoding.parse("packed11", ToySpec())
    assert (encoding.dtype, encoding.fill_value, encoding.scale_factor, encoding.add_offset) == ("<u2", 65535, 1.0, 0.0)
    assert (str(encoding), encoding.error_bound, encoding.missing) == ("packed11", 0.0, -1)
    import torch

    codes = np.array([3, 65535, 2047], dtype=np.uint16)
    assert encoding.decode(codes).tolist() == [3, -1, 2047]
    assert encoding.decode(torch.from_numpy(codes), xp=torch).tolist() == [3, -1, 2047]


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("encoding", ["uint16", "packed11", "uint8"])
def test_tokens_are_read_as_written(tmp_path: Path, backend: str, encoding: str) -> None:
    codes, books = (200 if encoding == "uint8" else 2048), 2
    header = header_of(encoding, codes=codes, books=books)
    store = create_store(tmp_path / "s", track_frame(6), [header], shard_tracks=4, backend=backend)
    add_arrays(store, [header], "zstd")
    long = choose_layout(header, 4).slab_frames + 70
    lengths = {row: n for row, n in enumerate((1, 0, FRAMES, 7, long, 5)) if row != 3}
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
    if backend == "zarr":  # the codec comes by its entry point, as in any program that does not import featstore
        return zarr.open(str(path), mode="r")[f"features/{key}/data"][:]
    import hdf5plugin  # noqa: F401

    from featstore.store.packed_filter import register

    register()
    with h5py.File(path / "master.h5", "r") as master:
        return master[f"features/{key}/data"][:]


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_a_clip_takes_11_bits_a_token_on_disk(tmp_path: Path, backend: str) -> None:
    header = header_of("packed11", fixed=FRAMES)
    store = create_store(tmp_path / "s", track_frame(3), [header], shard_tracks=4, backend=backend)
    add_arrays(store, [header])
    with write_shard(store, 0, [header.key]) as writer:
        for slot in range(3):
            writer.begin(slot)
            writer.append(header.key, tokens(slot, FRAMES))
            writer.end()
        writer.commit({})
    consolidate(store)
    array = open_store(tmp_path / "s").arrays[header.key]
    layout = array.layout
    assert (layout.chunk_frames, layout.compression) == (FRAMES, "packed11")
    slab = store.backend.open_slab(store.backend.slab_name(array, 0, 0), array)
    assert slab.chunk_span(1, 0)[1] == 14211 + 4
    if backend == "zarr":
        size = store.location.size(store.backend.slab_name(array, 0, 0))
        assert size == layout.data_bytes(header, [FRAMES] * 3) == 3 * 14215 + 16 * 4 + 4


def test_a_flipped_bit_in_packed_tokens_is_noticed(tmp_path: Path) -> None:
    header = header_of("packed11", fixed=100)
    store = create_store(tmp_path / "s", track_frame(1), [header])
    add_arrays(store, [header])
    with write_shard(store, 0, [header.key]) as writer:
        writer.begin(0)
        writer.append(header.key, tokens(0, 100))
        writer.end()
        writer.commit({})
    path = tmp_path / "s" / store.backend.slab_name(store.arrays[header.key], 0, 0)
    content = bytearray(path.read_bytes())
    content[20] ^= 8
    path.write_bytes(content)
    with pytest.raises(CorruptFeature, match="checksum"):
        open_store(tmp_path / "s")["toy_tokens"].read_row(0)


def test_plain_h5py_without_featstore_refuses_packed_tokens(tmp_path: Path) -> None:
    header = header_of("packed11", fixed=10)
    store = create_store(tmp_path / "s", track_frame(1), [header], backend="hdf5")
    add_arrays(store, [header])
    with write_shard(store, 0, [header.key]) as writer:
        writer.begin(0)
        writer.append(header.key, tokens(0, 10))
        writer.end()
        writer.commit({})
    file = tmp_path / "s" / store.backend.slab_name(store.arrays[header.key], 0, 0)
    code = f"import h5py; print(h5py.File({str(file)!r})['n_frames'][0]); h5py.File({str(file)!r})['data'][:]"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "10" and "OSError: Can't synchronously read data" in result.stderr


def test_excerpts_are_packed_along_their_own_axis() -> None:
    """(clips, codebooks, frames): what a short track lacks are whole excerpts."""
    chunk = np.full((4, 2, 30), MISSING, dtype="<u2")
    chunk[:3] = np.random.default_rng(0).integers(0, 2048, (3, 2, 30))
    packed = compress(chunk, "packed11")
    assert len(packed) == packed_bytes(3 * 2 * 30, 11)
    assert np.array_equal(decompress(packed, chunk.dtype, chunk.shape, "packed11", "here"), chunk)
    assert zarr_codecs("packed11", 2, 4)[0]["configuration"] == {"bits": 11, "axis": 1}
    with pytest.raises(CorruptFeature, match="a chunk cannot be unpacked"):
        decompress(packed[:-40], chunk.dtype, chunk.shape, "packed11", "here")


def test_codec_metadata_is_checked() -> None:
    from featstore.store.packed_codec import PackedCodec

    codec = PackedCodec.from_dict({"name": "featstore.packed", "configuration": {"bits": 11, "axis": 1}})
    assert PackedCodec.from_dict(codec.to_dict()) == codec == PackedCodec(11, 1)
    with pytest.raises(StoreError, match="axis=None"):
        PackedCodec.from_dict({"name": "featstore.packed", "configuration": {"bits": 11}})
    with pytest.raises(StoreError, match="Allowed: 9 to 16"):
        PackedCodec.from_dict({"name": "featstore.packed", "configuration": {"bits": 4}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            zarr.storage.MemoryStore(),
            shape=(5, 30),
            chunks=(1, 20),
            dtype="uint16",
            fill_value=MISSING,
            serializer=codec,
            compressors=None,
        )
        array[:3] = np.arange(90).reshape(3, 30)
        assert np.array_equal(array[:3], np.arange(90).reshape(3, 30)) and (array[4] == MISSING).all()


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
