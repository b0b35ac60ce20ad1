"""Tokens of several tracks computed together: the same bytes as one by one, failures per track, bounded memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import featstore.extract.window_batches as module
from featstore.errors import DecodeError, StoreError
from featstore.extract import ExtractOptions, extract
from featstore.extract.window_batches import BatchedWriter, failure_of, wants_batches
from featstore.features import expand_features, resolve
from featstore.features.vq_tokens import tokenizer_of
from featstore.features.windows import PendingWindows
from featstore.models import jukebox_tokenizer
from featstore.models.jukebox_tokenizer import JukeboxTokenizer
from featstore.models.token_windows import NEAR_TIE
from featstore.specs import parse_spec
from featstore.store.ledger import read_ledger, read_status
from featstore.store.opening import open_store
from featstore.store.sizes import describe_features
from featstore.store.store import Store
from featstore.store.verify import verify
from featstore.workflows.indexing import index_tracks
from tests.models.jukebox_files import encode_with_margins, random_level, small_config, write_container

RATE = 44100
MEL = "mel(sample_rate=16000,n_mels=20,scale=db)@uint8"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    levels = [random_level(small_config(level), level) for level in range(3)]
    levels[2].codebook[30:] = levels[2].codebook[:10]  # near ties, for certain
    return write_container("original", levels, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """Tracks of equal and of odd lengths, at two rates, and files of which nothing, or not all, comes."""
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for k, (n, rate) in enumerate(((60_000, RATE),) * 4 + ((33_333, RATE), (20_000, 22050), (130_000, RATE))):
        soundfile.write(folder / f"{k}.wav", rng.uniform(-0.5, 0.5, n), rate, subtype="FLOAT")
    soundfile.write(folder / "3b-tiny.wav", rng.uniform(-0.5, 0.5, 60), RATE, subtype="FLOAT")
    (folder / "4b-broken.wav").write_bytes(b"RIFF and nothing more")
    whole = (folder / "6.wav").read_bytes()
    (folder / "5b-cut.wav").write_bytes(whole[: len(whole) // 2])
    values = rng.uniform(-0.5, 0.5, 60_000)
    values[50_000] = np.nan
    soundfile.write(folder / "5c-nan.wav", values, RATE, subtype="FLOAT")
    return folder


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(jukebox_tokenizer, "_WINDOW_SAMPLES", (1 << 14, 1 << 14))


def features(weights: Path) -> list[str]:
    name = f"vq_tokens(codec=jukebox,level={{}},weights={weights}{{}})"
    return [
        MEL,
        name.format(2, ""),
        name.format(2, "") + "@uint16",  # a second array of the same windows
        name.format(1, ""),
        name.format(2, ",normalize=peak"),
        name.format(2, ",clip=every(0.3 s, 0.3 s)"),
    ]


def run(music: Path, target: Path, names: list[str], *, batches: bool | None, shard_tracks: int = 16, **more) -> Store:
    options = ExtractOptions(scheduler="sync", jobs=1, token_batches=batches, shard_tracks=shard_tracks, **more)
    extract(index_tracks("folder", music), expand_features(names), target, options)
    return open_store(target)


def content(path: Path) -> dict[str, bytes]:
    """Everything but times and hosts."""
    files = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if not name.startswith(("log/", "logs/"))}


@pytest.mark.slow
def test_passes_as_on_a_gpu_give_the_same_bytes_too(weights, music, tmp_path, monkeypatch):
    names = features(weights)[1:4]
    for name in names:
        monkeypatch.setattr(tokenizer_of(expand_features([name])[0].spec), "pass_size", 4)
    run(music, tmp_path / "one", names, batches=False)
    run(music, tmp_path / "many", names, batches=True)
    assert content(tmp_path / "many") == content(tmp_path / "one")


@pytest.mark.parametrize("backend", ["zarr", pytest.param("hdf5", marks=pytest.mark.slow)])
def test_the_same_bytes_as_one_by_one(backend, weights, music, tmp_path):
    plain = run(music, tmp_path / "one", features(weights), batches=False, backend=backend)
    run(music, tmp_path / "many", features(weights), batches=True, backend=backend)
    assert content(tmp_path / "many") == content(tmp_path / "one")
    assert read_status(plain)["failed"] == 4 and read_status(plain)["ok"] == 7 and verify(plain.location) == []


@pytest.mark.parametrize("batches", [False, True])
def test_a_track_without_a_token_keeps_its_other_features(batches, weights, music, tmp_path):
    store = run(music, tmp_path / "s", [MEL, features(weights)[1]], batches=batches)
    tokens, mel = (next(store[name] for name in store.features if name.startswith(kind)) for kind in ("vq", "mel"))
    assert "3b-tiny.wav" not in tokens and mel["3b-tiny.wav"].shape == (20, 1)
    assert set(mel.track_ids) - set(tokens.track_ids) == {"3b-tiny.wav"}
    told = read_ledger(store)
    one = told[told["track_id"] == "3b-tiny.wav"].iloc[0]
    assert (one["status"], one["stage"]) == ("short", "decode")
    assert "60 samples are too few for one token" in one["error"]


@pytest.mark.slow
def test_however_much_may_wait(weights, music, tmp_path, monkeypatch):
    names = [MEL, features(weights)[1]]
    run(music, tmp_path / "one", names, batches=False)
    writers: list[BatchedWriter] = []
    passes: list[int] = []
    make, encode = BatchedWriter.__init__, JukeboxTokenizer.encode_windows
    monkeypatch.setattr(BatchedWriter, "__init__", lambda self, *args: (writers.append(self), make(self, *args))[1])
    monkeypatch.setattr(
        JukeboxTokenizer, "encode_windows", lambda self, ws: (passes.append(len(ws)), encode(self, ws))[1]
    )
    counts = []
    for held in (1, 600_000, 10**9):
        passes.clear()
        monkeypatch.setattr(module, "HELD_BYTES", held)
        run(music, tmp_path / str(held), names, batches=True)
        assert content(tmp_path / str(held)) == content(tmp_path / "one")
        assert 0 < writers[-1].most_held <= held + 4 * 10 * RATE, "what may wait, and the block that came in last"
        counts.append(len(passes))
    assert len(writers) == 3 and counts[0] > counts[1] > counts[2], "the more may wait, the fewer passes"
    assert max(passes) > 5, "windows of several tracks went together"


@pytest.mark.slow
def test_audio_is_decoded_once(weights, music, tmp_path, monkeypatch):
    from featstore.extract import execute

    opened, plain = [], execute.open_audio
    monkeypatch.setattr(execute, "open_audio", lambda path, **more: (opened.append(path), plain(path, **more))[1])
    run(music, tmp_path / "s", features(weights), batches=True)
    assert len(opened) == len(set(opened)) == 11


class Stubborn:
    """Makes the model refuse every batch with a marked window in it."""

    def __init__(self, monkeypatch, mark: float, error: Exception) -> None:
        self.sizes: list[int] = []
        encode = JukeboxTokenizer.encode_windows

        def refusing(tokenizer, windows):
            self.sizes.append(len(windows))
            if any((window.samples == mark).any() for window in windows):
                raise error
            return encode(tokenizer, windows)

        monkeypatch.setattr(JukeboxTokenizer, "encode_windows", refusing)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("held", "error", "told"),
    [
        (1, RuntimeError("device out of memory"), "RuntimeError: device out of memory"),
        (10**9, DecodeError("a value that is not finite", "jukebox"), "a value that is not finite"),
    ],
)
def test_windows_that_fail_cost_their_own_track_alone(held, error, told, weights, music, tmp_path, monkeypatch):
    names = [MEL, *features(weights)[1:3]]
    samples, _ = soundfile.read(music / "1.wav", dtype="float32")
    with monkeypatch.context() as patch:
        patch.setattr(module, "HELD_BYTES", held)
        Stubborn(patch, samples[55_000], error)  # in the last of its windows: others are written by then
        store = run(music, tmp_path / "many", names, batches=True)
        report = json.loads(next((tmp_path / "many" / "log").glob("2*.json")).read_text())
    with monkeypatch.context() as patch:
        Stubborn(patch, samples[55_000], error)
        run(music, tmp_path / "one", names, batches=False)
    assert content(tmp_path / "many") == content(tmp_path / "one")
    ledger = read_ledger(store)
    row = ledger[(ledger["track_id"] == "1.wav")]
    assert (
        set(row["status"]) == {"failed"} and told in row["error"].iloc[0] and str(music / "1.wav") in set(row["path"])
    )
    assert len(row) == 3 and read_status(store)["failed"] == 5
    assert report["tracks_done"] == 11 and report["audio_s"] < 9
    again = run(music, tmp_path / "many", names, batches=True, retry=("failed",))
    assert read_status(again)["failed"] == 4 and again.tracks.loc["1.wav", "status"] == "ok"


@pytest.mark.slow
def test_near_ties_are_in_the_record_the_attributes_and_the_sizes(weights, music, tmp_path):
    import h5py
    import zarr

    name = features(weights)[1]
    for batches in (False, True):
        target = tmp_path / f"z{batches}"
        store = run(music, target, [name, MEL], batches=batches, shard_tracks=3)
        reader = store[expand_features([name])[0]]
        key = reader.base.header.key
        tokenizer = tokenizer_of(resolve(parse_spec(name)))
        expected = {}
        for track in ("0.wav", "1.wav", "2.wav", "3.wav", "4.wav", "6.wav"):
            samples, _ = soundfile.read(music / track, dtype="float32")
            ((_, gaps),) = encode_with_margins(tokenizer, [samples])
            expected[track] = int((gaps < NEAR_TIE).sum())
        assert sum(expected.values()) > 20
        records = store.records(key)
        assert len(records) == 4
        for record in records.values():
            inside = [t for t in expected if store.tracks.loc[t, "row"] in record.rows]
            has_slow = store.tracks.loc["5.wav", "row"] in record.rows
            counted = record.quality.get("near_ties", 0)
            assert (
                counted >= sum(expected[t] for t in inside) if has_slow else counted == sum(expected[t] for t in inside)
            )
        total = sum(int(record.quality.get("near_ties", 0)) for record in records.values())
        rows = {row["key"]: row for row in describe_features(store)}
        assert rows[key]["near_ties"] == total >= sum(expected.values())
        other = next(row for other, row in rows.items() if other != key)
        assert other["near_ties"] is None, "a mel-spectrogram has none, which is not zero"
        attributes = zarr.open_array(str(target / "features" / key / "data"), mode="r").attrs
        assert (
            attributes["near_ties"] == total
            and "near_ties" not in zarr.open_array(str(target / "features" / other["key"] / "data"), mode="r").attrs
        )
    run(music, tmp_path / "h", [name], batches=True, backend="hdf5")
    with h5py.File(tmp_path / "h" / "master.h5", "r") as master:
        assert master[f"features/{key}/data"].attrs["near_ties"] == total


def test_who_waits(weights):
    from featstore.extract.plan import make_plan

    tokens = make_plan(expand_features([features(weights)[1], MEL])).graph
    assert wants_batches(tokens, True) and not wants_batches(tokens, False)
    assert not wants_batches(make_plan(expand_features([MEL])).graph, True)
    import torch

    assert wants_batches(tokens, None) == torch.cuda.is_available()


def test_failures_that_are_nobodys_own_go_on():
    with pytest.raises(StoreError, match="no space"):
        failure_of(StoreError("no space"))
    assert failure_of(ValueError("x")) == ("failed", "compute", "ValueError: x")
    assert PendingWindows(None, []).size == PendingWindows(None, []).nbytes == 0
