"""What every backend of stores must do, as test classes to subclass.

A backend of another package is tested in a few lines. Name its class in :data:`featstore.store.backends.STORES`, then::

    import pytest

    pytest.register_assert_rewrite("featstore.testing.store_contract")  # for readable failures

    from featstore.testing.store_contract import StoreContract


    class TestMyBackend(StoreContract):
        backend = "mine"

Where its stores are not folders, override the fixture ``url``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from featstore.errors import CorruptFeature, MissingFeature, StoreError
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.backends import backend_at
from featstore.store.consolidate import consolidate
from featstore.store.convert import convert
from featstore.store.diff import compare
from featstore.store.layout import choose_layout
from featstore.store.ledger import read_ledger, read_status
from featstore.store.location import Location, open_location
from featstore.store.missing import find_missing
from featstore.store.sizes import describe_features
from featstore.store.verify import verify
from featstore.store.writing import add_arrays, write_shard
from featstore.testing.stores import SPEC, header_of, track_frame, values_for, values_of, write_shards

__all__ = ["StoreContract", "stored_files"]

_TOKENS = parse_spec(
    "vq_tokens(sample_rate=400,codec=jukebox,level=2,weights=0123456789abcdef0123456789abcdef,n_codebooks=2,hop=8,"
    "n_codes=300,code_width=3)"
)
_SLAB = choose_layout(header_of(), 3).slab_frames
_LENGTHS = {0: 1, 1: 700, 3: _SLAB + 70, 4: 626, 6: 20}  # rows 2 and 5 fail; row 3 reaches into a second file
_FORMATS = [("float32", "none"), ("float16", "lz4"), ("uint16", "zstd"), ("uint8", "none")]


def stored_files(location: Location) -> dict[str, bytes]:
    """Content of every file of a store by name, without logs, leases and files in the making."""
    names = [name for name, _ in location.walk("") if name.split("/")[0] not in ("log", "leases", "staging")]
    return {name: location.read(name) for name in names}


class StoreContract:
    """Contract of a backend: round trip, fill values, lengths, resume, interruption, codebooks, verification.

    Attributes
    ----------
    backend : str
        Name in :data:`featstore.store.backends.STORES`.
    """

    backend: ClassVar[str]

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """Place for a store; names that begin with it are free, too."""
        return str(tmp_path / "store")

    def empty(self, url: str, headers: Sequence[ArrayHeader], compression: str = "none") -> Store:
        """Make a store of seven tracks in three shards, without data."""
        store = create_store(url, track_frame(7), headers, shard_tracks=3, backend=self.backend)
        add_arrays(store, headers, compression)
        return store

    def filled(self, url: str, header: ArrayHeader, compression: str = "none", **settings: Any) -> Store:
        """Make a store of seven tracks, and write all of it."""
        write_shards(self.empty(url, [header], compression), header, _LENGTHS, **settings)
        return open_store(url)

    # -- round trip -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("encoding", "compression"), _FORMATS)
    def test_what_is_written_is_read(self, url: str, encoding: str, compression: str) -> None:
        header = header_of(encoding)
        reader = self.filled(url, header, compression)[header.name]
        for row, n_frames in _LENGTHS.items():
            codes, _ = header.encoding.encode(values_of(row, n_frames))
            assert np.array_equal(reader.base.read(row), codes)
            for start, stop in ((0, min(9, n_frames)), (n_frames // 2, n_frames), (n_frames, n_frames)):
                assert np.array_equal(reader.base.read(row, start, stop), codes[:, start:stop])
            assert np.array_equal(reader.read_row(row), header.encoding.decode(codes))

    def test_what_is_missing_is_nan_and_never_zero(self, url: str) -> None:
        header = header_of("uint8")
        store = self.filled(url, header)
        reader, names = store[header.name], list(store.tracks.index)
        assert reader.lengths.tolist() == [_LENGTHS.get(row, -1) for row in range(7)]
        values = reader.read([names[0], names[6]], 0, 30)
        assert np.isnan(values[0, :, 1:]).all() and np.isnan(values[1, :, 20:]).all()
        assert not np.isnan(values[0, :, :1]).any() and not np.isnan(values[1, :, :20]).any()
        with pytest.raises(MissingFeature, match="nothing is stored for track"):
            reader[names[2]]
        with pytest.raises(StoreError, match="lie outside"):
            reader.read_row(6, 0, 21)

    def test_excerpts_are_read_as_written(self, url: str) -> None:
        spec = parse_spec("mel(n_mels=8,scale=db,clip=every(3 s, 0.5 s))")
        header = ArrayHeader(spec, Encoding.parse("uint8", spec), (8,), ("clip", "band", "frame"), None, 6)
        store = self.empty(url, [header])
        counts = {0: 1, 1: 3000, 4: 7}
        write_shards(store, header, counts)
        reader = open_store(url)[spec]
        for row, n in counts.items():
            codes, _ = header.encoding.encode(values_for(header, row, n))
            assert np.array_equal(reader.base.read(row), codes)
        assert verify(url) == []

    def test_a_length_that_the_clip_forbids_is_refused(self, url: str) -> None:
        header = header_of(fixed=10)
        store = self.empty(url, [header])
        with pytest.raises(StoreError, match="9 frames instead of 10"):
            write_shards(store, header, dict.fromkeys(range(7), 9))
        write_shards(store, header, dict.fromkeys(range(7), 10))
        assert open_store(url)[SPEC].lengths.tolist() == [10] * 7

    def test_bytes_depend_on_the_content_alone(self, url: str) -> None:
        header = header_of("uint16")
        one = self.filled(url, header, block=100)
        two = self.empty(f"{url}-2", [header])
        for shard in (2, 0, 1):
            write_shards(two, header, _LENGTHS, block=5000, only=[shard])
        assert stored_files(one.location) == stored_files(two.location)

    # -- tokens and their codebooks ---------------------------------------------------------------------------------

    def test_tokens_and_their_codebook(self, url: str) -> None:
        header = ArrayHeader(_TOKENS, Encoding.default(_TOKENS), (2,), ("codebook", "frame"))
        store = self.empty(url, [header], "zstd")
        tokens = np.arange(2 * 299).reshape(2, 299) % 300
        with write_shard(store, 0, [header.key]) as writer:
            for slot, n_frames in enumerate((299, 5, 1)):
                writer.begin(slot)
                writer.append(header.key, tokens[:, :n_frames].astype(np.float32))
                writer.end()
            writer.commit({})
        reader = open_store(url)[_TOKENS]
        assert reader.read_row(0).dtype == np.int32 and np.array_equal(reader.read_row(0), tokens)
        assert reader.read([str(store.tracks.index[1])], 0, 7)[0, :, 5:].tolist() == [[-1, -1]] * 2
        with pytest.raises(CorruptFeature, match="codebook of stored tokens is missing"):
            store.codebook(_TOKENS)
        name, vectors = str(_TOKENS.codebook_name), values_of(0, 3, (2, 300))
        store.backend.write_codebook(name, vectors, {"codec": "jukebox"})
        before = stored_files(store.location)
        store.backend.write_codebook(name, vectors, {"codec": "jukebox"})
        assert stored_files(store.location) == before and store.backend.codebook_names() == [name]
        found, attributes = open_store(url).codebook(_TOKENS)
        assert np.array_equal(found, vectors) and attributes == {"codec": "jukebox"}
        for file in (name for name in before if name.startswith("codebooks/") and len(before[name]) > vectors.nbytes):
            store.location.write(file, _flipped(before[file]))
            with pytest.raises(CorruptFeature):
                store.codebook(_TOKENS)

    # -- a store as a whole -----------------------------------------------------------------------------------------

    def test_a_store_is_recognised_and_counted(self, url: str) -> None:
        header = header_of()
        store = self.filled(url, header)
        there = backend_at(open_location(url))
        assert there is not None and there.name == self.backend == store.attributes["backend"]
        assert there.array_keys() == [header.key] == list(store.arrays)
        assert store.arrays[header.key].header == header
        assert read_status(store) == {"tracks": 7, "ok": 5, "failed": 2, "pending": 0, "by_reason": {"failed": 2}}
        assert read_ledger(store)["row"].tolist() == [2, 5]
        files = dict(store.location.walk(f"features/{header.key}"))
        slabs = [name for record in store.records(header.key).values() for name in record.files]
        assert set(slabs) <= set(files)
        assert len(files) == 4 + store.backend.metadata_count(header, 3), "three shards, one of them in two files"
        assert describe_features(store)[0]["bytes"] == sum(files.values())

    def test_reading_changes_nothing(self, url: str) -> None:
        header = header_of()
        self.filled(url, header)
        before = stored_files(open_location(url))
        store = open_store(url)
        store[SPEC].read([str(store.tracks.index[0])])
        assert describe_features(store) and verify(url) == [] == verify(url, quick=True)
        assert create_store(url, track_frame(7), [header], backend=self.backend).fingerprint == store.fingerprint
        consolidate(store)
        assert stored_files(store.location) == before

    def test_converted_there_and_back_nothing_changes(self, url: str, tmp_path: Path) -> None:
        source = self.filled(url, header_of("uint8"), "zstd")
        other = convert(url, tmp_path / "other.zarr")
        assert all(difference.provenance for difference in compare(source, other))
        again = convert(tmp_path / "other.zarr", f"{url}-2", backend=self.backend)
        assert stored_files(again.location) == stored_files(source.location)

    # -- resume and interruption ------------------------------------------------------------------------------------

    def test_a_stopped_run_goes_on(self, url: str) -> None:
        header = header_of()
        whole = stored_files(self.filled(url, header).location)
        part = self.empty(f"{url}-2", [header])
        write_shards(part, header, _LENGTHS, only=[1])
        record = part.records(header.key)[1]
        assert find_missing(part) == [(0, [header.key]), (2, [header.key])]
        assert read_status(part)["pending"] == 4
        write_shards(open_store(f"{url}-2"), header, _LENGTHS)
        assert open_store(f"{url}-2").records(header.key)[1] == record
        assert stored_files(part.location) == whole

    def test_nothing_is_visible_before_the_commit(self, url: str) -> None:
        header = header_of()
        store = self.empty(url, [header])
        before = stored_files(store.location)
        with pytest.raises(KeyboardInterrupt), write_shard(store, 0, [header.key]) as writer:
            writer.begin(0)
            writer.append(header.key, values_of(0, _SLAB + 9))
            raise KeyboardInterrupt
        assert stored_files(store.location) == before and not list(store.location.walk("leases"))
        assert find_missing(store)[0] == (0, [header.key])

    def test_a_write_that_fails_loses_nothing(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whichever write fails, what can be read afterwards is right, and the next run completes the store."""
        header, kind = header_of(), type(open_location(url))
        whole = stored_files(self.filled(url, header).location)
        count = self._write_failing(f"{url}-0", header, kind, monkeypatch, after=1 << 30)
        assert count >= 8
        for after in range(count):
            place = f"{url}-{after + 1}"
            with pytest.raises(StoreError, match="the disk is full"):
                self._write_failing(place, header, kind, monkeypatch, after)
            location = open_location(place)
            if backend_at(location) is not None:
                store = open_store(place)
                assert verify(place) == []
                for row in store[SPEC].lengths.nonzero()[0].tolist() if header.key in store.arrays else ():
                    if store[SPEC].lengths[row] > 0:
                        assert np.array_equal(store[SPEC].read_row(row), values_of(row, _LENGTHS[row]))
            assert stored_files(self.filled(place, header).location) == whole

    def _write_failing(
        self, url: str, header: ArrayHeader, kind: type[Location], monkeypatch: pytest.MonkeyPatch, after: int
    ) -> int:
        """Make a store of which all writes after some fail; return how many there were."""
        count = 0

        def counted(write: Callable[..., None]) -> Callable[..., None]:
            def step(self: Location, *args: Any) -> None:
                nonlocal count
                count += 1
                if count > after:
                    raise StoreError("the disk is full", str(self), "Free some space")
                write(self, *args)

            return step

        with monkeypatch.context() as patch:
            for name in ("write", "adopt"):
                patch.setattr(kind, name, counted(getattr(kind, name)))
            self.filled(url, header)
        return count

    # -- damage -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
    def test_damaged_data_are_named_and_never_read(self, url: str, damage: str) -> None:
        header = header_of()
        store = self.filled(url, header)
        assert verify(url) == []
        for shard, record in store.records(header.key).items():
            for name in record.files:
                content = store.location.read(name)
                _apply(damage, store.location, name, content)
                assert name in {problem.file for problem in verify(url) if problem.shard == shard}
                for row in set(_LENGTHS) & set(record.rows):
                    try:
                        values = open_store(url)[SPEC].read_row(row)
                    except CorruptFeature:
                        continue
                    assert np.array_equal(values, values_of(row, _LENGTHS[row]))
                store.location.write(name, content)
        assert verify(url) == []

    @pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
    def test_damaged_metadata_are_named(self, url: str, damage: str) -> None:
        header = header_of()
        store = self.filled(url, header)
        for name, content in store.backend.array_files(store.arrays[header.key], 7, 1).items():
            content = store.location.read(name)
            _apply(damage, store.location, name, content)
            assert name in {problem.file for problem in verify(url)}, name
            store.location.write(name, content)
        _apply(damage, store.location, store.backend.root, b"{}")
        with pytest.raises(StoreError, match=r"there is no store|its root is damaged"):
            open_store(url)


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


def _apply(damage: str, location: Location, name: str, content: bytes) -> None:
    """Damage a file behind the store's back."""
    if damage == "remove":
        location.remove(name)
    else:
        location.write(name, {"flip": _flipped(content), "cut": content[: len(content) // 2], "empty": b""}[damage])
