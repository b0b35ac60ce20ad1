"""A grid of runs: one failing run ends nothing, finished ones stay, Dask workers with a device are asked for it."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from featstore.cluster import gpu_count
from featstore.errors import ConfigError
from featstore.workflows import sweep as module
from featstore.workflows.sweep import carry_out, failures, grid_of_runs
from featstore_cli.main import main
from tests.training.small_store import SPEC, Collection, make_collection

STRIDED = SPEC.replace("hop_length=512", "hop_length=1024")
ABSENT = SPEC.replace("n_mels=16", "n_mels=20")
SETTINGS = {
    "model": {"width": 8, "blocks": 1},
    "data": {"crop_frames": 12, "batch_size": 12},
    "loop": {"epochs": 2},
    "evaluate": {"bootstrap": 0},
    "device": {"accelerator": "cpu", "threads": 1},
}


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return make_collection(tmp_path_factory.mktemp("sweep") / "music.zarr")


def grid(music: Collection, out: Path, *features: str, seeds: tuple[int, ...] = (0, 1)):
    place = str(music.store.location)
    return grid_of_runs(place, out, features=features, models=["conv-encoder"], seeds=seeds, settings=SETTINGS)


@pytest.mark.slow
def test_a_failing_run_does_not_end_the_sweep(music: Collection, tmp_path: Path, monkeypatch) -> None:
    runs = grid(music, tmp_path, SPEC, ABSENT, STRIDED)
    assert [run.seed for run in runs] == [0, 1] * 3
    assert runs[0].feature == STRIDED  # the cheap one first
    train = module._train

    def sometimes(run):
        if run.feature == SPEC and run.seed == 1:
            raise RuntimeError("the machine hiccuped")
        return train(run)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", sometimes)
        outcomes = carry_out(runs, jobs=1)
    states = {(one.run.feature, one.run.seed): one.state for one in outcomes}
    assert states == {
        (STRIDED, 0): "finished",
        (STRIDED, 1): "finished",
        (SPEC, 0): "finished",
        (SPEC, 1): "failed",
        (ABSENT, 0): "failed",
        (ABSENT, 1): "failed",
    }
    errors = [one.error for one in outcomes if one.state == "failed"]
    assert sum("the machine hiccuped" in error for error in errors) == 1
    assert sum("the store has no mel" in error for error in errors) == 2
    results = {one.run.out: (Path(one.run.out) / "result.json").stat().st_mtime_ns for one in outcomes[:3]}
    again = carry_out(grid(music, tmp_path, SPEC, STRIDED), jobs=1)  # what failed is tried again, nothing else is
    assert [one.state for one in again] == ["finished before"] * 3 + ["finished"]
    assert results == {out: (Path(out) / "result.json").stat().st_mtime_ns for out in results}
    assert again[3].scores["test"]["loss"] > 0
    [cause] = failures([one for one in outcomes if one.run.feature == ABSENT])
    assert re.search(r"seed-0 and 1 more: the store has no mel", cause)


def test_from_the_command_line(music: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps(SETTINGS))
    start = ["sweep", "-s", str(music.store.location), "-m", "conv-encoder", "-o", str(tmp_path / "runs")]
    start += ["-j", "1", "--config", str(file), "-f", SPEC]

    def call(*extra: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([*start, *extra])
        return int(left.value.code or 0), *capsys.readouterr()

    code, out, _ = call("--seeds", "0,1", "--json")
    found = json.loads(out)["runs"]
    assert (code, [run["state"] for run in found]) == (0, ["finished"] * 2)
    code, out, _ = call("--seeds", "1", "-f", ABSENT, "--wide")
    assert code == 2
    assert re.search(r"test roc_auc 0\.\d{4} +finished before", out)
    assert "n_mels=20" in out and "failed" in out
    code, _, err = call("--seeds", "a")
    assert code == 1 and "'a' is not a list of whole numbers" in err
    code, _, err = call("--set", "loop.epoch=3")
    assert code == 1 and "unknown setting 'loop.epoch'" in err


@pytest.mark.slow
def test_workers_with_a_device_are_asked_for_it(music: Collection, tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None, resources={"GPU": 1}
        ) as cluster,
        Client(cluster) as client,
    ):
        assert gpu_count(client) == 1
        outcomes = carry_out(grid(music, tmp_path, SPEC, ABSENT), scheduler=cluster.scheduler_address)
        asked = client.run_on_scheduler(
            lambda dask_scheduler: [dict(task.resource_restrictions or {}) for task in dask_scheduler.tasks.values()]
        )
    assert sorted(one.state for one in outcomes) == ["failed", "failed", "finished", "finished"]
    assert all(each == {"GPU": 1} for each in asked)
    assert "the store has no mel" in next(one.error for one in outcomes if one.state == "failed")
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        carry_out(grid(music, tmp_path / "b", SPEC), scheduler="tcp://127.0.0.1:9")


def _dies_once(run) -> list[tuple[str, str]]:
    """Carry a run out, but for one that kills its worker process the first time."""
    import os
    import signal

    mark = Path(run.out).parent / "died"
    if run.seed == 1 and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    module._train(run)
    return [("featstore.elsewhere", "what a worker saw")]


@pytest.mark.slow
def test_a_killed_worker_fails_no_run(music: Collection, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "_train_quietly", _dies_once)
    outcomes = carry_out(grid(music, tmp_path, SPEC, seeds=(0, 1, 2)), jobs=2)
    assert [one.state for one in outcomes] == ["finished"] * 3
    assert "lost its worker process and goes on in another" in caplog.text
    assert [(each.name, each.levelname) for each in caplog.records if each.getMessage() == "what a worker saw"] == [
        ("featstore.elsewhere", "WARNING")
    ] * 3


def test_warnings_of_a_worker_come_back(music: Collection, tmp_path: Path, monkeypatch, capfd) -> None:
    found = logging.getLogger("featstore.training.labels")
    monkeypatch.setattr(module, "_train", lambda run: found.warning("%d classes are empty", run.seed))
    monkeypatch.setattr(module, "one_core_quietly", lambda: None)
    assert module._train_quietly(grid(music, tmp_path, SPEC)[1]) == [(found.name, "1 classes are empty")]
