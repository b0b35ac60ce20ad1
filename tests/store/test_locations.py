"""One contract for every place a store can be in: a folder, and a bucket behind a real S3 server."""

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from places import Place

from featstore import object_storage
from featstore.errors import CorruptFeature, MissingFeature, ObjectStorageError, StoreError, StoreLocked
from featstore.store import Store, create_store, open_store
from featstore.store.garbage import collect_garbage
from featstore.store.leases import Lease, live_leases
from featstore.store.ledger import read_status
from featstore.store.location import open_location
from featstore.store.missing import find_missing
from featstore.store.sizes import describe_features
from featstore.store.verify import verify
from featstore.store.writing import write_shard
from featstore.testing.s3_server import S3Server
from featstore.testing.stores import LENGTHS, SPEC, header_of, make_store, values_of, write_shards
from featstore.workflows.derive import derive

# -- files ----------------------------------------------------------------------------------------------------------


def test_files_are_written_whole_and_found_again(place: Place) -> None:
    location = open_location(place.url)
    assert location.list("") == [] and list(location.walk("features/k")) == []
    assert not location.exists("a/b") and location.size("features/k/b") == -1
    with pytest.raises(FileNotFoundError):
        location.read("a/b")
    with pytest.raises(FileNotFoundError):
        location.stamp("a/b")
    for name, data in {"a/b": b"hello", "a/c/d": b"", "features/k/e": b"12345", "features/k2/f": b"x"}.items():
        location.write(name, data)
    assert location.read("a/b") == b"hello" and location.read("a/c/d") == b""
    assert location.list("a") == ["b", "c"] and location.list("") == ["a", "features"]
    assert list(location.walk("features/k")) == [("features/k/e", 5)]
    assert location.size("features/k/e") == 5 and location.size("features/k/f") == -1
    before = location.stamp("a/b")
    location.write("a/b", b"other")
    assert location.stamp("a/b") != before
    location.prefetch(["a/b", "a/nothing"])
    assert location.read("a/b") == b"other" and not location.exists("a/nothing")
    location.remove("a/b")
    location.remove("a/b")
    assert not location.exists("a/b")
    location.write("features/k/e", b"123456")
    assert location.size("features/k/e") == 6, "what is remembered of files must not outlive a change"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a\0b"])
def test_names_that_leave_the_store_are_refused(place: Place, name: str) -> None:
    location = open_location(place.url)
    for attempt in (location.read, location.exists, location.remove, location.open, lambda n: location.write(n, b"")):
        with pytest.raises(StoreError, match="unsafe file name"):
            attempt(name)


def test_a_staged_file_is_adopted_and_read_by_stretches(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "MULTIPART_BYTES", 6 << 20)
    monkeypatch.setattr(object_storage, "PART_BYTES", 5 << 20)  # the least that S3 allows
    location = open_location(place.url)
    content = np.random.default_rng(0).bytes(12 << 20)
    staged = location.staging("somebody") / "shard"
    staged.write_bytes(content)
    location.adopt(staged, "features/k/0")
    assert not staged.exists() and location.size("features/k/0") == len(content)
    view = location.open("features/k/0")
    assert len(view) == len(content)
    for start, stop in ((-10, None), (0, 5), (5, 1 << 20), (1 << 20, 6 << 20), (6 << 20, (6 << 20) + 1), (3, 3)):
        assert bytes(view[start:stop]) == content[start:stop]
    assert bytes(location.map("features/k/0")) == content
    location.write("features/k/empty", b"")
    assert len(location.open("features/k/empty")) == 0 and len(location.map("features/k/empty")) == 0
    with pytest.raises(FileNotFoundError):
        location.open("features/k/1")


def test_of_many_who_create_a_file_one_succeeds(place: Place) -> None:
    location = open_location(place.url)
    assert location.create("leases/first", b"0") is not None
    won, start = [], threading.Barrier(6)

    def attempt(number: int) -> None:
        start.wait()
        if location.create("leases/x", str(number).encode()) is not None:
            won.append(str(number).encode())

    threads = [threading.Thread(target=attempt, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [location.read("leases/x")] == won


def test_only_the_version_that_was_read_is_replaced_or_removed(place: Place) -> None:
    location = open_location(place.url)
    location.create("leases/x", b"old")
    seen = location.peek("leases/x")
    assert seen is not None and seen.data == b"old" and seen.age_s < 30
    location.remove("leases/x")
    location.create("leases/x", b"the next one's")
    location.remove_version("leases/x", seen.version)
    assert location.read("leases/x") == b"the next one's"
    assert location.replace("leases/x", b"mine", seen.version) is None
    seen = location.peek("leases/x")
    assert seen is not None and seen.data == b"the next one's"
    assert location.replace("leases/x", b"mine", seen.version) is not None
    assert location.read("leases/x") == b"mine" and location.peek("leases/y") is None


# -- stores ---------------------------------------------------------------------------------------------------------


def check_content(store: Store, feature: str = str(SPEC)) -> None:
    reader = store[feature]
    assert len(reader) == len(LENGTHS)
    for row, n_frames in LENGTHS.items():
        assert np.abs(reader.read_row(row) - values_of(row, n_frames)).max(initial=0) <= reader.view.bound + 1e-4


@pytest.mark.slow
def test_a_store_is_the_same_in_every_place(place: Place, tmp_path: Path) -> None:
    store = make_store(place.url, "float32", "uint8")
    check_content(store)
    check_content(store, f"{SPEC}@uint8")
    assert read_status(store) == {"tracks": 10, "ok": 9, "failed": 1, "pending": 0, "by_reason": {"failed": 1}}
    assert verify(place.url) == [] and verify(place.url, quick=True) == []
    assert {row["dtype"]: row["n_tracks"] for row in describe_features(store)} == {"float32": 9, "uint8": 9}
    other = Place(str(tmp_path / "other.zarr"))
    make_store(other.url, "float32", "uint8")
    assert place.files() == other.files()
    assert store.fingerprint == open_store(other.url).fingerprint


@pytest.mark.slow
def test_ranges_and_views(place: Place) -> None:
    reader = make_store(place.url)[SPEC]
    whole = values_of(9, LENGTHS[9])
    assert np.array_equal(reader.read_row(9, 100, 4000), whole[:, 100:4000])
    view = open_store(place.url)["mel(n_mels=8,scale=db,hop_length=512)"]
    assert np.array_equal(view.read_row(9), whole[:, ::2])
    with pytest.raises(MissingFeature):
        reader[open_store(place.url).tracks.index[5]]


@pytest.mark.slow
def test_derive_writes_the_same_bytes(place: Place, tmp_path: Path) -> None:
    from featstore.specs import parse_feature

    other = Place(str(tmp_path / "other.zarr"))
    for each in (place, other):
        make_store(each.url)
        derive(each.url, [parse_feature("mel(n_mels=8,scale=db,hop_length=512)")])
    assert place.files() == other.files()


@pytest.mark.slow
def test_a_store_is_converted_packed_and_compared_across_places(place: Place, tmp_path: Path) -> None:
    from featstore.store.convert import convert
    from featstore.store.diff import compare
    from featstore.store.pack import pack

    make_store(place.url)
    check_content(convert(place.url, str(tmp_path / "other.zarr"), backend="zarr"))
    check_content(convert(place.url, str(tmp_path / "other.h5store"), backend="hdf5"))
    check_content(pack(place.url, tmp_path / "packed.h5"))
    back = f"{place.url.removesuffix('x.zarr')}back.zarr"
    check_content(convert(str(tmp_path / "other.h5store"), back, backend="zarr"))
    for other in (back, tmp_path / "packed.h5"):
        assert not [found for found in compare(open_store(place.url), open_store(other)) if not found.provenance]


@pytest.mark.slow
def test_a_shard_without_its_record_does_not_exist(place: Place) -> None:
    header = header_of()
    store = make_store(place.url)
    record = f"commits/{header.key}/1.json"
    kept = place.files()
    place.replace(record, None)
    place.replace("manifest.json", None)
    store = open_store(place.url)
    assert find_missing(store, [header.key]) == [(1, [header.key])]
    assert read_status(store)["pending"] == 4
    with pytest.raises(MissingFeature):
        store[SPEC].read_row(6)
    write_shards(store, header)
    assert place.files() == kept


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flipped, lambda data: data[: len(data) // 2], lambda data: b"", lambda data: None])
def test_damage_is_found_and_named(place: Place, damage) -> None:
    make_store(place.url)
    whole = place.files()
    for name in (name for name in whole if not name.endswith(("c/0", "c/1", "0.json", "1.json", "c/0/0/0", "c/1/0/0"))):
        place.replace(name, damage(whole[name]))
        quick = damage is not flipped
        found = verify(place.url, quick=quick and "/c/" in name)
        if name != "features/zarr.json":
            assert any(problem.file == name for problem in found), name
        place.replace(name, whole[name])
    assert verify(place.url) == []


@pytest.mark.slow
def test_damaged_bytes_are_never_returned(place: Place) -> None:
    make_store(place.url)
    name = next(name for name in place.files() if "/data/c/2/" in name)
    place.replace(name, flipped(place.files()[name]))
    reader = open_store(place.url)[SPEC]
    with pytest.raises(CorruptFeature, match="checksum"):
        for row in (8, 9):
            reader.read_row(row)
    place.replace(name, None)
    with pytest.raises(CorruptFeature, match="shard file is missing"):
        open_store(place.url)[SPEC].read_row(8)


# -- several at once ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_writer_at_a_time(place: Place) -> None:
    header = header_of()
    store = make_store(place.url)
    with write_shard(store, 1, [header.key], "first"):
        with (
            pytest.raises(StoreLocked, match=f"being written by process {os.getpid()}"),
            write_shard(store, 1, [header.key]),
        ):
            pass
        with write_shard(store, 2, [header.key]):
            assert sorted(shard for _, shard, _ in live_leases(store.location)) == [1, 2]
    assert live_leases(store.location) == [] and not [n for n in place.files() if n.startswith("leases/")]


KILLED = """
import os, sys
from featstore.store import open_store
from featstore.store.writing import write_shard
store = open_store(sys.argv[1])
key = next(iter(store.arrays))
with write_shard(store, 1, [key]) as writer:
    writer.begin(0)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_a_dead_writers_lease_is_taken_over_and_its_leftovers_go(place: Place) -> None:
    header = header_of()
    store = make_store(place.url)
    whole = place.files()
    env = os.environ | ({"TMPDIR": str(Path(store.location.staging("me")).parents[2])} if place.remote else {})
    subprocess.run([sys.executable, "-c", KILLED, place.url], env=env, check=False)
    assert [n for n in place.files() if n.startswith("leases/")]
    listed = collect_garbage(store.location, dry_run=True)
    assert any("leases/" in name for name in listed) and len(listed) >= 2
    with write_shard(store, 1, [header.key]):
        assert not [name for name in collect_garbage(store.location, dry_run=True) if "leases/" in name]
    removed = collect_garbage(store.location)
    assert removed and collect_garbage(store.location) == []
    assert place.files() == whole


@pytest.mark.slow
def test_a_lease_that_was_lost_stops_the_commit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    header = header_of()
    store = make_store(place.url)
    whole = place.files()
    with (
        pytest.raises(StoreLocked, match="another writer took its shard over"),
        write_shard(store, 1, [header.key]) as writer,
    ):
        for slot, row in enumerate(store.shard_rows(1)):
            writer.fail(slot, "failed", "decode", f"row {row}")
        name = f"leases/{header.key}/1.json"
        place.replace(name, b'{"host": "elsewhere", "pid": 1, "started": 0.0, "token": "theirs"}')
        monkeypatch.setattr("featstore.owner.STALE_S", -1.0)
        monkeypatch.setattr("featstore.store.leases.STALE_S", -1.0)
        writer.commit({})
    there = {n: data for n, data in place.files().items() if not n.startswith("leases/")}
    assert there == whole


def test_heartbeats_keep_a_lease_fresh(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    location = open_location(place.url)
    monkeypatch.setattr(type(location), "heartbeat_s", 0.05)
    with Lease(location, ["a", "b"], 3) as lease:
        first = location.stamp("leases/a/3.json")
        for _ in range(100):
            if location.stamp("leases/a/3.json") != first and lease._beats > 2:
                break
            threading.Event().wait(0.05)
        assert location.stamp("leases/a/3.json") != first
        lease.check()
    assert location.list("leases/a") == []


def read_all(store: Store, queue, environment: dict[str, str]) -> None:
    os.environ.update(environment)  # a fork server that is running already has that of its start
    check_content(store)
    queue.put("read")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_readers_work_in_other_processes(place: Place, method: str) -> None:
    store = make_store(place.url)
    check_content(store)  # connections and maps of this process must not leak into the others
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=read_all, args=(store, queue, place.server.environment if place.server else {}))
    process.start()
    process.join(60)
    assert process.exitcode == 0 and queue.get(timeout=10) == "read"


# -- what only a bucket has -------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    return Place(f"s3://{s3.new_bucket()}/x.zarr", s3)


@pytest.mark.slow
def test_plain_zarr_and_xarray_open_the_same_url(bucket: Place) -> None:
    import xarray
    import zarr

    pytest.importorskip("s3fs", reason="plain zarr and xarray open s3:// only through the package s3fs")
    make_store(bucket.url, "float32", "uint8")
    for encoding in ("float32", "uint8"):
        key = header_of(encoding).key
        plain = zarr.open(bucket.url, mode="r")[f"features/{key}"]
        assert plain["n_frames"][:].tolist() == [LENGTHS.get(row, -1) for row in range(10)]
        data = xarray.open_zarr(bucket.url, group=f"features/{key}", consolidated=False)["data"]
        bound = open_store(bucket.url)[f"{SPEC}@{encoding}"].view.bound
        assert np.abs(data[3, :, : LENGTHS[3]].values - values_of(3, LENGTHS[3])).max() <= bound + 1e-4
        assert np.isnan(data[5].values).all()


@pytest.mark.slow
def test_a_reader_never_mixes_two_versions_of_a_shard(bucket: Place) -> None:
    make_store(bucket.url)
    name = next(n for n in bucket.files() if "/data/c/2/" in n)
    whole = bucket.files()[name]
    long = np.random.default_rng(0).bytes(200_000)
    location = open_location(bucket.url)
    bucket.replace(name, long + whole)
    view = location.open(name)
    bucket.replace(name, whole + long)
    with pytest.raises(ObjectStorageError, match="replaced while it was read"):
        view[0:10]


@pytest.mark.slow
def test_unfinished_uploads_go_unless_their_writer_lives(bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    header = header_of()
    store = make_store(bucket.url)
    assert bucket.server is not None
    name = store.backend.slab_name(store.arrays[header.key], 1, 0)
    plain, (bucket_name, prefix) = bucket.server.client(), bucket.url.removeprefix("s3://").split("/", 1)
    begun = plain.create_multipart_upload(Bucket=bucket_name, Key=f"{prefix}/{name}")
    plain.upload_part(
        Bucket=bucket_name, Key=f"{prefix}/{name}", UploadId=begun["UploadId"], PartNumber=1, Body=bytes(5 << 20)
    )
    check_content(open_store(bucket.url))
    with write_shard(store, 1, [header.key]):
        assert collect_garbage(store.location) == []
    assert collect_garbage(store.location) == [f"{name} (unfinished upload)"]
    assert "Uploads" not in plain.list_multipart_uploads(Bucket=bucket_name)
    assert verify(bucket.url) == []


def test_a_failing_upload_leaves_no_parts(bucket: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(object_storage, "MULTIPART_BYTES", 1 << 20)
    location = open_location(bucket.url)
    path = tmp_path / "file"
    path.write_bytes(bytes(2 << 20))
    real = object_storage.ObjectPlace._call

    def call(self, operation, name, **parameters):
        if operation == "upload_part":
            raise ObjectStorageError("the line is cut")
        return real(self, operation, name, **parameters)

    monkeypatch.setattr(object_storage.ObjectPlace, "_call", call)
    with pytest.raises(ObjectStorageError, match="line is cut"):
        location.adopt(path, "features/k/0")
    assert location.place.open_uploads("") == [] and not location.exists("features/k/0")


@pytest.mark.slow
def test_metadata_of_many_shards_come_in_few_listings(bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(bucket.url, "float32", "uint8")
    asked: list[str] = []
    real = object_storage.ObjectPlace._pages
    monkeypatch.setattr(
        object_storage.ObjectPlace, "_pages", lambda self, op, **p: asked.append(p["Prefix"]) or real(self, op, **p)
    )
    opened = open_store(bucket.url)
    describe_features(opened)
    read_status(opened)
    assert len(asked) <= 12, asked


def test_hdf5_and_whole_buckets_are_refused(bucket: Place) -> None:
    with pytest.raises(StoreError, match="HDF5 stores live on a file system"):
        create_store(bucket.url, make_frame(), [header_of()], backend="hdf5")
    with pytest.raises(StoreError, match="needs a path of its own"):
        open_store(bucket.url.rpartition("/")[0])
    with pytest.raises(ObjectStorageError, match="no URL of an object"):
        open_store("s3:///x.zarr")


def test_of_two_who_make_a_store_the_second_opens_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    location = open_location(place.url)
    look = type(location).list
    monkeypatch.setattr(type(location), "list", lambda self, name: (first(), look(self, name))[1])

    def first() -> None:  # the other one is done just before this one looks around
        monkeypatch.setattr(type(location), "list", look)
        create_store(place.url, make_frame(), [header_of()], shard_tracks=2)

    store = create_store(place.url, make_frame(), [header_of()], shard_tracks=3)
    assert store.shard_tracks == 2 and type(location).list is look


def make_frame():
    from featstore.testing.stores import track_frame

    return track_frame(3)


def test_a_lease_that_was_never_filled_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process killed between making and filling a lease leaves an empty file; who comes next waits and takes it."""
    monkeypatch.setattr("featstore.store.leases.HEARTBEAT_S", 0.5)
    location = open_location(tmp_path)
    location.create("leases/mel-1/0.json", b"")
    with Lease(location, ["mel-1"], 0) as lease:
        assert lease.owner.pid == os.getpid()
    assert not (tmp_path / "leases/mel-1/0.json").exists()
