"""One way to say a thing: options once, lists as lists, JSON by --json, old names with a warning; tables that fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from featstore.testing.audio import make_collection
from featstore.text_tables import fit_columns
from featstore_cli.commands import Command, completer
from featstore_cli.common import next_lines, parse_seeds
from featstore_cli.main import COMMANDS, cli, main

MEL = "mel(n_mels=16,scale=db)"
SMALL = [
    "--set",
    "data.split=random",
    "--set",
    "data.crop_s=1",
    "--set",
    "model.width=0.03",
    "--set",
    "model.pools=fit",
]

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oneway")
    make_collection(folder / "music", n_tracks=12, seconds=(1.5, 2.0))
    args = ["extract", str(folder / "music"), "-f", MEL, "-s", str(folder / "mel.zarr"), "--scheduler", "sync"]
    with pytest.raises(SystemExit) as left:
        main(args)
    assert not left.value.code
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.delenv("COLUMNS", raising=False)

    def called(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return called


def test_every_command_is_strict() -> None:
    def walk(command: click.Command) -> None:
        for inner in getattr(command, "commands", {}).values():
            walk(inner)
        assert isinstance(command, click.Group | Command), command.name

    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        walk(command)


def test_an_option_given_twice(call: Call, made: Path) -> None:
    code, out, err = call("extract", made / "music", "-f", MEL, "-s", "a.zarr", "--store", "b.zarr")
    assert code == 1 and out == "" and "-s/--store is given 2 times; it takes one value" in err
    assert not Path("a.zarr").exists()
    code, out, _ = call("extract", made / "music", "-f", MEL, "-f", "mel()", "-s", "a.zarr", "--dry-run")
    assert code == 0, "options that repeat still do"


def test_unknown_names_in_groups(call: Call) -> None:
    assert "No such command 'inf'. Did you mean info?" in call("store", "inf", "x")[2]
    assert "No such command 'featurs'. Did you mean features" in call("featurs")[2]


@pytest.mark.parametrize(("text", "seeds"), [("0", [0]), ("0,1,2", [0, 1, 2]), ("0-2,7", [0, 1, 2, 7]), ("1,1", [1])])
def test_seeds_are_lists(text: str, seeds: list[int]) -> None:
    assert parse_seeds(click.Context(cli), click.Option(["--seeds"]), text) == seeds


@pytest.mark.parametrize("text", ["a", "2-0", "1,", "-1"])
def test_wrong_seeds(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write it like 0,1,2 or 0-2"):
        parse_seeds(click.Context(cli), click.Option(["--seeds"]), text)


def test_old_names_warn(call: Call, made: Path) -> None:
    code, _, err = call("store", "pack", made / "mel.zarr", "--output", made / "old.h5")
    assert code == 0 and "--output is called --out now; the old name goes with the next release" in err
    assert (made / "old.h5").is_file()
    code, _, err = call("store", "pack", made / "mel.zarr", "-o", made / "new.h5")
    assert code == 0 and "old name" not in err and (made / "new.h5").is_file()


def test_dry_runs_are_text_unless_json(call: Call, made: Path) -> None:
    asked = ["extract", made / "music", "-f", "mel(n_mels=8)", "-s", made / "mel.zarr", "--dry-run"]
    code, out, _ = call(*asked)
    assert code == 0 and "to compute 12 tracks, 1 new array, " in out and "featstore plan" in out
    assert json.loads(call(*asked, "--json")[1])["tracks"] == 12
    train = ["train", "-s", made / "mel.zarr", "-f", MEL, "-m", "vgg-cnn", "-o", made / "dry", *SMALL, "--dry-run"]
    code, out, _ = call(*train)
    assert code == 0 and "at most: 50 epochs" in out and " train, " in out and "to read" in out
    found = json.loads(call(*train, "--json")[1])
    assert found["hours"] > 0 and sum(found["tracks"].values()) == 12 and found["bytes_read"] > 0
    sweep = ["sweep", "-s", made / "mel.zarr", "-f", MEL, "-m", "vgg-cnn", "-o", made / "dry", "--seeds", "0-2", *SMALL]
    found = json.loads(call(*sweep, "--dry-run", "--json")[1])
    assert found["runs"] == 3 and found["configurations"][0]["runs"] == 3 and found["steps"] == 150
    assert not (made / "dry").exists()


def test_settings_are_listed(call: Call) -> None:
    code, out, _ = call("train", "--list-settings", "loop")
    assert code == 0 and "loop.epochs=50" in out and "Passes over the training split" in out and "data." not in out
    code, out, _ = call("train", "--list-settings")
    assert "optimizer.learning_rate=0.001" in out and "data.crop_s=null" in out and "featstore models show" in out
    assert "unknown section 'lop'. Did you mean loop?" in call("train", "--list-settings", "lop")[2]


def test_features_and_codecs_are_listed(call: Call) -> None:
    code, out, _ = call("features", "list")
    assert code == 0 and "vq_tokens" in out and "ferraro2020" in out
    card = json.loads(call("features", "show", "mel", "--json")[1])
    fields = {each["name"]: each for each in card["fields"]}
    assert fields["n_mels"]["default"] == "96" and "uint8" in card["encodings"] and len(card["derived"]) == 2
    assert "Hz at the upper edge" in fields["fmax"]["meaning"]
    for kind in ("waveform", "stft", "mel", "hpss", "phase", "vq_tokens", "vq_codes", "embedding"):
        card = json.loads(call("features", "show", kind, "--json")[1])
        assert all(len(each["meaning"].split()) > 1 for each in card["fields"]), kind
    code, out, _ = call("features", "show", "ferraro2020")
    assert "88 features, 14 arrays stored" in out and out.count("\n") == 89
    assert "never stored: looked up from vq_tokens" in call("features", "show", "vq_codes")[1]
    assert "'mels' is neither a kind nor a preset. Did you mean mel" in call("features", "show", "mels")[2]
    assert {row["codec"] for row in json.loads(call("codecs", "list", "--json")[1])} >= {"jukebox", "encodec"}
    assert "jukebox" in call("codecs", "list")[1]


def test_tables_fit(call: Call, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (["recipe", "list"], ["features", "list"]):
        assert max(map(len, call(*command)[1].splitlines())) <= 80, command
    assert "(what it is: cut; --wide shows all)" in call("features", "list")[1]
    out = call("store", "info", made / "mel.zarr")[1]
    assert "bytes alone" in out and "saturated; --wide shows all)" in out
    assert "saturated" in call("store", "info", made / "mel.zarr", "--wide")[1].splitlines()[1]
    name = "mel(sample_rate=16000,n_mels=16,scale=db)@float32"
    lines = out.splitlines()
    assert lines[1].split()[:2] == ["encoding", "kept"] and lines[3] == name
    assert lines[4].split()[:2] == ["float32", "stored"], "a long name leaves the row to its numbers"
    monkeypatch.setenv("COLUMNS", "200")
    assert "(not shown" not in call("store", "info", made / "mel.zarr")[1]


def test_counts_add_up(call: Call, tmp_path: Path) -> None:
    folder = make_collection(tmp_path / "music", n_tracks=2)
    (folder / "a" / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "a" / "silence.wav", np.zeros(8000), 8000)
    out = call("extract", folder, "-f", "mel(n_mels=8)", "-s", tmp_path / "s.zarr", "--scheduler", "sync")[1]
    assert "3 of 4 tracks ok, 1 of them flagged (1 failed, 1 silent)" in out
    assert "tracks 4  ok 3 (1 flagged)  failed 1  pending 0" in call("status", tmp_path / "s.zarr")[1]


def test_failures_come_with_their_reason(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_collection(tmp_path / "music", n_tracks=2)
    (tmp_path / "music" / "a" / ("long-name-" * 4 + ".wav")).write_bytes(b"")
    assert call("extract", tmp_path / "music", "-f", "mel(n_mels=8)", "-s", tmp_path / "s.zarr")[0] == 2
    for width in (64, 80, 300):
        monkeypatch.setenv("COLUMNS", str(width))
        assert "the file is" in call("status", tmp_path / "s.zarr", "--failures")[1], width
    assert "0 bytes" in call("status", tmp_path / "s.zarr", "--failures", "--wide")[1]


def test_columns_go_in_order() -> None:
    heads, rows = ["name", "a", "b", "c"], [["n" * 10, "a" * 10, "b" * 10, "c" * 10]]
    assert fit_columns(heads, rows, 80) == ([0, 1, 2, 3], [])
    assert fit_columns(heads, rows, 40) == ([0, 1, 2], ["c"])
    assert fit_columns(heads, rows, 40, ["a"]) == ([0, 2, 3], ["a"])
    assert fit_columns(heads, rows, 5) == ([0, 1], ["b", "c"])
    assert fit_columns(heads, rows, None)[1] == []


def test_next_lines_align() -> None:
    assert next_lines([("a", "first"), ("bcd", "second")]) == "\nNext:\n  a     first\n  bcd   second"
    long = "x" * 61
    assert next_lines([("a", "first"), (long, "second")]) == f"\nNext:\n  a   first\n  {long}   second"


def test_extraction_says_what_is_next(call: Call, made: Path) -> None:
    code, out, _ = call("extract", made / "music", "-f", MEL, "-s", made / "mel.zarr", "--scheduler", "sync")
    assert code == 0 and f"Next:\n  featstore store info {made / 'mel.zarr'}" in out and "featstore train -s" in out
    _, out, _ = call("extract", made / "music", "-f", "waveform", "-s", made / "wave.zarr", "--scheduler", "sync")
    assert "-f waveform -m sincnet -o runs/first" in out, "a model that takes the feature"


def test_names_complete() -> None:
    def complete(kind: str, start: str) -> list[str]:
        found = completer(kind)(click.Context(cli), click.Option(["-x"]), start)
        return [item.value for item in found if item.type == "plain"]

    assert complete("models", "vgg") == ["vgg-cnn"]
    assert complete("recipes", "quick") == ["quickstart"]
    assert complete("features", "me") == ["mel("] and complete("features", "ferr") == ["ferraro2020"]
    assert "roc_auc" in complete("metrics", "roc")


@pytest.mark.parametrize(
    ("typed", "cursor", "offered"),
    [
        ("featstore models show vg", 3, "plain,vgg-cnn"),
        ("featstore models convert mtt-m", 3, "plain,mtt-musicnn"),
        ("featstore quickstart --music my", 3, "file,my"),
        ("featstore quickstart -o my", 3, "dir,my"),
        ("featstore quickstart --sm", 2, "plain,--smoke"),
    ],
)
def test_what_the_shell_is_offered(typed: str, cursor: int, offered: str) -> None:
    env = {"_FEATSTORE_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(cursor)}
    done = CliRunner().invoke(cli, [], prog_name="featstore", env=env)
    assert offered in done.output.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = CliRunner().invoke(cli, [], prog_name="featstore", env={"_FEATSTORE_COMPLETE": f"{shell}_source"})
    assert done.exit_code == 0 and "_FEATSTORE_COMPLETE" in done.output and shell in done.output
