"""``featstore plan``: the graph in words and as a figure, and what is refused before any audio is read."""

from __future__ import annotations

import json
import re

import pytest

from featstore.datasets import TableInfo, TrackTable
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks
from featstore_cli.main import main

STUDY = ["-f", "ferraro2020", "--sample", "0"]


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    folder = make_collection(tmp_path_factory.mktemp("music"), n_tracks=6)
    path = tmp_path_factory.mktemp("table") / "tracks.parquet"
    index_tracks("folder", folder).write(path)
    return path


@pytest.fixture
def no_audio(tmp_path, monkeypatch):
    """A table of files that are not there; whoever decodes or probes fails the test."""
    import pandas as pd

    import featstore.audio.decode as decode
    import featstore.audio.probe as probe

    def refuse(*_, **__):
        raise AssertionError("audio was read")

    monkeypatch.setattr(decode.AudioSource, "__init__", refuse)
    monkeypatch.setattr(probe, "probe_audio", refuse)
    rows = {
        "track_id": ["a", "b"],
        "path": ["gone/a.mp3", "gone/b.mp3"],
        "labels": [[], []],
        "duration_s": [30.0, 12.0],
    }
    frame = pd.DataFrame(rows)
    table = TrackTable(frame, TableInfo(name="gone", root=str(tmp_path)))
    path = tmp_path / "gone.parquet"
    table.write(path)
    return path


def call(capsys, *args):
    with pytest.raises(SystemExit) as left:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.mark.slow
def test_words(tracks, capsys) -> None:
    code, out, _ = call(capsys, "plan", tracks, "-f", "mel(scale=db)", "-f", "mel(hop_length=512)", "--sample", "2")
    assert code == 0
    assert "2 features: 1 array stored, 2 views of them; 5 steps a track" in out
    assert "power_spectrum(framing=librosa, hop_length=256" in out
    assert re.search(r"mel\(sample_rate=16000\)@float32: 1\.\d\d MB, 2 views", out), "sizes in the unit that fits them"
    assert re.search(r"^1\.\d\d MB in \d+ files$", out, re.MULTILINE)
    assert re.search(r"\d m?s of one core \([\d.]+ m?s with \d+ workers? like this one\), from 2 timed tracks", out)


@pytest.mark.slow
def test_json_for_a_million_tracks(tracks, capsys) -> None:
    code, out, _ = call(capsys, "plan", tracks, "-f", "mel(n_mels=8)", "--tracks", 1000000, "-j", 8, "--json")
    plan = json.loads(out)
    assert code == 0 and plan["tracks"] == 1000000 and plan["sampled"] > 0
    assert plan["seconds"] == pytest.approx(plan["core_hours"] * 3600 / 8, rel=0.05, abs=30)
    # a chunk is 10 s, however short its track; an index has room for ten minutes of each
    assert plan["bytes"] == pytest.approx(1e6 * (62.5 * 10 * 8 * 4 + 60 * 16), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_figure(tracks, tmp_path, capsys, ending) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plan.{ending}"
    # tracks of 4 s are filled up to what the study cuts
    spec = "mel(sample_rate=12000,clip=centre(29.1 s,pad=zeros),scale=db)"
    more = ["-f", "hpss(component=residual,margin=2)", "-f", "waveform(clip=every(0.5 s,0.25 s))", "-f", "musicnn"]
    code, _, err = call(capsys, "plan", tracks, "-f", spec, *more, "--sample", "0", "--figure", path)
    assert code == 0, err
    content = path.read_bytes()
    assert len(content) > 5000
    if ending == "svg":
        for word in (b"resample", b"STFT 512", b"96 mel bands", b"residual", b"every(0.5 s,0.25 s)", b"log10_1p"):
            assert word in content
        call(capsys, "plan", tracks, "-f", spec, *more, "--sample", "0", "--figure", tmp_path / "again.svg")
        assert (tmp_path / "again.svg").read_bytes() == content


def test_grids_are_products(no_audio, tmp_path, capsys) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "kind: mel\nn_mels: [96, 48]\nhop_length: [256, 512, 768]\nscale: [db, log10_1p]\nencoding: [float32, uint8]\n"
    )
    code, out, _ = call(capsys, "plan", no_audio, "-f", grid, "--sample", "0", "--json")
    plan = json.loads(out)
    assert code == 0 and len(plan["features"]) == 2 * 3 * 2 * 2
    assert len(plan["arrays"]) == 4


BAD = [
    ("mel(sample_rate=44100,n_mels=128)", r"11 of 128 mel bands are empty"),
    ("mel(sample_rate=22050,fmax=12000)", "fmax=12000.0 Hz lies above the Nyquist frequency 11025.0 Hz"),
    ("mel(hop_length=4000,clip=start(0.2 s))", "hop_length=4000 is longer than the clip of 3200 samples"),
    ("mel(clip=centre(40 s))", "clip=centre(40 s) needs 40 s, and the longest of 2 tracks has 30.00 s"),
    ("mel(clip=offset(20 s,15 s))", "needs 35 s, and the longest of 2 tracks has 30.00 s"),
    ("waveform(clip=every(31 s,1 s))", "clip=every(31 s,1 s) needs 31 s"),
    ("mel(sample_rate=0)", "sample_rate=0 is out of range [mel spec]. Allowed: 100 to 768000"),
    ("mel(n_mells=96)", "unknown field 'n_mells' [mel spec]. Did you mean n_mels"),
    ("mell(n_mels=96)", "unknown feature kind 'mell'. Did you mean mel"),
    ("mel(scale=db(amim=1))", "unknown parameter 'amim' of scale db [mel spec]. Did you mean amin?"),
    ("mel(clip=every(3 s))", "clip policy 'every(3 s)' does not fit"),
    ("mel(hop_length=0)", "hop_length=0 is out of range"),
    ("mel(win_length=1024)", "win_length=1024 is longer than the transform"),
    ("mel(fmin=9000)", "fmin=9000.0 Hz is not below fmax=8000.0 Hz"),
    ("hpss(kernel=30)", "kernel=30 is even: a median needs a centre"),
    ("hpss(margin=0.5)", "margin=0.5 is out of range"),
    ("mel()@uint8", "uint8 needs a bounded scale"),
    ("mel(engine=essentia)", "engine=essentia cannot do framing=librosa"),
    ("feraro2020", "'feraro2020' is neither a feature kind nor a preset. Did you mean ferraro2020"),
]  # fmt: skip


@pytest.mark.parametrize("command", ["plan", "extract"])
@pytest.mark.parametrize(("feature", "message"), BAD)
def test_refused_before_audio_is_read(no_audio, tmp_path, capsys, command, feature, message) -> None:
    store = ["-s", tmp_path / "s.zarr"] if command == "extract" else []
    code, out, err = call(capsys, command, no_audio, "-f", feature, *store)
    assert code == 1 and out == ""
    assert err.startswith("error: ") and message in err, err
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: mel\nn_mels: " + str(list(range(1, 101))) + "\nhop_length: " + str(list(range(1, 101))),
            "the grid has 10,000 combinations (n_mels: 100 x hop_length: 100); at most 1000 are allowed",
        ),
        ("kind: mel\nn_mells: 3\n", "unknown field 'n_mells' [mel spec]. Did you mean n_mels"),
        ("kind: mell\n", "unknown feature kind 'mell'"),
        ("kind: mel\nn_mels: []\n", "n_mels has an empty list"),
        ("kind: [mel\n", "cannot read the feature file"),
        ("- 3\n", "3 is no feature"),
        ("{}\n", "1 feature: 1 array stored"),
    ],
)
def test_bad_grids(no_audio, tmp_path, capsys, text, message) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(text)
    code, out, err = call(capsys, "plan", no_audio, "-f", grid, "--sample", "0")
    assert message in (err if code else out)


def test_bad_numbers(no_audio, capsys) -> None:
    for words, message in (
        (["--tracks", "0"], "tracks=0 is too small"),
        (["-j", "0"], "jobs=0 is too small"),
        (["--sample", "-1"], "sample=-1 is too small"),
        (["--compression", "gzip"], "compression='gzip' is unknown"),
        (["--compression", "lz4", "--sample", "0"], "compression=lz4 without a sample"),
    ):
        code, _, err = call(capsys, "plan", no_audio, "-f", "mel()", *words)
        assert code == 1 and message in err


def test_some_tracks_too_short_are_told(no_audio, capsys, caplog) -> None:
    code, _, _ = call(capsys, "plan", no_audio, "-f", "mel(clip=centre(20 s))", "--sample", "0")
    assert code == 0
    assert "1 of 2 tracks are shorter than clip=centre(20 s)" in caplog.text
