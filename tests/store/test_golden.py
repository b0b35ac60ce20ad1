"""Stores as earlier versions wrote them: they must open for ever; formats of the future are refused clearly."""

import gzip
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from featstore.errors import NewerFormat, StoreError
from featstore.specs import parse_feature
from featstore.store import Store, open_store
from featstore.store.convert import convert
from featstore.store.diff import compare
from featstore.store.ledger import read_status
from featstore.store.pack import pack
from featstore.store.verify import verify
from tests.golden.make_golden import ARRAYS, LENGTHS, headers, values_of

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.name.removesuffix(".gz").removesuffix(".tar") for path in GOLDEN.glob("[0-9]*.gz"))
PACKED11 = ["old-packed11-hdf5", "old-packed11-packed.h5", "old-packed11-zarr"]


def unpack(name: str, target: Path) -> Path:
    """A golden store in a folder (or a file) of its own."""
    if name.endswith(".h5"):
        path = target / name
        path.write_bytes(gzip.decompress((GOLDEN / f"{name}.gz").read_bytes()))
        return path
    with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
        archive.extractall(target / name, filter="data")
    return target / name


def check(store: Store) -> None:
    assert set(store.tracks.index) == set(LENGTHS) and list(store.tracks.loc["one", "labels"]) == ["x", "y"]
    assert read_status(store) == {"tracks": 5, "ok": 4, "failed": 1, "pending": 0, "by_reason": {"failed": 1}}
    assert (store.tracks.loc["three", "stage"], store.tracks.loc["three", "error"]) == ("decode", "cannot be decoded")
    assert len(store.arrays) == len(ARRAYS)
    for header, _ in headers():
        reader = store[parse_feature(header.name)]
        for track, n_frames in LENGTHS.items():
            row = reader.row_of(track)
            assert reader.lengths[row] == n_frames
            if n_frames > 0:
                codes, _ = header.encoding.encode(values_of(track, header))
                assert np.array_equal(reader.base.read(row), codes), (header.name, track)
    view = store["mel(sample_rate=100,n_mels=2,n_fft=64,hop_length=128,scale=db)"]
    assert np.array_equal(view["one"], values_of("one", headers()[0][0])[:, ::2])
    record = store.records(headers()[1][0].key)
    assert sum(part.quality["saturated"] for part in record.values()) == 1
    assert {part.versions["numpy"] for part in record.values()} == {"2.0.0"}
    assert {source for part in record.values() for source in part.sources} == {
        f"{100 + row}:0123456789abcdef" for row in range(5)
    }


def test_every_backend_has_a_golden_store() -> None:
    assert {name.rpartition("-")[2] for name in NAMES} == {"zarr", "hdf5", "packed.h5"}
    assert sum(path.stat().st_size for path in GOLDEN.glob("*.gz")) < 90_000


@pytest.mark.parametrize("name", NAMES)
def test_golden_stores_open_for_ever(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    check(open_store(path))


@pytest.mark.parametrize("name", NAMES)
def test_golden_stores_are_verified_and_converted(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    store = open_store(path)
    assert verify(path) == []
    made = convert(path, tmp_path / "again", backend="zarr" if store.backend.name == "hdf5" else "hdf5")
    check(made)
    assert verify(tmp_path / "again") == [] and all(difference.provenance for difference in compare(store, made))


def test_golden_stores_of_one_format_agree(tmp_path: Path) -> None:
    stores = [open_store(unpack(name, tmp_path)) for name in NAMES]
    for other in stores[1:]:
        assert all(difference.provenance for difference in compare(stores[0], other))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(".h5")])
def test_formats_of_the_future_are_refused(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    store = open_store(path)
    root = path / store.backend.root
    content = json.loads(root.read_text())
    content.get("attributes", content)["featstore"]["format"] = 99
    root.write_text(json.dumps(content))
    for opens in (open_store, verify, lambda p: convert(p, tmp_path / "x")):
        with pytest.raises(NewerFormat, match=r"format 99, this version reads up to \d+.*Upgrade featstore"):
            opens(path)
    path = unpack(name, tmp_path / "again")
    record = next((path / "commits").glob("*/0.json"), None) or next((path / "commits").glob("*/records.jsonl"))
    first, end, rest = record.read_text().partition("\n" if record.suffix == ".jsonl" else "\0")
    newer = json.dumps(json.loads(first) | {"format": 7}, separators=(",", ":"), sort_keys=True)
    record.write_text(newer + end + rest)
    with pytest.raises(NewerFormat, match=r"commit record of format 7.*Upgrade featstore"):
        read_status(open_store(path))


@pytest.mark.parametrize("name", PACKED11)
def test_stores_with_tokens_of_11_bits_are_only_converted(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    sentence = r"tokens in the old encoding packed11 .*Run featstore store convert .*: it writes them as uint16"
    for refused in (lambda: open_store(path).features, lambda: read_status(open_store(path)), lambda: pack(path, "x")):
        with pytest.raises(StoreError, match=sentence):
            refused()
    (problem,) = verify(path)
    assert "packed11 are read by featstore store convert only" in problem.what
    made = convert(path, tmp_path / "new.zarr")
    (reader,) = (made[name] for name in made.features)
    own = "none" if name.endswith(".h5") else "zstd"
    assert (reader.encoding.name, reader.base.layout.compression) == ("uint16", own)
    for track, n_frames in {"one": 5, "two": 700, "four": 1}.items():
        expected = (np.arange(2 * n_frames).reshape(2, n_frames) * 37 + 2047) % 2048
        assert np.array_equal(reader[track], expected)
    assert read_status(made) == {"tracks": 4, "ok": 3, "failed": 1, "pending": 0, "by_reason": {"failed": 1}}
    assert np.array_equal(made.codebook(reader.spec)[0].ravel(), np.arange(2 * 2048 * 3) % 7)
    assert verify(tmp_path / "new.zarr") == []
    assert convert(path, tmp_path / "new.zarr").features == made.features, "run again, nothing is left to do"
