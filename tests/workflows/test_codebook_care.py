"""Codebooks through diff, pack, convert, verify and repair."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

import featstore.features.weights as places
from featstore.errors import CorruptFeature
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features, resolve
from featstore.features.weights import PLACES_VARIABLE
from featstore.specs import parse_spec
from featstore.store.codebooks import needed_codebooks
from featstore.store.convert import convert
from featstore.store.diff import compare
from featstore.store.opening import open_store
from featstore.store.pack import pack
from featstore.store.store import Store
from featstore.store.verify import verify
from featstore.workflows.indexing import index_tracks
from featstore.workflows.repair import repair
from featstore_cli.main import main
from tests.models.jukebox_files import random_level, small_config, write_container

SYNC = ExtractOptions(scheduler="sync", jobs=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_container(
        "original", [random_level(small_config(level), level) for level in range(3)], tmp_path_factory.mktemp("weights")
    )


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for name in "ab":
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, 20_000), 44100, subtype="FLOAT")
    return folder


def name_of(weights: Path, kind: str = "vq_tokens") -> str:
    return f"{kind}(codec=jukebox,level=2,weights={weights})"


@pytest.fixture
def stores(weights, music, tmp_path):
    def make(folder: str, backend: str = "zarr", *more: str) -> Store:
        options = ExtractOptions(scheduler="sync", jobs=1, backend=backend)
        requests = expand_features([name_of(weights), *more])
        extract(index_tracks("folder", music), requests, tmp_path / folder, options)
        return open_store(tmp_path / folder)

    return make


def book_file(store: Store, weights: Path) -> Path:
    name = resolve(parse_spec(name_of(weights))).codebook_name
    inner = f"{name}/c/0/0/0" if store.backend.name == "zarr" else f"{name}.h5"
    return Path(str(store.location)) / "codebooks" / inner


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-40] ^= 4
    path.write_bytes(bytes(data))


@pytest.fixture
def nobody_knows(monkeypatch):
    """The weights are known to nobody but through what a test says."""
    monkeypatch.setattr(places, "_places", {})
    monkeypatch.delenv(PLACES_VARIABLE, raising=False)


# -- compare, convert, pack ------------------------------------------------------------------------------------------


def test_equal_codebooks_are_no_difference_whatever_the_backend(stores, tmp_path):
    a, b = stores("a"), stores("b", "hdf5")
    assert all(one.provenance for one in compare(a, b))
    assert all(one.provenance for one in compare(a, convert(tmp_path / "a", tmp_path / "c")))
    assert all(one.provenance for one in compare(a, pack(tmp_path / "a", tmp_path / "p.h5")))
    assert all(one.provenance for one in compare(a, convert(tmp_path / "p.h5", tmp_path / "d", backend="zarr")))


def test_codebooks_that_differ_are_told(stores, weights):
    a, b = stores("a"), stores("b")
    spec = resolve(parse_spec(name_of(weights)))
    vectors, about = b.codebook(spec)
    vectors[0, 3:5, 1] += 1e-6
    b.backend.write_codebook(spec.codebook_name, vectors, about | {"provenance": {"file": "another.safetensors"}})
    told = [str(one) for one in compare(a, b) if not one.provenance]
    assert told == [f"store: 2 code vectors of the codebook {spec.codebook_name} differ"]
    assert any("the attribute provenance of the codebook" in str(one) for one in compare(a, b) if one.provenance)
    b.backend.write_codebook(spec.codebook_name, vectors[:, :30], about)
    assert any("has the shape (1, 40, 5) and (1, 30, 5)" in str(one) for one in compare(a, b))
    c = stores("c", "zarr", name_of(weights).replace("level=2", "level=1"))
    assert any("only the second store has the codebook jukebox-" in str(one) for one in compare(a, c))


def test_what_is_damaged_is_neither_compared_nor_copied(stores, weights, tmp_path):
    a, b = stores("a"), stores("b")
    flip(book_file(a, weights))
    with pytest.raises(CorruptFeature, match=r"checksum.*Mend it first: featstore store repair"):
        compare(b, a)
    for copy in (lambda: convert(tmp_path / "a", tmp_path / "c"), lambda: pack(tmp_path / "a", tmp_path / "p.h5")):
        with pytest.raises(CorruptFeature, match="fail their checksum"):
            copy()
    shutil.rmtree(tmp_path / "a" / "codebooks")
    shutil.rmtree(tmp_path / "c")
    for copy in (lambda: convert(tmp_path / "a", tmp_path / "c"), lambda: pack(tmp_path / "a", tmp_path / "p.h5")):
        with pytest.raises(CorruptFeature, match="the codebook of stored tokens is missing"):
            copy()
    assert not (tmp_path / "p.h5").exists()


def test_a_packed_file_shows_its_codebook_to_plain_readers(stores, weights, tmp_path):
    store = stores("a")
    spec = resolve(parse_spec(name_of(weights)))
    packed = pack(tmp_path / "a", tmp_path / "p.h5")
    assert verify(tmp_path / "p.h5") == []
    codes = resolve(parse_spec(name_of(weights, "vq_codes")))
    assert np.array_equal(packed[codes]["a.wav"], store[codes]["a.wav"])
    with h5py.File(tmp_path / "p.h5", "r+") as file:
        book = file[f"codebooks/{spec.codebook_name}"]
        assert np.array_equal(book[...], store.codebook(spec)[0])
        book[0, 0, 0] = 7.0
    assert [problem.what for problem in verify(tmp_path / "p.h5")] == [
        "the codebook for plain readers differs from the store's own"
    ]
    with h5py.File(tmp_path / "p.h5", "r+") as file:
        del file["codebooks"]  # as files were packed before
    assert verify(tmp_path / "p.h5") == []


# -- verify and repair -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("damage", ["flipped", "lost", "metadata"])
def test_a_codebook_is_written_again_from_the_weights(
    backend, damage, stores, weights, tmp_path, nobody_knows, monkeypatch
):
    store = stores("s", backend)
    before = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file() and "log" not in p.parts}
    file = book_file(store, weights)
    if damage == "flipped":
        flip(file)
    elif damage == "lost":
        shutil.rmtree(tmp_path / "s" / "codebooks")
    elif backend == "zarr":
        (file.parents[3] / "zarr.json").write_bytes(b"{}")
    else:
        file.write_bytes(file.read_bytes()[:100])
    found = verify(tmp_path / "s")
    assert found and all(problem.file.startswith("codebooks/") for problem in found)
    places._places.clear()  # as in a new process: the store noted where the weights are
    monkeypatch.delenv(PLACES_VARIABLE, raising=False)
    report = repair(tmp_path / "s", options=SYNC)
    assert report.found and report.left == [] and report.shards == 0
    assert {p: p.read_bytes() for p in before} == before


def test_a_lost_codebook_of_an_unfinished_store_is_noticed(stores, weights, music, tmp_path):
    table = index_tracks("folder", music)
    extract(
        table,
        expand_features([name_of(weights)]),
        tmp_path / "s",
        ExtractOptions(scheduler="sync", jobs=1, shard_tracks=1, limit=1),
    )
    assert needed_codebooks(open_store(tmp_path / "s")) and verify(tmp_path / "s") == []
    shutil.rmtree(tmp_path / "s" / "codebooks")
    problems = verify(tmp_path / "s", quick=True)
    assert [problem.what for problem in problems] == ["the codebook of stored tokens is missing"]
    assert "vq_tokens(codec=jukebox" in problems[0].feature


def test_without_weights_it_is_said_what_to_do(stores, weights, tmp_path, nobody_knows, monkeypatch, caplog, capsys):
    moved = tmp_path / "elsewhere.pth.tar"
    store = stores("s")
    flip(book_file(store, weights))
    shutil.rmtree(tmp_path / "s" / "log")
    places._places.clear()
    monkeypatch.delenv(PLACES_VARIABLE, raising=False)
    with caplog.at_level(logging.ERROR):
        report = repair(tmp_path / "s", options=SYNC)
    assert report.left and all(problem.file.startswith("codebooks/") for problem in report.left)
    assert "cannot be written again: the jukebox weights" in caplog.text
    assert PLACES_VARIABLE in caplog.text
    with pytest.raises(SystemExit) as ended:
        main(["store", "repair", str(tmp_path / "s"), "-j", "1"])
    assert ended.value.code == 3
    assert "codebooks/jukebox-" in capsys.readouterr().out
    shutil.copy(weights, moved)
    monkeypatch.setenv(PLACES_VARIABLE, str(moved))
    assert repair(tmp_path / "s", options=SYNC).left == [] and verify(tmp_path / "s") == []


def test_a_stale_path_in_the_log_does_not_hide_the_right_file(stores, weights, tmp_path, nobody_knows, monkeypatch):
    right = shutil.copy(weights, tmp_path / "right.pth.tar")
    store = stores("s")
    flip(book_file(store, weights))
    stale = tmp_path / "stale.pth.tar"
    stale.write_bytes(b"another file by now")
    for note in (tmp_path / "s" / "log" / "weights").iterdir():
        note.write_text(json.dumps({"path": str(stale)}))
    places._places.clear()
    monkeypatch.setenv(PLACES_VARIABLE, str(right))
    assert repair(tmp_path / "s", options=SYNC).left == [] and verify(tmp_path / "s") == []


@pytest.mark.parametrize("more", [False, True])
def test_another_codebook_in_its_place_is_not_taken_for_right(
    more, stores, weights, tmp_path, nobody_knows, monkeypatch
):
    """Its checksums fit, the manifest's do not: a repair that cannot mend it may not write a new manifest over that."""
    store = stores("s")
    spec = resolve(parse_spec(name_of(weights)))
    vectors, about = store.codebook(spec)
    store.backend.write_codebook(spec.codebook_name, vectors + 1, about)
    shutil.rmtree(tmp_path / "s" / "log")
    places._places.clear()
    monkeypatch.delenv(PLACES_VARIABLE, raising=False)
    if more:  # something else beside it is mended
        next((tmp_path / "s" / "requests").iterdir()).write_bytes(b"{}")
    for _ in range(1 if more else 2):
        report = repair(tmp_path / "s", options=SYNC)
        assert [problem.file for problem in report.left] == [f"codebooks/{spec.codebook_name}/c/0/0/0"]
    if more:
        return
    monkeypatch.setenv(PLACES_VARIABLE, str(weights))
    assert repair(tmp_path / "s", options=SYNC).left == []
    assert np.array_equal(open_store(tmp_path / "s").codebook(spec)[0], vectors)
