"""Packed commit records: one file an array, read with plain means, and safe beside writers, readers and each other."""

import hashlib
import json
import threading
import time
from pathlib import Path

import pytest
from places import Place

from featstore.errors import CorruptFeature, MissingFeature, NewerFormat, ObjectStorageError
from featstore.store import Store, create_store, open_store, opening, record_pack, records
from featstore.store.consolidate import consolidate
from featstore.store.convert import convert
from featstore.store.diff import compare
from featstore.store.leases import PACKING, hold_store
from featstore.store.ledger import read_status
from featstore.store.location import FolderLocation, open_location
from featstore.store.missing import find_missing
from featstore.store.pack import pack
from featstore.store.pack_records import forget_pairs, pack_records
from featstore.store.record_pack import pack_name
from featstore.store.records import committed_shards, last_generation, read_record, read_records, scan_records
from featstore.store.verify import verify
from featstore.store.writing import add_arrays, add_tracks, write_shard
from featstore.testing.s3_gate import Request, s3_gate
from featstore.testing.s3_server import S3Server
from featstore.testing.stores import LENGTHS, SPEC, header_of, make_store, track_frame, values_of, write_shards

KEY = header_of().key
PACKED = pack_name(KEY)


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "x.zarr"))


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack however few there are; tests that make an unpacked store first raise the number again."""
    monkeypatch.setattr(record_pack, "PACK_FROM", 1)


def unpacked(place: Place, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(record_pack, "PACK_FROM", 10**9)
    store = make_store(place.url)
    monkeypatch.setattr(record_pack, "PACK_FROM", 1)
    return store


def commits(place: Place) -> list[str]:
    return sorted(name for name in place.files() if name.startswith("commits/"))


def is_whole(place: Place) -> None:
    store = open_store(place.url)
    reader = store[SPEC]
    assert reader.lengths.tolist() == [LENGTHS.get(row, -1) for row in range(10)]
    assert all((reader.read_row(row) == values_of(row, n)).all() for row, n in LENGTHS.items())
    assert read_status(store)["by_reason"] == {"failed": 1}
    assert verify(place.url) == [] and verify(place.url, quick=True) == []


def replace_shard(store: Store, shard: int = 1) -> None:
    with write_shard(store, shard, [KEY]) as writer:
        for slot, row in enumerate(store.shard_rows(shard)):
            writer.begin(slot, f"source-{row}")
            if row not in LENGTHS:
                writer.fail(slot, "failed", "decode", "cannot be decoded", f"/music/{row}")
                continue
            writer.append(KEY, values_of(row, LENGTHS[row]))
            writer.end()
        writer.commit({"featstore": "test"})


@pytest.mark.slow
def test_a_finished_store_has_one_file_of_records_an_array(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Place(str(tmp_path / "plain.zarr"))
    before = unpacked(plain, monkeypatch)
    store = make_store(place.url)
    assert commits(place) == [PACKED] and commits(plain) == [f"commits/{KEY}/{shard}.json" for shard in range(3)]
    is_whole(place)
    assert store.fingerprint == before.fingerprint and read_status(store) == read_status(before)
    assert (before.attributes["format"], store.attributes["format"]) == (1, 2)
    assert list(committed_shards(store.location, KEY)) == [0, 1, 2]
    assert [read_record(store.location, KEY, shard) for shard in range(3)] == list(before.records(KEY).values())
    assert read_record(store.location, KEY, 3) is None and read_record(store.location, "nothing", 0) is None
    listed = json.loads(place.files()["manifest.json"])
    assert [name for name in listed["files"] if name.startswith("commits/")] == [PACKED]
    assert listed["store"]["format"] == 2


@pytest.mark.slow
def test_the_page_tells_how_to_read_them(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/format.md says it, without our code."""
    plain = Place(str(tmp_path / "plain.zarr"))
    unpacked(plain, monkeypatch)
    make_store(place.url)
    data = place.files()[PACKED]
    *lines, last = data.decode().splitlines()
    for shard, line in enumerate(lines):
        assert json.loads(line) == json.loads(plain.files()[f"commits/{KEY}/{shard}.json"])
    for line in (*lines, last):
        content = json.loads(line)
        digest = content.pop("digest")
        text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        assert hashlib.sha256(text.encode()).hexdigest() == digest
    index = json.loads(last)
    assert (index["format"], index["key"]) == (2, KEY)
    assert [json.loads(data[start : start + size])["shard"] for _, _, start, size in index["index"]] == [0, 1, 2]
    assert [entry[:2] for entry in index["index"]] == [[0, 1], [1, 1], [2, 1]]


def test_few_records_stay_files_of_their_own(folder: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_pack, "PACK_FROM", 4)
    assert make_store(folder.url).attributes["format"] == 1 and len(commits(folder)) == 3
    monkeypatch.setattr(record_pack, "PACK_FROM", 3)
    consolidate(open_store(folder.url))
    assert commits(folder) == [PACKED]


def test_an_unfinished_store_is_not_packed(folder: Place) -> None:
    store = create_store(folder.url, track_frame(10), [header_of()], shard_tracks=4)
    add_arrays(store, [header_of()])
    replace_shard(store)
    consolidate(store)
    assert commits(folder) == [f"commits/{KEY}/1.json"] and open_store(folder.url).attributes["format"] == 1


def test_versions_that_know_no_packs_refuse_the_store(folder: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(folder.url)
    monkeypatch.setattr(opening, "NEWEST_FORMAT", 1)
    with pytest.raises(NewerFormat, match=r"store has format 2, this version reads up to 1.*Upgrade"):
        open_store(folder.url)


def test_an_index_of_the_future_is_refused(folder: Place) -> None:
    make_store(folder.url)
    *lines, last = folder.files()[PACKED].splitlines()
    folder.replace(PACKED, b"\n".join([*lines, json.dumps(json.loads(last) | {"format": 9}).encode() + b"\n"]))
    with pytest.raises(NewerFormat, match=r"index of packed commit records of format 9.*Upgrade featstore"):
        read_status(open_store(folder.url))


# -- writers on a packed store ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_shard_is_replaced_and_packed_again(place: Place) -> None:
    store = make_store(place.url)
    first = place.files()[PACKED]
    replace_shard(store)
    assert commits(place) == [f"commits/{KEY}/1.json", PACKED] and place.files()[PACKED] == first
    found = read_records(open_store(place.url).location, KEY)
    assert [found[shard].generation for shard in range(3)] == [1, 2, 1]
    assert verify(place.url, quick=True) == []
    consolidate(store)
    assert commits(place) == [PACKED]
    assert [r.generation for r in open_store(place.url).records(KEY).values()] == [1, 2, 1]
    is_whole(place)


@pytest.mark.slow
def test_a_pair_that_is_being_replaced_does_not_exist(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(place.url)
    seen = []
    real = type(store.location).adopt

    def adopt(self, staged, name):
        other = open_store(place.url)
        seen.append((list(committed_shards(other.location, KEY)), read_record(other.location, KEY, 1)))
        assert find_missing(other, [KEY]) == [(1, [KEY])] and verify(place.url) == []
        with pytest.raises(MissingFeature):
            other[SPEC].read_row(4)
        real(self, staged, name)

    with monkeypatch.context() as patch:
        patch.setattr(type(store.location), "adopt", adopt)
        replace_shard(store)
    assert seen == [([0, 2], None)]
    is_whole(place)


def test_tracks_and_arrays_are_added_to_a_packed_store(folder: Place) -> None:
    make_store(folder.url)
    store = open_store(folder.url)
    assert add_tracks(store, track_frame(12)) == 2
    assert find_missing(store, [KEY]) == [(3, [KEY])]
    other = header_of("uint8")
    add_arrays(store, [other])
    write_shards(store, header_of(), LENGTHS | {12: 3, 13: 4})
    assert f"commits/{KEY}/3.json" in commits(folder)  # the other array is not there yet
    write_shards(store, other, LENGTHS | {12: 3, 13: 4})
    assert commits(folder) == sorted([PACKED, pack_name(other.key)])
    reopened = open_store(folder.url)
    assert verify(folder.url) == [] and list(committed_shards(reopened.location, KEY)) == [0, 1, 2, 3]
    assert read_status(reopened)["ok"] == 11 and find_missing(reopened, list(reopened.arrays)) == []


@pytest.mark.slow
def test_a_writer_waits_until_packing_ends(place: Place) -> None:
    store = make_store(place.url)
    entered = threading.Event()

    def write() -> None:
        with write_shard(open_store(place.url), 2, [KEY]):
            entered.set()

    with hold_store(store.location, PACKING):
        thread = threading.Thread(target=write)
        thread.start()
        assert not entered.wait(0.4)
    assert entered.wait(20)
    thread.join()


@pytest.mark.slow
def test_nothing_is_packed_while_a_shard_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = unpacked(place, monkeypatch)
    with write_shard(store, 1, [KEY]):
        consolidate(store)
        assert len(commits(place)) == 3
    consolidate(store)
    assert commits(place) == [PACKED]


def test_a_hidden_record_is_not_packed(folder: Place) -> None:
    store = make_store(folder.url)
    records.hide_record(store.location, KEY, 1)
    pack_records(store)
    assert commits(folder) == [PACKED] and list(committed_shards(store.location, KEY)) == [0, 2]
    assert last_generation(store.location, KEY, 1) is None
    assert find_missing(open_store(folder.url), [KEY]) == [(1, [KEY])] and verify(folder.url) == []


# -- several at once --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_reader_that_listed_records_finds_them_in_the_pack(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = unpacked(place, monkeypatch)
    reader = open_location(place.url)
    old = reader.list(f"commits/{KEY}")
    consolidate(store)
    monkeypatch.setattr(reader, "list", lambda name: old)
    found = scan_records(reader, KEY)
    assert [item.shard for item in found] == [0, 1, 2] and {item.name for item in found} == {PACKED}
    assert list(committed_shards(reader, KEY)) == [0, 1, 2]


def test_readers_see_every_pair_once_while_others_pack(folder: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = unpacked(folder, monkeypatch)
    stop, seen = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            location = open_location(folder.url)
            seen.append(sorted(read_records(location, KEY)))
            seen.append([shard for shard in range(3) if read_record(location, KEY, shard) is not None])

    thread = threading.Thread(target=look)
    thread.start()
    failed: list[BaseException] = []

    def finish() -> None:
        try:
            consolidate(open_store(folder.url))
        except BaseException as error:
            failed.append(error)

    for _ in range(2):
        both = [threading.Thread(target=finish) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
        assert commits(folder) == [PACKED]
        replace_shard(store, 0)
        time.sleep(0.05)
    stop.set()
    thread.join()
    assert not failed and len(seen) > 10
    assert all({1, 2} <= set(each) and len(each) == len(set(each)) for each in seen)
    consolidate(store)
    is_whole(folder)


def test_a_pack_that_is_replaced_while_it_is_read_is_read_again(folder: Place, monkeypatch) -> None:
    make_store(folder.url)
    location = open_location(folder.url)
    real, tries = location.open, []

    def replaced(name: str):
        tries.append(name)
        if len(tries) % 3:
            raise ObjectStorageError("the object was replaced while it was read")
        return real(name)

    monkeypatch.setattr(location, "open", replaced)
    assert sorted(read_records(location, KEY)) == [0, 1, 2] and len(tries) == 3
    monkeypatch.setattr(location, "open", lambda name: (_ for _ in ()).throw(ObjectStorageError("no answer")))
    with pytest.raises(ObjectStorageError, match="no answer"):
        read_record(location, KEY, 0)


@pytest.mark.slow
def test_an_outage_at_any_request_of_packing_loses_nothing(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th lasting request and all after it are refused, but for those on leases; the next run goes on."""
    place = Place(f"s3://{s3.new_bucket()}/x.zarr", s3)
    store = unpacked(place, monkeypatch)
    with s3_gate(s3.endpoint) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
        outages = 0
        for allowed in range(20):
            lasting: list[str] = []

            def outage(request: Request, lasting: list[str] = lasting, allowed: int = allowed) -> str | None:
                if request.method in ("GET", "HEAD") or "/leases/" in request.path:
                    return None
                lasting.append(request.path)
                return "AccessDenied" if len(lasting) > allowed else None

            gate.rule = outage
            try:
                consolidate(store)
            except ObjectStorageError:
                outages += 1
            gate.rule = lambda request: None
            location = open_location(place.url)
            assert sorted(read_records(location, KEY)) == list(committed_shards(location, KEY)) == [0, 1, 2]
            assert [record.generation for record in read_records(location, KEY).values()] == [1, 1, 1]
            assert all(read_record(location, KEY, shard) for shard in range(3))
            if len(lasting) <= allowed:
                break
        assert outages >= 3 and commits(place) == [PACKED] and verify(place.url) == []


# -- other formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_packed_records_are_converted_packed_and_compared(backend: str, folder: Place, tmp_path: Path) -> None:
    source = make_store(folder.url)
    made = convert(folder.url, tmp_path / "made", backend=backend)
    assert commits(Place(str(tmp_path / "made"))) == [PACKED] and verify(tmp_path / "made") == []
    assert read_status(convert(folder.url, tmp_path / "made", backend=backend)) == read_status(
        source
    )  # again: nothing to do
    single = pack(tmp_path / "made", tmp_path / "one.h5")
    assert verify(tmp_path / "one.h5") == [] and single.attributes["format"] == 1
    back = convert(tmp_path / "one.h5", tmp_path / "back", backend="zarr")
    for other in (made, single, back):
        assert all(difference.provenance for difference in compare(source, other))


def test_an_older_record_beside_a_newer_packed_one_is_told(folder: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = unpacked(folder, monkeypatch)
    old = folder.files()[f"commits/{KEY}/1.json"]
    replace_shard(store)
    consolidate(store)
    folder.replace(f"commits/{KEY}/1.json", old)
    assert any("older than the packed one" in problem.what for problem in verify(folder.url))
    forget_pairs(store.location, [(KEY, 1)])
    assert list(committed_shards(store.location, KEY)) == [0, 2]
    store.refresh()
    write_shards(store, header_of())
    is_whole(folder)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_damaged_packs_are_never_read(folder: Place) -> None:
    make_store(folder.url)
    data = folder.files()[PACKED]
    middle, cut = data.index(b"\n") + 100, data[: len(data) // 2]
    for damaged in (flip(data, middle), flip(data, len(data) - 20), cut, b"", data[:-1] + b"x"):
        folder.replace(PACKED, damaged)
        store = open_store(folder.url)
        with pytest.raises(CorruptFeature, match=r"commit record.*verify, then repair"):
            store.records(KEY)
        problems = [problem for problem in verify(folder.url, quick=True) if problem.file == PACKED]
        assert problems and problems[0].key == KEY
    folder.replace(PACKED, flip(data, middle))
    assert {problem.shard for problem in verify(folder.url) if problem.file == PACKED} == {-1, 1}
    assert isinstance(store.location, FolderLocation)
