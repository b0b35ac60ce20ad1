"""Stores beyond the contract of backends: plain readers, views, ledger, sizes, leases, added tracks, layouts."""

import json
import multiprocessing
import os
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import CorruptFeature, MissingFeature, StoreError, StoreLocked
from featstore.owner import Owner
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.layout import Layout, choose_layout, choose_shard_tracks
from featstore.store.leases import Lease
from featstore.store.ledger import read_ledger, read_status
from featstore.store.missing import find_missing
from featstore.store.sizes import describe_features
from featstore.store.writing import add_arrays, add_tracks, note_request, write_shard
from featstore.testing.stores import SPEC, header_of, track_frame, values_of, write_shards

BOTH = pytest.mark.parametrize("backend", ["zarr", "hdf5"], indirect=True)


@pytest.fixture
def backend(request) -> str:
    return getattr(request, "param", "zarr")


@pytest.fixture
def small(tmp_path: Path, backend: str) -> tuple[Store, ArrayHeader, dict[int, int]]:
    header = header_of()
    store = create_store(tmp_path / "s", track_frame(10), [header], shard_tracks=4, backend=backend)
    add_arrays(store, [header])
    lengths = {row: 1 + 777 * row for row in range(10) if row != 5}
    write_shards(store, header, lengths)
    return open_store(store.location), header, lengths


def read_plainly(path: Path, key: str, backend: str) -> dict[str, np.ndarray]:
    """Arrays as programs that know nothing of featstore see them."""
    if backend == "hdf5":
        if open_store(path).arrays[key].layout.compression in ("lz4", "zstd"):
            pytest.importorskip("hdf5plugin", reason="plain h5py reads Blosc chunks with the package hdf5plugin alone")
        with h5py.File(path / "master.h5", "r") as master:
            group = master[f"features/{key}"]
            return {"data": group["data"][:], "n_frames": group["n_frames"][:]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = zarr.open(str(path), mode="r")[f"features/{key}"]
        return {"data": opened["data"][:], "n_frames": opened["n_frames"][:]}


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=9),
    shard_tracks=st.integers(1, 5),
    encoding=st.sampled_from(["float32", "float16", "uint16", "uint8"]),
    block=st.integers(1, 1500),
    compression=st.sampled_from(["none", "lz4", "zstd"]),
    backend=st.sampled_from(["zarr", "hdf5"]),
)
def test_what_is_written_is_read(
    tmp_path_factory, lengths, shard_tracks, encoding, block, compression, backend
) -> None:
    header = header_of(encoding)
    path = tmp_path_factory.mktemp("store") / "s"
    store = create_store(path, track_frame(len(lengths)), [header], shard_tracks=shard_tracks, backend=backend)
    add_arrays(store, [header], compression)
    write_shards(store, header, dict(enumerate(lengths)), block=block)
    reader = open_store(path)[f"{SPEC}@{encoding}"]
    for track in reader.track_ids:
        row = reader.row_of(track)
        expected = values_of(row, lengths[row])
        assert reader[track].shape == expected.shape
        if expected.size:
            assert np.abs(reader[track] - expected).max() <= reader.view.bound + 1e-4
    plain = read_plainly(path, header.key, backend)
    assert plain["n_frames"][:].tolist() == [n_frames or -1 for n_frames in lengths], "no frame: nothing is stored"
    raw = plain["data"][:]
    for row, n_frames in enumerate(lengths):
        if n_frames:
            assert np.array_equal(header.encoding.decode(raw[row, :, :n_frames]), reader.read_row(row))
        rest = raw[row, :, n_frames:]
        assert np.isnan(rest).all() if encoding.startswith("float") else (rest == header.encoding.fill_value).all()


def test_xarray_decodes_unaided(small, tmp_path: Path) -> None:
    import xarray

    store, _, lengths = small
    header = header_of("uint8")
    add_arrays(store, [header])
    write_shards(store, header, lengths)
    for opened in (header, header_of()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = xarray.open_zarr(str(store.location), group=f"features/{opened.key}", consolidated=False)
        reader = open_store(store.location)[opened.name]
        assert data["data"].dims == ("track", "band", "frame")
        for row in (0, 3, 9):
            assert np.allclose(data["data"][row, :, : lengths[row]], reader.read_row(row), atol=1e-4)
        assert np.isnan(data["data"][5]).all(), "a failed track reads as missing, never as zeros"


def test_reading_ranges_and_views(small) -> None:
    store, _, lengths = small
    reader = store[SPEC]
    track = store.tracks.index[9]
    whole = values_of(9, lengths[9])
    assert np.array_equal(reader[track], whole)
    assert np.array_equal(reader.read([track], 100, 4000)[0], whole[:, 100:4000])
    view = store["mel(n_mels=8,scale=db,hop_length=768)"]
    assert view.view.stride == 3 and not view.view.is_identity
    assert np.array_equal(view[track], whole[:, ::3])
    assert np.array_equal(view.read([track], 7, 20)[0], whole[:, ::3][:, 7:20])
    both = reader.read([store.tracks.index[0], track], 0, 10)
    assert both.shape == (2, 8, 10) and np.isnan(both[0, :, 1:]).all() and not np.isnan(both[1]).any()
    array = reader.to_xarray()
    assert array.dims == ("track", "band", "frame") and array.sizes["track"] == 9


def test_frames_from_behind_the_end_are_none(small) -> None:
    """However the tracks are asked for: what another track's length allows is no error for a shorter one."""
    store, _, _ = small
    for name in (str(SPEC), "mel(n_mels=8,scale=db,hop_length=768)"):
        reader, track = store[name], store.tracks.index[9]
        behind = reader[track].shape[1] + 5
        assert reader[track, behind:].shape == (8, 0)
        for found in (reader.read([track], behind), reader.read(track, start=behind), reader[[track], behind:]):
            assert found.shape == (1, 8, 0) and found.dtype == np.float32
        assert reader.read([], behind).shape == (0, 8, 0)
        assert np.isnan(reader.read([track], behind, behind + 3)).all()
        with pytest.raises(StoreError, match=f"start={behind} and stop=3 are no range of frames"):
            reader.read([track], behind, 3)
        with pytest.raises(StoreError, match="start=-1 and stop="):
            reader.read([track], -1)


def test_errors_name_what_is_near(small) -> None:
    store, _, _ = small
    with pytest.raises(MissingFeature, match="Did you mean mel") as caught:
        store["mel(n_mels=16,scale=db)"]
    assert "featstore extract" in str(caught.value)
    with pytest.raises(MissingFeature, match="Did you mean t001"):
        store[SPEC]["t01"]
    failed = store.tracks.index[5]
    with pytest.raises(MissingFeature, match="nothing is stored for track"):
        store[SPEC][failed]
    with pytest.raises(StoreError, match="lie outside"):
        store[SPEC].read_row(0, 0, 99)


def test_ledger_adds_up(small) -> None:
    store, _, _ = small
    assert read_status(store) == {"tracks": 10, "ok": 9, "failed": 1, "pending": 0, "by_reason": {"failed": 1}}
    row = read_ledger(store).iloc[0]
    assert (row["row"], row["status"], row["stage"], row["stored"]) == (5, "failed", "decode", False)
    assert store.tracks.loc[row["track_id"], "error"] == "cannot be decoded"
    header = header_of("uint8")
    add_arrays(store, [header])
    assert read_status(store)["pending"] == 10


@BOTH
def test_info_measures_the_file_system(small) -> None:
    store, header, _ = small
    note_request(store, [f"{SPEC}@float32", f"{SPEC.replace(hop_length=512)}@float32"])
    stored, view = describe_features(store)
    folder = Path(str(store.location)) / "features" / header.key
    assert stored["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert (stored["stored"], stored["exact"], stored["n_tracks"]) == (True, True, 9)
    assert (view["stored"], view["exact"], view["bytes_added"]) == ("view", True, 0)


@BOTH
def test_forecast_of_a_view_is_what_storing_it_takes(small, tmp_path: Path) -> None:
    store, _, lengths = small
    spec = SPEC.replace(hop_length=768)
    forecast = store[spec].bytes_alone
    header = header_of(spec=spec)
    other = create_store(tmp_path / "other", track_frame(10), [header], shard_tracks=4, backend=store.backend.name)
    add_arrays(other, [header])
    write_shards(other, header, {row: -(-n // 3) for row, n in lengths.items()})
    measured = open_store(other.location)[spec].bytes_alone
    if store.backend.name == "zarr":
        assert forecast == measured
    else:  # HDF5 adds structures of its own to each of the three files
        assert 0 <= measured - forecast < 3 * 8192


@pytest.mark.parametrize("n_frames", [1, 100, 1820])
def test_fixed_clips_are_forecast_to_the_byte(tmp_path: Path, n_frames: int) -> None:
    spec = parse_spec("mel(n_mels=8,scale=db,clip=centre(29.1 s))")
    header = header_of(spec=spec, fixed=n_frames)
    store = create_store(tmp_path / "s.zarr", track_frame(6), [header], shard_tracks=4)
    add_arrays(store, [header])
    write_shards(store, header, dict.fromkeys(range(6), n_frames))
    reader = open_store(store.location)[spec]
    assert reader._forecast(reader.base.header, reader.lengths) == reader.bytes_alone


def test_two_writers_of_one_shard_never_meet(small) -> None:
    store, _, _ = small
    header = header_of("uint8")
    add_arrays(store, [header])
    with write_shard(store, 0, [header.key]), pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        write_shard(store, 0, [header.key]).__enter__()
    with write_shard(store, 0, [header.key]), write_shard(store, 1, [header.key]):
        pass


def _hold_and_die(path: str) -> None:
    Lease(open_store(path).location, ["k"], 0).__enter__()
    os._exit(9)


@pytest.mark.slow
def test_a_dead_writers_lease_is_taken_over(small) -> None:
    store, _, _ = small
    process = multiprocessing.get_context("spawn").Process(target=_hold_and_die, args=(str(store.location),))
    process.start()
    process.join()
    assert store.location.exists("leases/k/0.json")
    with Lease(store.location, ["k"], 0):
        pass
    assert not store.location.exists("leases/k/0.json")


def test_no_lease_stays_where_removing_files_in_the_making_is_interrupted(small, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    location = small[0].location
    monkeypatch.setattr("featstore.store.leases.shutil.rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), Lease(location, ["k"], 0) as lease:
        lease.staging()
    assert not location.exists("leases/k/0.json")


def test_a_silent_owner_elsewhere_is_stale_after_a_while() -> None:
    owner = Owner("another-host", 1, 0.0)
    assert not owner.is_gone(10) and owner.is_gone(3600)


@BOTH
def test_tracks_are_added_behind_the_last_shard(small) -> None:
    store, header, lengths = small
    assert add_tracks(store, track_frame(13)) == 3
    assert sorted(store.tracks["row"])[-3:] == [12, 13, 14] and store.n_rows == 15
    assert find_missing(store, [header.key]) == [(3, [header.key])]
    write_shards(store, header, {12: 5, 13: 6, 14: 7})
    reader = open_store(store.location)[SPEC]
    assert np.array_equal(reader.read_row(13), values_of(13, 6))
    assert np.array_equal(reader.read_row(9), values_of(9, lengths[9]))
    plain = read_plainly(Path(str(store.location)), header.key, store.backend.name)
    assert plain["n_frames"].shape == (15,) and plain["n_frames"][10] == -1


def test_order_is_frozen_and_independent_of_the_tables(tmp_path: Path) -> None:
    frame = track_frame(20)
    one = create_store(tmp_path / "a", frame, [header_of()])
    two = create_store(tmp_path / "b", frame.iloc[::-1], [header_of()])
    assert list(one.tracks.index) == list(two.tracks.index) != list(frame["track_id"])


def test_a_changed_record_is_noticed(small) -> None:
    store, header, _ = small
    path = Path(str(store.location)) / f"commits/{header.key}/0.json"
    content = json.loads(path.read_text())
    content["n_frames"][3] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptFeature, match="a commit record was changed"):
        open_store(store.location)[SPEC]


@BOTH
def test_what_is_no_store_is_refused(tmp_path: Path, small) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        open_store(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="holds other files"):
        create_store(tmp_path / "other", track_frame(1), [header_of()])
    store, _, _ = small
    root = Path(str(store.location)) / store.backend.root
    content = json.loads(root.read_text())
    for format_number in (0, -1, 1.5, None, True, "1", 1 << 50):
        content.get("attributes", content)["featstore"]["format"] = format_number
        root.write_text(json.dumps(content))
        with pytest.raises(StoreError, match="its root is damaged"):
            open_store(store.location)
    content.get("attributes", content)["featstore"]["format"] = 99
    root.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="the store has format 99, this version reads up to 2"):
        open_store(store.location)
    root.write_text("{")
    with pytest.raises(StoreError, match="its root is damaged"):
        open_store(store.location)


def test_layouts_are_sensible() -> None:
    header = ArrayHeader(SPEC.replace(n_mels=96), Encoding(), (96,), ("band", "frame"), 1820)
    layout = choose_layout(header, 16)
    assert layout.slab_frames % layout.chunk_frames == 0 and layout.slab_frames >= 1820
    assert 100_000 < layout.chunk_frames * header.frame_bytes < 500_000
    assert choose_shard_tracks([header], [29.1] * 25000, 25000) in range(300, 420)
    assert choose_shard_tracks([header], [29.1] * 10, 10) == 16
    assert Layout(16, 100, 10).n_slabs(101) == 2
