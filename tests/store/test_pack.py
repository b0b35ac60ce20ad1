"""A store in one file: plain h5py reads it without plugins, featstore reads it as any store, damage is noticed."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featstore.errors import ConfigError, CorruptFeature, StoreError
from featstore.store import create_store, open_store
from featstore.store.convert import convert
from featstore.store.diff import compare
from featstore.store.ledger import read_ledger, read_status
from featstore.store.pack import pack
from featstore.store.sizes import describe_features
from featstore.store.verify import verify
from featstore.store.writing import note_request, write_shard
from featstore.testing.stores import SPEC, header_of, track_frame, values_of
from featstore.workflows.repair import repair
from tests.store.test_convert_diff import LENGTHS, WAVE, content, make

PLAIN = """
import json, sys
import h5py
with h5py.File(sys.argv[1], "r") as file:
    group = file["features"][sys.argv[2]]
    data, counts = group["data"], group["n_frames"][:]
    row = int(counts.argmax())
    found = {
        "counts": counts.tolist(), "ids": [name.decode() for name in file["track_id"][:]],
        "shape": data.shape, "dtype": str(data.dtype), "filters": data.compression or "none",
        "row": row, "sum": float(data[row].astype("f8")[..., :counts[row]].sum()),
        "missing": str(data[5, 0, 0]), "scale": float(data.attrs.get("scale_factor", 1)),
        "dims": [data.dims[i][0].name.rsplit("/")[-1] for i in range(data.ndim)],
        "featstore": "featstore" in sys.modules, "plugins": "hdf5plugin" in sys.modules,
    }
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "compression"), [("zarr", "gzip"), ("hdf5", "none")])
def test_packed_and_unpacked_gives_the_same_bytes(tmp_path: Path, backend: str, compression: str) -> None:
    source = make(tmp_path / "a", backend, compression="zstd")
    packed = pack(tmp_path / "a", tmp_path / "x.h5", compression=compression)
    assert verify(tmp_path / "x.h5") == [] == verify(tmp_path / "x.h5", quick=True)
    differences = compare(source, packed)
    assert differences and all(difference.provenance for difference in differences), "\n".join(map(str, differences))
    assert read_status(packed) == read_status(source) and read_ledger(packed).equals(read_ledger(source))
    assert packed.features == source.features
    for feature in source.features:
        for row in (1, 2, 6):
            assert np.array_equal(packed[feature].read_row(row), source[feature].read_row(row))
    convert(tmp_path / "x.h5", tmp_path / "b", backend=backend, compression="zstd")
    assert content(tmp_path / "b") == content(tmp_path / "a")


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_plain_h5py_needs_no_plugin(tmp_path: Path, compression: str) -> None:
    make(tmp_path / "a", "zarr", headers=["float32", "uint8"], compression="lz4")
    pack(tmp_path / "a", tmp_path / "x.h5", compression=compression)
    for header in (header_of(), header_of("uint8")):
        command = [sys.executable, "-c", PLAIN, str(tmp_path / "x.h5"), header.key]
        environment = {"HDF5_PLUGIN_PATH": str(tmp_path / "nothing")}
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
        found = json.loads(result.stdout)
        assert found["counts"] == [LENGTHS.get(row, -1) for row in range(7)]
        assert found["ids"] == list(open_store(tmp_path / "a").tracks.index)
        assert (found["dtype"], found["dims"]) == (header.encoding.dtype.name, ["track", "band", "frame"])
        codes = header.encoding.encode(values_of(6, LENGTHS[6]))[0]
        assert found["row"] == 6 and np.isclose(found["sum"], codes.astype(np.float64).sum())
        assert found["missing"] == ("nan" if header.encoding.name == "float32" else "255")
        assert found["scale"] == header.encoding.scale_factor and not found["featstore"] and not found["plugins"]


def test_packed_stores_are_the_same_to_the_byte(tmp_path: Path) -> None:
    make(tmp_path / "a", "zarr")
    pack(tmp_path / "a", tmp_path / "x.h5")
    pack(tmp_path / "a", tmp_path / "y.h5")
    assert (tmp_path / "x.h5").read_bytes() == (tmp_path / "y.h5").read_bytes()


def test_readers_travel_between_processes(tmp_path: Path) -> None:
    make(tmp_path / "a", "hdf5", headers=["float32"])
    reader = pack(tmp_path / "a", tmp_path / "x.h5")[SPEC]
    before = reader.read_row(3)
    again = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(again.read_row(3), before) and np.array_equal(before, values_of(3, LENGTHS[3]))


def test_it_is_read_only(tmp_path: Path) -> None:
    store = make(tmp_path / "a", "zarr", headers=["float32"])
    packed = pack(tmp_path / "a", tmp_path / "x.h5")
    (key,) = packed.arrays
    with pytest.raises(StoreError, match=r"a packed store is read-only.*featstore store convert"):
        write_shard(packed, 0, [key]).__enter__()
    with pytest.raises(StoreError, match="read-only"):
        note_request(packed, ["mel"])
    with pytest.raises(StoreError, match="a store to write is a folder"):
        create_store(tmp_path / "x.h5", track_frame(2), [header_of()])
    with pytest.raises(StoreError, match="the file exists already"):
        pack(tmp_path / "a", tmp_path / "x.h5")
    with pytest.raises(ConfigError, match="compression='zstd' is unknown here"):
        pack(tmp_path / "a", tmp_path / "y.h5", compression="zstd")
    with pytest.raises(StoreError, match="cannot be mended in place"):
        repair(tmp_path / "x.h5")
    assert describe_features(store)[0]["n_tracks"] == describe_features(packed)[0]["n_tracks"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    import h5py

    (tmp_path / "x.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(CorruptFeature, match="the file is no HDF5"):
        open_store(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["numbers"] = [1, 2]
    with pytest.raises(CorruptFeature, match="no packed store"):
        open_store(tmp_path / "y.h5")
    assert [problem.file for problem in verify(tmp_path / "x.h5")] == ["x.h5"]


@pytest.mark.slow
def test_flipped_bits_are_noticed_or_touch_nothing(tmp_path: Path) -> None:
    """Any bit of the file: ``verify`` tells it, or everything that can be read is as it was."""
    make(tmp_path / "a", "zarr", headers=["uint8"], lengths={row: 3 + row for row in range(7) if row != 5})
    store = pack(tmp_path / "a", tmp_path / "x.h5")
    healthy = {row: store[SPEC].read_row(row) for row in range(7) if row != 5}
    whole = (tmp_path / "x.h5").read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for place in rng.choice(len(whole), 60, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "y.h5").write_bytes(damaged)
        if verify(tmp_path / "y.h5"):
            noticed += 1
            continue
        reader = open_store(tmp_path / "y.h5")[SPEC]
        assert all(np.array_equal(reader.read_row(row), values) for row, values in healthy.items()), place
    assert noticed > 12
    (tmp_path / "y.h5").write_bytes(whole[: len(whole) // 2])
    assert verify(tmp_path / "y.h5")


def test_damaged_tracks_of_a_packed_store_are_named(tmp_path: Path) -> None:
    make(tmp_path / "a", "zarr", headers=["wave"])
    packed = pack(tmp_path / "a", tmp_path / "x.h5")
    (array,) = packed.arrays.values()
    start, size = packed.backend.open_slab(packed.backend.slab_name(array, 1, 0), array).chunk_span(1, 0)
    content = bytearray((tmp_path / "x.h5").read_bytes())
    content[start + size // 2] ^= 16
    (tmp_path / "x.h5").write_bytes(content)
    (problem,) = verify(tmp_path / "x.h5")
    assert (problem.shard, problem.tracks) == (1, (packed.tracks.index[4],)) and "bytes differ" in problem.what
    with pytest.raises(CorruptFeature, match=r"1.0.chunks, track slot 1, chunk 0"):
        open_store(tmp_path / "x.h5")[WAVE].read_row(4)
