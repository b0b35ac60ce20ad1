"""What a bucket may do to a run: refuse, vanish, stutter; each in words, in bounded time, and without harm."""

import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from places import Place

from featstore import object_client
from featstore.errors import MissingDependency, ObjectStorageError, StoreError
from featstore.store import create_store, open_store, s3_location
from featstore.store.verify import verify
from featstore.store.writing import add_arrays, write_shard
from featstore.testing.s3_gate import Gate, s3_gate
from featstore.testing.s3_server import S3Server
from featstore.testing.stores import LENGTHS, SPEC, header_of, make_store, track_frame, values_of, write_shards


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate in front of the server, which the library takes for the server."""
    with s3_gate(s3.endpoint) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        yield made


@pytest.fixture
def place(s3: S3Server) -> Place:
    return Place(f"s3://{s3.new_bucket()}/x.zarr", s3)


def attempts(url: str) -> dict[str, Callable[[], object]]:
    return {
        "open": lambda: open_store(url),
        "create": lambda: create_store(url, track_frame(3), [header_of()]),
        "verify": lambda: verify(url),
    }


@pytest.mark.parametrize("what", ["open", "create", "verify"])
def test_a_missing_bucket_is_named(s3: S3Server, what: str) -> None:
    with pytest.raises(ObjectStorageError, match=r"there is no bucket 'no-such-bucket' at http://127.*Create it"):
        attempts("s3://no-such-bucket/x.zarr")[what]()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["open", "create", "verify"])
def test_denied_access_says_what_to_check(gate: Gate, place: Place, what: str) -> None:
    gate.rule = lambda request: "AccessDenied"
    with pytest.raises(ObjectStorageError, match=r"access to bucket .* is denied.*AWS_ACCESS_KEY_ID"):
        attempts(place.url)[what]()


def test_foreign_and_missing_credentials(gate: Gate, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.rule = lambda request: "InvalidAccessKeyId" if request.method == "GET" else None
    with pytest.raises(ObjectStorageError, match="credentials are not accepted"):
        create_store(place.url, track_frame(3), [header_of()])
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ObjectStorageError, match="no credentials for S3 were found"):
        open_store(place.url)


@pytest.mark.slow
def test_read_only_credentials_can_read_and_say_so_when_writing(gate: Gate, place: Place) -> None:
    make_store(place.url)
    gate.rule = lambda request: None if request.method in ("GET", "HEAD") else "AccessDenied"
    store = open_store(place.url)
    assert store[SPEC].read_row(3).shape == (8, LENGTHS[3]) and verify(place.url) == []
    with pytest.raises(ObjectStorageError, match="denied"), write_shard(store, 0, [header_of().key]):
        pass
    assert verify(place.url) == []


@pytest.mark.slow
def test_a_server_that_is_down_is_named_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    began = time.monotonic()
    with pytest.raises(ObjectStorageError, match=rf"{closed} does not answer.*AWS_ENDPOINT_URL and the network"):
        open_store(place.url)
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_client, "READ_S", 0.5)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(ObjectStorageError, match="does not answer"):
            open_store(place.url)
        assert time.monotonic() - began < 20


def test_settings_that_cannot_be_used(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not a url")
    with pytest.raises(ObjectStorageError, match="settings for S3 cannot be used"):
        open_store(place.url)


@pytest.mark.slow
def test_transient_errors_are_tried_again(gate: Gate, place: Place) -> None:
    """Every request fails once, by turns in three ways, before it goes through; the store is the same."""
    seen: Counter[tuple[str, str]] = Counter()
    kinds = ["SlowDown", "InternalError", "cut"]

    def stutter(request) -> str | None:
        first = seen[request.method, request.path] == 0
        seen[request.method, request.path] += 1
        kind = kinds[len(seen) % 3]
        if not first or len(seen) > 12:
            return None
        return "SlowDown" if kind == "cut" and request.method != "GET" else kind

    gate.rule = stutter
    make_store(place.url)
    assert max(seen.values()) > 1 and verify(place.url) == []
    gate.rule = lambda request: None
    for row, n_frames in LENGTHS.items():
        assert (open_store(place.url)[SPEC].read_row(row) == values_of(row, n_frames)).all()


@pytest.mark.slow
def test_an_outage_in_the_middle_harms_nothing(gate: Gate, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the n-th write on nothing goes through: no half-written shard is seen, and the next run completes it."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    make_store(place.url)
    whole = place.files()
    header = header_of()
    for name in list(whole):
        if name.startswith(("commits/", "features/mel")) or name == "manifest.json":
            place.replace(name, None)
    for n_writes in (1, 4, 7, 10, 14):
        count = Counter[str]()

        def outage(request, count=count, n_writes=n_writes) -> str | None:
            count[request.method] += 1
            return "InternalError" if count["PUT"] > n_writes else None

        gate.rule = outage
        try:
            store = open_store(place.url)
            add_arrays(store, [header])
            write_shards(store, header)
        except ObjectStorageError as error:
            assert "out of service" in str(error)
        gate.rule = lambda request: None
        for file in [name for name in place.files() if name.startswith("leases/")]:
            place.replace(file, None)  # this process lives, so its leases would count
        opened = open_store(place.url)
        if header.key in opened.arrays:
            assert not [p for p in verify(place.url) if p.shard >= 0]
            for row in LENGTHS:
                if opened[SPEC].lengths[row] >= 0:
                    assert (opened[SPEC].read_row(row) == values_of(row, LENGTHS[row])).all()
    gate.rule = lambda request: None
    store = open_store(place.url)
    add_arrays(store, [header])
    write_shards(store, header)
    assert place.files() == whole


@pytest.mark.slow
def test_an_outage_is_no_damage(gate: Gate, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be read must not be taken for a broken one: repair would compute it all again."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    make_store(place.url)
    for broken in ("commits/", "/data/c/", "manifest.json", "tracks.parquet"):
        gate.rule = lambda request, broken=broken: "InternalError" if broken in request.path else None
        with pytest.raises(ObjectStorageError, match="out of service"):
            verify(place.url)


@pytest.mark.slow
def test_a_server_without_conditions_is_refused_for_writing(gate: Gate, place: Place) -> None:
    def forget_conditions(request) -> None:
        for name in ("If-None-Match", "If-Match"):
            request.headers.pop(name, None)

    make_store(place.url)
    s3_location._conditional.clear()  # as a new process, which has not seen yet that conditions hold
    gate.rule = forget_conditions
    assert open_store(place.url)[SPEC].read_row(3).shape == (8, LENGTHS[3])
    with (
        pytest.raises(ObjectStorageError, match="ignores If-None-Match"),
        write_shard(open_store(place.url), 0, [header_of().key]),
    ):
        pass
    assert not [name for name in place.files() if name.startswith("leases/")]


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(MissingDependency, match=r"featstore\[s3\]"):
        open_store("s3://bucket/x.zarr")


def test_other_kinds_of_urls_are_refused() -> None:
    with pytest.raises(StoreError, match="gs:// are not supported"):
        open_store("gs://bucket/x.zarr")
