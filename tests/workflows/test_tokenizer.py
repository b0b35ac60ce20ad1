"""Tokenizers from files to files: the commands, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from featstore.datasets import TrackTable
from featstore.errors import CheckpointError, ConfigError, DatasetError, DecodeError
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features
from featstore.models.jukebox_checkpoint import export_levels, load_level
from featstore.models.trained_on import TrainedOn
from featstore.store import open_store
from featstore.training.config import DataConfig
from featstore.training.labels import label_tracks
from featstore.training.seen_data import check_encoders, outside_data
from featstore.workflows.indexing import index_tracks
from featstore.workflows.tokenizer import decode_file, encode_file, read_tokens, train_tokenizer
from featstore_cli.main import cli, main
from tests.models.jukebox_files import random_level, small_config, write_container

RATE = 44100
SMALL = {"codes": 16, "width": 4, "depth": 1, "embedding": 4, "batch": 2, "samples": 2048, "steps": 8, "plain_steps": 3}


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for number in range(4):
        time = np.arange(40_000) / RATE
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 900) * time) + rng.normal(0, 0.02, len(time))
        soundfile.write(folder / f"{number}.wav", tone, RATE if number else 22050, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    levels = [random_level(small_config(level), level) for level in range(3)]
    return write_container("safetensors file", levels, tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("name", ["own.safetensors", "own.pth.tar"])
def test_a_trained_tokenizer_is_a_checkpoint_with_a_report(name, music, tmp_path):
    made = train_tokenizer(index_tracks("folder", music), tmp_path / name, preset="tiny", **SMALL)
    loaded = load_level(tmp_path / name, 2)
    assert loaded.digest == made.digest and loaded.model.config.codes == 16
    report = json.loads((tmp_path / f"{name}.report.json").read_text())
    assert 0 < report["used"] <= 1 and report["tokens"] > 50 and report["training"]["steps"] == 8
    assert report["training"]["tracks"] + len(made.held_out) == 4
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.report.json"}  # no state is left
    first = encode_file(music / "1.wav", f"vq_tokens(weights={tmp_path / name})", tmp_path / "t.npz")
    assert first.tokens.shape == (1, 40_000 // 128)


def test_splits_decide_what_is_held_out(music, tmp_path):
    table = index_tracks("folder", music)
    table.frame["split"] = ["train", "train", "test", "train"]
    made = train_tokenizer(table, tmp_path / "t.safetensors", preset="tiny", **SMALL)
    assert made.report["training"]["tracks"] == 3 and len(made.held_out) == 1
    samples, _ = soundfile.read(music / "2.wav", dtype="float32")
    assert np.array_equal(made.held_out[0], samples)


@pytest.mark.parametrize("name", ["own.safetensors", "own.pth.tar"])
def test_a_tokenizer_names_the_tracks_it_was_trained_on_beside_its_digest(name, music, tmp_path):
    table = index_tracks("folder", music)
    ids = list(table.frame["track_id"])
    table = TrackTable(
        table.frame.assign(split=["train", "train", "test", "train"], group=["a", None, "b", "a"]), table.info
    )
    made = train_tokenizer(table, tmp_path / name, preset="tiny", **SMALL)
    loaded = load_level(tmp_path / name, 2)
    data = table.info.name
    heard = {f"{data}: track {ids[number]}" for number in (0, 1, 3)} | {f"{data}: group a"}
    assert loaded.trained_on == TrainedOn(data, tuple(sorted(heard)))
    export_levels([loaded.model], tmp_path / "bare.safetensors")
    bare = load_level(tmp_path / "bare.safetensors", 2)
    assert bare.trained_on is None and bare.digest == made.digest


@pytest.mark.slow
def test_runs_refuse_tokens_of_a_tokenizer_that_heard_their_test_tracks(music, tmp_path):
    table = index_tracks("folder", music)
    table = TrackTable(
        table.frame.assign(split=["train", "train", "valid", "test"], labels=[("a",), ("b",), ("a",), ("b",)]),
        replace(table.info, task="single_label", classes=("a", "b"), label_column="labels"),
    )
    train_tokenizer(table, tmp_path / "t.safetensors", preset="tiny", **SMALL)
    requests = expand_features([f"vq_tokens(weights={tmp_path / 't.safetensors'})"])
    extract(table, requests, tmp_path / "s", ExtractOptions(jobs=1))
    store = open_store(tmp_path / "s")
    (feature,) = store.features
    readers, data = {"input": store[feature]}, DataConfig()
    own = label_tracks(table, list(table.frame["track_id"]), data, where="here")
    check_encoders(store, readers, own)
    assert outside_data(store, readers, own) == ""
    moved = TrackTable(table.frame.assign(split=["test", "train", "valid", "train"]), table.info)
    other = label_tracks(moved, list(table.frame["track_id"]), data, where="here")
    first = table.frame["track_id"].iloc[0]
    with pytest.raises(DatasetError, match=rf"its tokenizer was trained on track {first} of this run's split test"):
        check_encoders(store, readers, other)
    assert outside_data(store, readers, replace(own, dataset="others")) == table.info.name


def test_music_that_cannot_be_used(music, tmp_path, caplog):
    (tmp_path / "m").mkdir()
    soundfile.write(tmp_path / "m" / "short.wav", np.zeros(100), RATE)
    with pytest.raises(DatasetError, match=r"no track can be used.*shorter than 2048 samples"):
        train_tokenizer(index_tracks("folder", tmp_path / "m"), tmp_path / "t.safetensors", preset="tiny", **SMALL)
    (tmp_path / "m" / "broken.wav").write_bytes(b"RIFF nothing")
    for number in range(3):
        (tmp_path / "m" / f"{number}.wav").write_bytes((music / f"{number}.wav").read_bytes())
    train_tokenizer(index_tracks("folder", tmp_path / "m"), tmp_path / "t.safetensors", preset="tiny", **SMALL)
    assert "tracks are left out; the first" in caplog.text
    with pytest.raises(ConfigError, match=r"minutes=0"):
        train_tokenizer(index_tracks("folder", music), tmp_path / "u.safetensors", minutes=0)
    with pytest.raises(ConfigError, match=r"unknown preset 'big'"):
        train_tokenizer(index_tracks("folder", music), tmp_path / "u.safetensors", preset="big")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_encode_and_decode_files(suffix, music, weights, tmp_path):
    name = f"vq_tokens(codec=jukebox,level=1,weights={weights})"
    made = encode_file(music / "1.wav", name, tmp_path / f"t{suffix}")
    tokens, spec = read_tokens(tmp_path / f"t{suffix}")
    assert np.array_equal(tokens, made.tokens) and str(spec) == made.spec and tokens.dtype == np.uint8
    told = decode_file(tmp_path / f"t{suffix}", tmp_path / "t.wav", weights=weights)
    wave, rate = soundfile.read(tmp_path / "t.wav")
    assert rate == RATE and len(wave) == 32 * tokens.shape[1] and told["seconds"] == round(len(wave) / RATE, 3)


def test_files_that_do_not_fit(music, weights, tmp_path):
    name = f"vq_tokens(weights={weights})"
    encode_file(music / "1.wav", name, tmp_path / "t.npz")
    other = write_container("original", [random_level(small_config(2), 9)], tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"the tokens were made with weights .*, this file holds"):
        decode_file(tmp_path / "t.npz", tmp_path / "t.wav", weights=other)
    assert not (tmp_path / "t.wav").exists()
    with pytest.raises(ConfigError, match=r"\.txt is no format of tokens"):
        encode_file(music / "1.wav", name, tmp_path / "t.txt")
    with pytest.raises(ConfigError, match=r"is no token feature"):
        encode_file(music / "1.wav", "mel()", tmp_path / "t.npz")
    soundfile.write(tmp_path / "short.wav", np.zeros(100), RATE)
    with pytest.raises(DecodeError, match=r"100 samples are too few for one token of 128"):
        encode_file(tmp_path / "short.wav", name, tmp_path / "s.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK broken")
    np.savez(tmp_path / "pickle.npz", tokens=np.array([{}], dtype=object), spec=np.array(""))
    for bad in ("bad.npz", "pickle.npz"):
        with pytest.raises(CheckpointError, match=r"this is no file of tokens"):
            read_tokens(tmp_path / bad)
    with pytest.raises(CheckpointError, match=r"there are no tokens"):
        read_tokens(tmp_path / "none.npz")


@pytest.mark.slow
def test_commands(music, weights, tmp_path, capsys):
    runner = CliRunner()
    out = tmp_path / "own.safetensors"
    sizes = ["--steps", "6", "--codes", "16", "--width", "4", "--batch", "1", "--minutes", "0.1"]
    train = ["tokenizer", "train", "--data", str(music), "--preset", "tiny", "-o", str(out), *sizes]
    result = runner.invoke(cli, [*train, "--figure", str(tmp_path / "f.png"), "--json"], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert told["weights"] and told["training"]["steps"] == 6
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"
    tokens, wave = tmp_path / "t.npz", tmp_path / "t.wav"
    encode = ["tokenizer", "encode", str(music / "1.wav"), "--weights", str(out), "-o", str(tokens)]
    result = runner.invoke(cli, encode, catch_exceptions=False)
    assert "1 x 312 tokens" in result.stdout and "s a minute of music" in result.stdout
    result = runner.invoke(cli, ["tokenizer", "decode", str(tokens), "--weights", str(out), "-o", str(wave)])
    assert "at 44100 Hz" in result.stdout and wave.exists()
    with pytest.raises(SystemExit) as stop:
        main(["tokenizer", "decode", str(tokens), "--weights", str(weights), "-o", str(wave)])
    assert stop.value.code == 1
    assert "error: the tokens were made with weights" in capsys.readouterr().err
    result = runner.invoke(cli, ["tokenizer", "train", "--help"])
    assert "Example:" in result.stdout
