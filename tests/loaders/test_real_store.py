"""The loaders on stores as extraction leaves them: views, encodings, compression, failures and damage."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from featstore.errors import CorruptFeature, DatasetError, MissingFeature
from featstore.loaders import BatchLoader, band_statistics
from featstore.loaders.gather import Rooms, checksum_address, gather
from featstore.loaders.inputs import Input
from featstore.loaders.tiers import DiskTier
from featstore.store import chunks
from featstore.store.spool import Slab
from tests.loaders.fakes import make_arrays
from tests.loaders.stores import write_store

TIERS = ("disk", "ram", "gpu")
BASE = "mel(n_mels=8)"


@pytest.fixture(scope="module", params=["zarr", "hdf5"])
def store(tmp_path_factory, request):
    arrays = make_arrays([700 + 97 * i for i in range(11)], bands=8)
    features = [(BASE, "float32"), ("mel(n_mels=8,scale=db)", "uint8"), ("mel(n_mels=8,scale=db)", "uint16")]
    return write_store(tmp_path_factory.mktemp("s") / "store", arrays, features, backend=request.param)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    "feature",
    [
        BASE,
        "mel(n_mels=8,hop_length=768)",
        "mel(n_mels=8,hop_length=512,scale=log10_1p)",
        "mel(n_mels=8,scale=db)@uint8",
        "mel(n_mels=8,hop_length=1280,scale=db)@uint16",
    ],
)
def test_batches_equal_the_reader(store, tier, feature):
    reader = store[feature]
    loader = BatchLoader({"mel": reader}, store.tracks, batch_size=4, crop_frames=50, crops_per_track=3, tier=tier)
    seen = 0
    for batch in loader:
        for values, index, start in zip(batch["mel"], batch["index"].tolist(), batch["start"].tolist(), strict=True):
            expected = reader.read([loader.track_ids[index]], start, start + 50)[0]
            if reader.view.after is None or reader.encoding.is_integer:
                assert np.array_equal(values.numpy(), expected)
            else:  # torch and numpy round logarithms differently in the last place
                np.testing.assert_allclose(values.numpy(), expected, rtol=3e-6, atol=3e-5)
            seen += 1
    assert seen == 33


def test_disk_and_ram_agree_bit_for_bit(store):
    feature = "mel(n_mels=8,hop_length=512,scale=db)"
    options = {"batch_size": 4, "crop_frames": 50, "shuffle": "shards", "shuffle_buffer": 5, "seed": 3}
    runs = [list(BatchLoader({"x": store[feature]}, store.tracks, tier=tier, **options)) for tier in TIERS]
    for other in runs[1:]:
        for ours, theirs in zip(runs[0], other, strict=True):
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_view_and_its_base_are_cut_to_the_same_seconds(store):
    readers = {"fine": store[BASE], "coarse": store["mel(n_mels=8,hop_length=1024)"]}
    loader = BatchLoader(readers, store.tracks, batch_size=4, crop_frames=64, crops_per_track=4)
    for batch in loader:
        assert torch.equal(batch["fine"][..., ::4], batch["coarse"])


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("tier", ["disk", "ram"])
def test_compressed_stores(tmp_path, backend, compression, tier):
    arrays = make_arrays([300] * 5, bands=8)
    store = write_store(tmp_path / "s", arrays, [(BASE, "float32")], compression=compression, backend=backend)
    for batch in BatchLoader({"x": store[BASE]}, list(arrays), batch_size=2, crop_frames=300, tier=tier):
        for values, index in zip(batch["x"], batch["index"].tolist(), strict=True):
            assert np.array_equal(values.numpy(), arrays[f"t{index:02d}"])


def test_failed_tracks_are_named_or_left_out(tmp_path):
    arrays = make_arrays([60] * 6, bands=8)
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")], failed=("t03",))
    options = {"batch_size": 6, "crop_frames": 20}
    with pytest.raises(DatasetError, match="1 of 6 tracks are not stored: t03"):
        BatchLoader({"x": store[BASE]}, list(arrays), **options)
    (batch,) = BatchLoader({"x": store[BASE]}, list(arrays), missing="skip", **options)
    assert sorted(batch["index"].tolist()) == [0, 1, 2, 4, 5]
    with pytest.raises(MissingFeature, match=r"store has no mel\(.*n_mels=9"):
        store["mel(n_mels=9)"]


@pytest.mark.parametrize("tier", TIERS)
def test_a_flipped_bit_stops_the_pass(tmp_path, tier):
    arrays = make_arrays([60] * 6, bands=8)
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")])
    file = max((tmp_path / "s.zarr" / "features").rglob("c/1/0/0"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[100] ^= 4
    file.write_bytes(data)
    with pytest.raises(CorruptFeature, match=r"checksum.*store repair"):
        list(BatchLoader({"x": store[BASE]}, list(arrays), batch_size=2, crop_frames=20, tier=tier))


def crop_of(tier, reader, start, frames):
    out = np.empty((1, 8, frames), dtype=np.float32)
    tier.fill(Rooms.of(out, Input.bind("x", reader, ["t00"]).decoder), *(np.array([n]) for n in (0, start, frames)))
    return out[0]


def test_only_mapped_chunks_are_kept(store, tmp_path):
    arrays = make_arrays([300] * 5, bands=8)
    packed = write_store(tmp_path / "s", arrays, [(BASE, "float32")], compression="lz4")
    for reader, kept in ((store[BASE], 1), (packed[BASE], 0)):
        tier = DiskTier(Input.bind("x", reader, ["t00"]))
        assert np.array_equal(crop_of(tier, reader, 40, 30), reader.read(["t00"], 40, 70)[0])
        assert np.count_nonzero(tier._checked.addresses) == len(tier._checked.maps) == kept
        again = pickle.loads(pickle.dumps(tier))
        assert not again._checked.maps
        assert np.array_equal(crop_of(again, reader, 41, 30), reader.read(["t00"], 41, 71)[0])


def test_files_are_let_go_where_too_many_are_mapped(tmp_path, monkeypatch):
    arrays = make_arrays([60] * 40, bands=8)
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")], shard_tracks=2)
    monkeypatch.setattr("featstore.loaders.tiers._MAPS", 3)
    monkeypatch.setattr("featstore.store.base_array.MAX_OPEN_SLABS", 2)
    for recheck in (False, True):
        options = {"batch_size": 8, "crop_frames": 20, "tier": "disk", "threads": 2, "recheck": recheck}
        loader = BatchLoader({"x": store[BASE]}, list(arrays), **options)
        for _ in range(5):
            for batch in loader:
                for values, index, start in zip(batch["x"], batch["index"].tolist(), batch["start"], strict=True):
                    assert np.array_equal(values, arrays[f"t{index:02d}"][:, start : start + 20])


def test_without_the_checksum_in_c_chunks_are_checked_one_by_one(tmp_path, monkeypatch):
    arrays = make_arrays([60] * 6, bands=8)
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")])
    options = {"batch_size": 6, "crop_frames": 20, "tier": "disk", "seed": 4}
    (there,) = BatchLoader({"x": store[BASE]}, list(arrays), **options)
    assert checksum_address()
    checks: list[str] = []
    check = chunks.checked
    monkeypatch.setattr(chunks, "checked", lambda data, where: checks.append(where) or check(data, where))
    monkeypatch.setattr("featstore.loaders.tiers.checksum_address", lambda: 0)
    loader = BatchLoader({"x": store[BASE]}, list(arrays), **options)
    (absent,) = loader
    assert torch.equal(there["x"], absent["x"]) and len(checks) == 6
    list(loader)
    assert len(checks) == 6


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_chunks_are_announced_before_their_first_read(tmp_path, monkeypatch, backend):
    arrays = make_arrays([4000] * 5, bands=96)
    store = write_store(tmp_path / "s", arrays, [("mel(n_mels=96)", "float32")], backend=backend)
    reader = store["mel(n_mels=96)"]
    announcements: list[tuple[int, int]] = []
    fetch, find = Slab.expect, DiskTier._find_one
    monkeypatch.setattr(Slab, "expect", lambda slab, *where: announcements.append(where) or fetch(slab, *where))
    asked: list[tuple[int, int]] = []

    def find_one(tier, track, chunk):
        asked.append((int(tier._source.rows[track]) % reader.base.layout.shard_tracks, chunk))
        return find(tier, track, chunk)

    monkeypatch.setattr(DiskTier, "_find_one", find_one)
    loader = BatchLoader({"x": reader}, list(arrays), batch_size=5, crop_frames=900, tier="disk", threads=0)
    list(loader)
    assert asked and announcements == asked[: len(announcements)] and set(announcements) == set(asked)
    before = len(announcements)
    list(loader)  # the same crops
    assert len(announcements) == before
    slab = next(iter(reader.base._slabs.values()))
    slab._index = np.full_like(slab._index, 1 << 60)  # a damaged index is for the read to report
    slab.expect(0, 0)
    with pytest.raises(CorruptFeature):
        slab.read_chunk(0, 0)


@pytest.mark.parametrize(("seconds", "announced"), [(0.0, 96), (0.01, 256)])
def test_chunks_are_announced_while_reading_them_takes_long(tmp_path, monkeypatch, seconds, announced):
    arrays = make_arrays([60] * 256, bands=8)
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")], shard_tracks=256)
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("featstore.loaders.tiers.time", clock)
    fetch = Slab.expect
    announcements: list[int] = []

    def gather_slowly(pieces, *args, **settings):
        clock.now += seconds * len(pieces)
        gather(pieces, *args, **settings)

    monkeypatch.setattr("featstore.loaders.tiers.gather", gather_slowly)
    monkeypatch.setattr(
        Slab, "expect", lambda slab, slot, within: announcements.append(slot) or fetch(slab, slot, within)
    )
    options = {"batch_size": 32, "crop_frames": 20, "tier": "disk", "threads": 0}
    list(BatchLoader({"x": store[BASE]}, list(arrays), **options))
    assert len(set(announcements)) == len(announcements) == announced


def test_checks_on_the_first_read_of_a_chunk_or_on_every_one(tmp_path):
    arrays = make_arrays([60] * 6, bands=8)
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")])
    options = {"batch_size": 2, "crop_frames": 20, "tier": "disk"}
    once = BatchLoader({"x": store[BASE]}, list(arrays), **options)
    always = BatchLoader({"x": store[BASE]}, list(arrays), recheck=True, **options)
    expected = [batch["x"] for batch in once]
    assert all(torch.equal(batch["x"], values) for batch, values in zip(always, expected, strict=True))
    file = max((tmp_path / "s.zarr" / "features").rglob("c/1/0/0"), key=lambda path: path.stat().st_size)
    with open(file, "r+b") as open_file:
        open_file.seek(100)
        open_file.write(b"\x00\x00\x00\x00")
    assert len(list(once)) == 3
    with pytest.raises(CorruptFeature, match="checksum"):
        list(always)


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_crops_that_cross_chunks(tmp_path, step):
    arrays = make_arrays([4000, 4001], bands=96)
    spec = f"mel(n_mels=96,hop_length={256 * step})"
    store = write_store(tmp_path / "s.zarr", arrays, [("mel(n_mels=96)", "float32")])
    reader = store[spec]
    assert reader.base.layout.chunk_frames < 1000
    for frames in (187, 500, 4000 // step):
        loader = BatchLoader(
            {"x": reader}, list(arrays), batch_size=1, crop_frames=frames, crops_per_track=5, tier="disk"
        )
        for batch in loader:
            start = int(batch["start"])
            values = arrays[f"t{int(batch['index']):02d}"][:, ::step][:, start : start + frames]
            assert np.array_equal(batch["x"][0].numpy(), values)


@pytest.mark.parametrize("tier", TIERS)
def test_nan_in_a_stored_track_is_named(tmp_path, tier):
    arrays = make_arrays([60] * 6, bands=8)
    arrays["t02"][3, 41] = np.nan
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")])
    with pytest.raises(CorruptFeature, match=r"track t02 holds no value .* stored frame 41"):
        list(BatchLoader({"x": store[BASE]}, list(arrays), batch_size=2, crop_frames=60, tier=tier))


def test_band_statistics(store):
    tracks = [f"t{i:02d}" for i in range(7)]
    reader = store["mel(n_mels=8,hop_length=512,scale=db)"]
    values = np.concatenate([reader[track] for track in tracks], axis=-1).astype(np.float64)
    for block_frames in (8192, 100, 1):
        found = band_statistics(reader, tracks[:2] if block_frames == 1 else tracks, block_frames=block_frames)
        used = values[:, : found.n_frames]
        np.testing.assert_allclose(found.mean, used.mean(axis=-1), rtol=1e-12)
        np.testing.assert_allclose(found.std, used.std(axis=-1), rtol=1e-10)
    assert found.mean.dtype == np.float64


def test_band_statistics_of_a_large_mean(tmp_path):
    arrays = {"a": np.random.default_rng(0).normal(3e4, 0.25, (8, 5000)).astype(np.float32)}
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")])
    found = band_statistics(store[BASE], ["a", "unknown"], block_frames=64)
    np.testing.assert_allclose(found.std, arrays["a"].astype(np.float64).std(axis=-1), rtol=1e-9)


def test_band_statistics_refuse_nothing_and_nan(tmp_path):
    arrays = make_arrays([60] * 3, bands=8)
    arrays["t01"][0, 0] = np.nan
    store = write_store(tmp_path / "s.zarr", arrays, [(BASE, "float32")])
    with pytest.raises(CorruptFeature, match="t01"):
        band_statistics(store[BASE], list(arrays))
    with pytest.raises(DatasetError, match="none of the tracks"):
        band_statistics(store[BASE], ["unknown"])
