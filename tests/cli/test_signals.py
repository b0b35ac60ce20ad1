"""Ctrl-C and SIGTERM end an extraction or a sweep with one sentence and a command; a healthy one prints nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from featstore.store import open_store
from featstore.store.verify import verify
from featstore.testing.audio import make_collection
from featstore_cli.main import cli, main
from tests.training.small_store import SPEC
from tests.training.small_store import make_collection as make_store

FEATURE = "mel(n_mels=16,scale=db)"


def start(args: Sequence[object]) -> subprocess.Popen[str]:
    """The command in a session of its own, as a shell with job control starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "featstore_cli.main", *map(str, args)],
        env=os.environ | {"FEATSTORE_PROGRESS": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not list(folder.glob(pattern)):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.02)


def ends_in_one_sentence(process: subprocess.Popen[str], what: str) -> None:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert out == "" and err.strip() == what
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-s", str(process.pid)], stdout=subprocess.DEVNULL, check=False).returncode == 0:
        assert time.monotonic() < deadline, "a worker outlives the command"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "everyone", "moment"),
    [
        (signal.SIGINT, True, "leases/*/*"),  # a terminal sends it to all processes
        (signal.SIGTERM, False, "leases/*/*"),
        (signal.SIGTERM, True, "leases/*/*"),  # a batch system does, too
        (signal.SIGINT, True, "requests"),  # the workers are about to start
    ],
)
def test_an_interrupted_extraction(number: int, everyone: bool, moment: str, tmp_path: Path, capfd) -> None:
    music, store = make_collection(tmp_path / "music", n_tracks=24, seconds=(20.0, 30.0)), tmp_path / "s.zarr"
    args = ["extract", music, "-f", FEATURE, "-s", store, "-j", 2, "--shard-tracks", 2]
    process = start(args)
    wait_for(store, moment, process)
    (os.killpg if everyone else os.kill)(process.pid, number)
    again = f"featstore extract {music} -f '{FEATURE}' -s {store} -j 2 --shard-tracks 2"
    ends_in_one_sentence(process, f"interrupted: what is committed stays. To go on: {again}")
    with pytest.raises(SystemExit) as left:
        main([*map(str, args[:-4]), "--scheduler", "sync"])
    assert left.value.code == 0
    assert len(open_store(store)[FEATURE].track_ids) == 24 and verify(store) == []
    assert not [file for folder in ("leases", "staging") for file in (store / folder).rglob("*") if file.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "everyone"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupted_sweep(number: int, everyone: bool, tmp_path: Path) -> None:
    store = make_store(tmp_path / "music.zarr").store
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        json.dumps(
            {
                "model": {"width": 8, "blocks": 1},
                "data": {"crop_frames": 12, "batch_size": 12},
                "loop": {"epochs": 100_000},
                "device": {"accelerator": "cpu", "threads": 1},
            }
        )
    )
    args = ["sweep", "-s", store.location, "-m", "conv-encoder", "-o", tmp_path / "runs", "--config", settings]
    process = start([*args, "-f", SPEC, "--seeds", "0,1", "-j", 2])
    wait_for(tmp_path / "runs", "**/metrics.jsonl", process)
    (os.killpg if everyone else os.kill)(process.pid, number)
    again = " ".join(map(str, ["featstore", *args, "-f", f"'{SPEC}'", "--seeds", "0,1", "-j", 2]))
    ends_in_one_sentence(process, f"interrupted: what is committed stays. To go on: {again}")


@pytest.mark.slow
def test_a_healthy_extraction_prints_nothing(tmp_path: Path) -> None:
    music = make_collection(tmp_path / "music", n_tracks=4, seconds=(1.0, 2.0))
    process = start(["extract", music, "-f", FEATURE, "-s", tmp_path / "s.zarr", "-j", 2, "--shard-tracks", 2])
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0 and err == ""
    assert "4 of 4 tracks ok" in out


def test_an_interrupt_that_comes_out_of_compiled_code_as_another_error(monkeypatch, capsys) -> None:
    def imports(**_: object) -> None:
        try:
            if interrupt:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pass
        raise TypeError("expected a message argument")

    monkeypatch.setattr(cli, "main", imports)
    interrupt = True
    with pytest.raises(SystemExit) as left:
        main(["extract", "music"])
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted: what is committed stays. To go on: featstore extract music\n"
    interrupt = False
    with pytest.raises(TypeError, match="expected a message"):
        main(["extract", "music"])


def test_the_exit_code_is_ours_where_the_interrupt_met_an_exec(tmp_path: Path) -> None:
    program = """
import signal
from featstore_cli.main import cli, main
cli.main = lambda **_: exec("signal.raise_signal(signal.SIGINT)", {"signal": signal})
main(["extract", "music"])
"""
    (tmp_path / "program.py").write_text(program)
    args = [sys.executable, "-m", "program"]
    done = subprocess.run(args, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: what is committed stays. To go on: featstore extract music\n"
