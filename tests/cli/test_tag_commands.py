"""Commands ``tag`` and ``models``: what they print, where, and their exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from featstore.testing.audio import tone
from featstore.testing.musicnn_package import write_untrained
from featstore_cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs, a broken file, the package with weights that were never trained, and one of its networks converted."""
    path = tmp_path_factory.mktemp("tag")
    (path / "music").mkdir()
    for number in (1, 2):
        soundfile.write(path / "music" / f"{number}.wav", tone(7.0, seed=number), 22050)
    (path / "broken.mp3").write_text("no music")
    write_untrained(path / "musicnn", "mtt-vgg")
    with pytest.raises(SystemExit) as done:
        main(["models", "convert", "MTT_vgg", "-o", str(path / "vgg.safetensors"), "--weights", str(path / "musicnn")])
    assert done.value.code == 0
    return path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Call the command line in the folder; exit code, stdout, stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FEATSTORE_PROGRESS", "0")
    torch.set_num_threads(1)

    def call(*args: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as done:
            main(list(args))
        out, err = capfd.readouterr()
        return int(done.value.code or 0), out, err

    return call


def test_a_table_of_top_tags(run) -> None:
    code, out, err = run("tag", "vgg.safetensors", "music", "--top", "2")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["file", "s", "tags"]
    assert [line.split()[0] for line in lines[2:]] == ["music/1.wav", "music/2.wav"]
    assert all(line.count(",") == 1 for line in lines[2:])


def test_a_broken_file_is_reported_and_the_exit_code_is_2(run) -> None:
    code, out, err = run("tag", "vgg.safetensors", "music/1.wav", "broken.mp3", "nosuch.wav")
    assert code == 2
    assert "failed: not readable as audio" in out
    assert "failed: no such file [nosuch.wav]" in out
    assert "2 of 3 files could not be tagged" in err


def test_csv(run) -> None:
    code, out, _ = run("tag", "vgg.safetensors", "music", "broken.mp3", "--csv", "--all")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 2
    assert len(rows) == 2 * 50 + 1
    first = [row for row in rows if row["path"] == "music/1.wav"]
    scores = [float(row["score"]) for row in first]
    assert scores == sorted(scores, reverse=True)
    assert [int(row["rank"]) for row in first] == list(range(1, 51))
    assert len({row["tag"] for row in first}) == 50
    assert (rows[-1]["path"], rows[-1]["tag"]) == ("broken.mp3", "")
    assert "not readable as audio" in rows[-1]["error"]


def test_names_that_are_no_utf8_or_formulas(run, folder: Path, monkeypatch) -> None:
    odd = folder / "odd"
    odd.mkdir()
    sound = (folder / "music" / "1.wav").read_bytes()
    (odd / "=1+1.wav").write_bytes(sound)
    Path(os.fsdecode(os.fsencode(odd) + b"/caf\xe9.wav")).write_bytes(sound)
    monkeypatch.chdir(odd)
    code, out, _ = run("tag", "../vgg.safetensors", "=1+1.wav", os.fsdecode(b"caf\xe9.wav"), "--csv", "--top", "1")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 2 and [row["path"] for row in rows] == ["'=1+1.wav", "caf\\xe9.wav"]
    assert "the file's name is not valid UTF-8" in rows[1]["error"] and "no such file" not in rows[1]["error"]
    code, out, _ = run("tag", "../vgg.safetensors", ".", "--json")
    files = json.loads(out)["files"]
    assert code == 2 and [bool(file["error"]) for file in files] == [False, True]
    assert "not valid UTF-8" in files[1]["error"]


def test_json_with_every_window(run) -> None:
    code, out, _ = run("tag", "mtt-vgg", "music", "--weights", "musicnn", "--json", "--windows", "--top", "3")
    report = json.loads(out)
    assert code == 0
    assert report["model"] == "mtt-vgg"
    assert report["feature"].startswith("mel.r1(sample_rate=16000,")
    assert len(report["classes"]) == 50
    file = report["files"][1]
    taggram = np.array(file["taggram"])
    assert taggram.shape == (file["n_windows"], 50) == (2, 50)
    assert file["starts_s"] == [0.0, pytest.approx(2.992)]
    best = taggram.mean(axis=0).argmax()
    assert file["tags"][0] == {"tag": report["classes"][best], "score": pytest.approx(taggram[:, best].mean())}
    plain = json.loads(run("tag", "vgg.safetensors", "music", "--json")[1])
    assert set(plain["files"][0]) == {"path", "duration_s", "n_windows", "tags", "note", "error"}
    assert [tag["tag"] for tag in plain["files"][1]["tags"]][:3] == [tag["tag"] for tag in file["tags"]]


def test_a_threshold_leaves_tags_out(run) -> None:
    everything = json.loads(run("tag", "vgg.safetensors", "music", "--json", "--all")[1])["files"][0]["tags"]
    some = json.loads(run("tag", "vgg.safetensors", "music", "--json", "--all", "--threshold", "0.5")[1])["files"][0]
    assert some["tags"] == [tag for tag in everything if tag["score"] >= 0.5]
    assert 0 < len(some["tags"]) < 50


@pytest.mark.slow
def test_taggrams_are_drawn(run, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    (folder / "other").mkdir()
    soundfile.write(folder / "other" / "1.wav", tone(4.0, seed=9), 22050)
    args = ("music", "other", "broken.mp3", "--step", "0.5", "--taggrams", "figures")
    code, _, err = run("tag", "vgg.safetensors", *args)
    assert code == 2
    assert "3 figures in figures" in err
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["1-2.png", "1.png", "2.png"]
    assert all(path.stat().st_size > 10_000 for path in (folder / "figures").iterdir())


@pytest.mark.slow
def test_through_the_extractor(run, folder: Path) -> None:
    direct = json.loads(run("tag", "vgg.safetensors", "music", "--json", "--windows")[1])
    code, out, _ = run("tag", "vgg.safetensors", "music", "--store", "tags.zarr", "-j", "2", "--json", "--windows")
    assert code == 0
    assert json.loads(out)["files"] == direct["files"]
    code, out, _ = run("tag", "vgg.safetensors", "--store", "tags.zarr", "--top", "1")
    assert code == 0
    assert len(out.splitlines()) == 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("tag", "vgg.safetensors"), "nothing to tag"),
        (("tag", "vgg-cnn", "music"), "is an architecture: it has no weights"),
        (("tag", "vgg.safetensors", "music", "--csv", "--json"), "--csv and --json"),
        (("tag", "vgg.safetensors", "music", "--windows"), "--windows without --json"),
        (
            ("tag", "mtt-musicnn", "music", "--weights", "musicnn"),
            "the weights of mtt-musicnn (MTT_musicnn) are not there",
        ),
        (("models", "show", "vgg_cnn"), "unknown model 'vgg_cnn'. Did you mean vgg-cnn"),
        (("models", "convert", "mtt-vgg", "-o", "x.bin", "--weights", "musicnn"), "does not end in .safetensors"),
        (("models", "convert", "vgg-cnn", "-o", "x.safetensors"), "there are no published weights of 'vgg-cnn'"),
    ],
)
def test_wrong_use_is_one_sentence(run, args: tuple[str, ...], message: str) -> None:
    code, out, err = run(*args)
    assert (code, out) == (1, "")
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_models_are_listed_and_shown(run) -> None:
    from featstore.models import MODELS

    code, out, _ = run("models", "list")
    assert code == 0
    *rows, note = out.splitlines()[2:]
    assert [line.split()[0] for line in rows] == list(MODELS) and note.endswith(": cut; --wide shows all)")
    cards = {card["name"]: card for card in json.loads(run("models", "list", "--json")[1])}
    assert cards["mtt-musicnn"]["parameters"] == 787_159
    assert cards["vgg-cnn"]["macs"] == 10_010_669_056
    text = run("models", "show", "musicnn-at-scale")[1]
    assert "5,926,198 parameters" in text
    assert "model.filters" in text
