"""Arrays of mu-law waveforms: plain readers, loaders, conversion and sizes, in both backends."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from featstore.features import expand_features
from featstore.loaders import BatchLoader
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.convert import convert
from featstore.store.sizes import describe_features
from featstore.store.writing import add_arrays, write_shard
from featstore.workflows.derive import derive

SPEC = parse_spec("waveform(sample_rate=8000)")
LENGTHS = {"t0": 900, "t1": 400, "t2": 700}


def wave_of(track: str) -> np.ndarray:
    rng = np.random.default_rng(int(track[1:]))
    wave = np.clip(0.3 * rng.standard_normal(LENGTHS[track]), -1, 1).astype(np.float32)
    wave[:50] = 0
    wave[50] = 1.25  # louder than full scale
    return wave


def make_store(path: Path, backend: str, encoding: str = "mulaw8") -> Store:
    header = ArrayHeader(SPEC, Encoding.parse(encoding, SPEC), (), ("sample",), None)
    tracks = pd.DataFrame({"track_id": list(LENGTHS), "path": "x.wav", "split": "train", "labels": [["a"]] * 3})
    store = create_store(path, tracks, [header], shard_tracks=2, backend=backend)
    add_arrays(store, [header])
    ids = {int(row): track for track, row in store.tracks["row"].items()}
    for shard in range(store.n_shards):
        with write_shard(store, shard, [header.key]) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot)
                writer.append(header.key, wave_of(ids[row]))
                writer.end()
            writer.commit({})
    consolidate(store)
    return open_store(path)


@pytest.fixture(params=["zarr", "hdf5"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    return make_store(tmp_path / "waves", request.param)


def check_values(found: np.ndarray, track: str) -> None:
    wave = np.clip(wave_of(track), -1, 1)
    assert np.array_equal(found[:50], np.zeros(50)), "silence is exact"
    assert np.abs(found.astype(np.float64) - wave).max() <= Encoding.parse("mulaw8", SPEC).error_bound


def test_plain_readers_decode_by_the_stored_table(store: Store) -> None:
    (key,) = store.arrays
    path = str(store.location)
    if store.backend.name == "zarr":
        data = zarr.open_array(f"{path}/features/{key}/data", mode="r")
        codes, table, fill = data[:], np.array(data.attrs["decode_table"], np.float32), data.fill_value
        assert "scale_factor" not in data.attrs
    else:
        with h5py.File(f"{path}/master.h5") as file:
            data = file[f"features/{key}/data"]
            codes, table, fill = data[:], data.attrs["decode_table"].astype(np.float32), data.attrs["_FillValue"][0]
            assert "scale_factor" not in data.attrs
    assert codes.dtype == np.uint8 and fill == 255 and len(table) == 255
    values = np.append(table, np.float32(np.nan))[codes]
    reader = store["waveform(sample_rate=8000)@mulaw8"]
    for track, row in store.tracks["row"].items():
        assert np.array_equal(values[row, : LENGTHS[track]], reader[track])
        assert np.isnan(values[row, LENGTHS[track] :]).all()
        check_values(reader[track], track)


@pytest.mark.parametrize("tier", ["disk", "ram", "gpu"])
def test_batches_equal_the_reader(store: Store, tier: str) -> None:
    reader = store["waveform(sample_rate=8000)@mulaw8"]
    loader = BatchLoader({"x": reader}, store.tracks, batch_size=3, crop_frames=300, crops_per_track=2, tier=tier)
    seen = 0
    for batch in loader:
        for values, index, start in zip(batch["x"], batch["index"].tolist(), batch["start"].tolist(), strict=True):
            expected = reader.read([loader.track_ids[index]], start, start + 300)[0]
            assert np.array_equal(values.numpy().reshape(-1), expected)
            seen += 1
    assert seen == 6


def test_cost_is_measured(store: Store) -> None:
    (row,) = describe_features(store)
    errors = [np.abs(store["waveform(sample_rate=8000)@mulaw8"][track] - wave_of(track)) for track in LENGTHS]
    assert row["encoding"] == "mulaw8" and row["dtype"] == "uint8" and row["saturated"] == 3
    assert row["max_error"] == pytest.approx(0.25)  # of the samples that saturated
    assert row["mean_error"] == pytest.approx(np.concatenate(errors).mean(dtype=np.float64), rel=1e-5)
    assert row["bound"] == Encoding.parse("mulaw8", SPEC).error_bound


def test_converted_both_ways_and_derived(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a.zarr", "zarr")
    second = convert(tmp_path / "a.zarr", tmp_path / "b.h5")
    third = convert(tmp_path / "b.h5", tmp_path / "c.zarr")
    exact = make_store(tmp_path / "d.zarr", "zarr", "float32")
    assert list(derive(str(exact.location), expand_features(["waveform(sample_rate=8000)@mulaw8"])).values()) == [2]
    name = "waveform(sample_rate=8000)@mulaw8"
    for track in LENGTHS:
        for other in (second, third, open_store(exact.location)):
            assert np.array_equal(other[name][track], first[name][track])
