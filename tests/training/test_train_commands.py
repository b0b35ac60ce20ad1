from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from small_store import SPEC, Collection

from featstore.datasets import TableInfo, TrackTable
from featstore.models.checkpoint_file import load_checkpoint
from featstore_cli.main import main

SETTINGS = {
    "model": {"width": 0.02, "pools": "fit"},
    "data": {"batch_size": 8, "crop_frames": 24},
    "loop": {"epochs": 2},
    "evaluate": {"bootstrap": 20},
    "device": {"accelerator": "cpu", "deterministic": True},
}


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "train.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def train_args(music: Collection, run: Path, settings_file: Path) -> list[object]:
    place = music.store.location
    return ["train", "-s", place, "-f", SPEC, "-m", "vgg-cnn", "-o", run, "--config", settings_file]


@pytest.mark.slow
def test_train_again_and_evaluate(
    music: Collection, tmp_path: Path, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    code, out, _ = call(capsys, *train_args(music, run, settings_file), "--seed", 5, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["seed"], result["epochs"]) == (5, 2)
    code, out, err = call(capsys, *train_args(music, run, settings_file), "--seed", 5)
    assert code == 0
    assert "is finished already; nothing was done" in err
    assert f"{result['scores']['test']['roc_auc']:.4f} [" in out
    assert "GMAC an input of 16 x 24" in out
    assert out.startswith("vgg-cnn on mel(sample_rate=") and f"best number {result['best_epoch'] + 1};" in out
    code, out, _ = call(capsys, "evaluate", run, "--json")
    assert code == 0
    assert json.loads(out)["scores"] == result["scores"]
    assert json.loads(out)["per_class"] == result["per_class"]
    code, out, _ = call(capsys, "evaluate", run, "--split", "test", "--classes")
    assert "the same scores as in result.json" in out
    assert any(
        line.split()[:2] == ["middle", str(result["per_class"]["test"]["middle"]["n"])] for line in out.splitlines()
    )
    code, out, _ = call(capsys, "evaluate", run, "--set", "evaluate.pool=majority")
    assert "scores differ from result.json: valid" in out
    again = tmp_path / "again"
    code, out, _ = call(capsys, *train_args(music, again, run / "config.yaml"), "--json")
    assert json.loads(out)["run_id"] == result["run_id"]


def test_training_with_a_table_of_its_own(
    music: Collection, tmp_path: Path, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = music.frame.assign(labels=[[style] for style in music.frame["style"]])
    table = TrackTable(frame, TableInfo(name="mine", task="single_label", classes=("quiet", "loud")))
    table.write(tmp_path / "tracks.parquet")
    code, out, _ = call(
        capsys,
        *train_args(music, tmp_path / "run", settings_file),
        *("--tracks", tmp_path / "tracks.parquet", "--json", "--set", "loop.epochs=1"),
    )
    result = json.loads(out)
    assert (code, result["dataset"], result["classes"]) == (0, "mine", ["quiet", "loud"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--set", "loop.epoch=3"], "error: unknown setting 'loop.epoch'"),
        (["-f", "mel(n_mels=48)"], "error: the store has no mel(sample_rate=16000,n_mels=48)"),
        (["--tracks", "nowhere.parquet"], "error: no track table here"),
        (["--config", "nowhere.yaml"], "error: cannot be read: No such file"),
        (["-m", "vgg"], "error: unknown model 'vgg'"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_1(
    music: Collection,
    tmp_path: Path,
    settings_file: Path,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    message: str,
) -> None:
    args = [*map(str, train_args(music, tmp_path / "run", settings_file))]
    if extra[0] in args and extra[0] not in ("-f", "--set"):  # options that may be given once
        args[args.index(extra[0]) + 1] = extra[1]
        extra = []
    code, out, err = call(capsys, *args, *extra)
    assert (code, out) == (1, "")
    assert message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_killed_processes_go_on_to_the_same_end(music: Collection, tmp_path: Path, settings_file: Path) -> None:
    def start(run: Path) -> subprocess.Popen:
        extra = ["--set", "loop.epochs=60", "--set", "loop.checkpoint_batches=1", "--json"]
        command = [sys.executable, "-m", "featstore_cli.main", *train_args(music, run, settings_file), *extra]
        quiet = os.environ | {"FEATSTORE_PROGRESS": "0"}
        return subprocess.Popen([str(part) for part in command], env=quiet, stdout=subprocess.PIPE)

    def lines(run: Path) -> int:
        return len((run / "metrics.jsonl").read_text().splitlines()) if (run / "metrics.jsonl").exists() else 0

    assert start(tmp_path / "whole").wait(timeout=120) == 0
    killed = tmp_path / "killed"
    for number, after in ((signal.SIGKILL, 5), (signal.SIGKILL, 20), (signal.SIGTERM, 40)):
        process = start(killed)
        deadline = time.monotonic() + 60
        while lines(killed) < after and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(timeout=60) == (130 if number == signal.SIGTERM else -9)
    assert start(killed).wait(timeout=120) == 0
    one, _ = load_checkpoint(killed / "checkpoints/last.safetensors")
    two, _ = load_checkpoint(tmp_path / "whole/checkpoints/last.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in two)
    name = "predictions.parquet"
    assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
