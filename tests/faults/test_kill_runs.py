"""kill -9 at steps of a sweep and of a recipe: a rerun ends with the results of an undisturbed one, nothing is left."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import featstore.store.leases as leases
from featstore.results import read_results
from featstore.store.verify import verify
from featstore.workflows.recipe_execution import run_recipe
from featstore.workflows.recipes import load_recipe
from featstore.workflows.sweep import carry_out, grid_of_runs
from tests.faults.gate import Gate, through
from tests.faults.small import die, fast_leases, forked, snapshot
from tests.training.small_store import SPEC, make_collection

SETTINGS = {
    "model": {"width": 8, "blocks": 1},
    "data": {"crop_frames": 12, "batch_size": 12},
    "loop": {"epochs": 2, "checkpoint_batches": 1},
    "evaluate": {"bootstrap": 0},
    "device": {"accelerator": "cpu", "threads": 1},
}
PLAN = """
title: Two lengths of the hop
data: {kind: folder}
features: [{kind: mel, n_mels: 16, scale: db, hop_length: [512, 1024]}]
extract: {scheduler: sync, shard_tracks: 4}
"""
TRAIN = f"model: conv-encoder\nseeds: [0]\nsettings: {SETTINGS}\nreport: {{metric: roc_auc, cost: bytes_alone}}\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.1)
    monkeypatch.setenv("FEATSTORE_PROGRESS", "0")


def killed_at(at: int, work: Callable[[], object]) -> None:
    fast_leases()
    with through(Gate(at, die)):
        work()


def campaign(work: Callable[[], object], out: Path, check: Callable[[], None], kills: int) -> int:
    """Do the work undisturbed, then kill it at ``kills`` of its steps, each time from nothing, and do it again."""
    shutil.rmtree(out)
    with through(Gate(-1, die)) as gate:
        work()
    check()
    steps = gate.count
    done = 0
    for at in range(0, steps, -(-steps // kills)):
        shutil.rmtree(out)
        code = forked(killed_at, at, work)
        assert code == 9, f"step {at} of {steps} is not reached or fails"
        work()
        check()
        done += 1
    return done


def results(runs: Path) -> dict[str, tuple[bytes, dict]]:
    """By run: its predictions, and its scores."""
    return {
        str(record.path.relative_to(runs)): (
            (record.path / "predictions.parquet").read_bytes(),
            record.result["scores"],
        )
        for record in read_results(runs)
    }


def names(out: Path) -> set[str]:
    """All files but logs and the state of short runs; there must be none that somebody was still writing."""
    found = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    assert not [name for name in found if ".part" in name or "/staging/" in name or "/leases/" in name]
    return {name for name in found if "/log/" not in name and not name.endswith("/checkpoints/state.json")}


@pytest.mark.slow
def test_killed_while_a_grid_is_trained(tmp_path: Path, tally) -> None:
    store, out = make_collection(tmp_path / "music.zarr").store, tmp_path / "runs"
    features = [SPEC, SPEC.replace("hop_length=512", "hop_length=1024")]
    runs = grid_of_runs(
        str(store.location), out, features=features, models=["conv-encoder"], seeds=[0], settings=SETTINGS
    )
    carry_out(runs, jobs=1)
    expected, files = results(out), names(out)
    assert len(expected) == 2

    def check() -> None:
        assert results(out) == expected and names(out) == files

    count = campaign(lambda: carry_out(runs, jobs=1), out, check, 20)
    tally("sweep killed (`-9`)", faults=count, half_written_readable=0, same_values_afterwards=count)


@pytest.mark.slow
def test_killed_while_a_recipe_runs(tmp_path: Path, tally) -> None:
    rng = np.random.default_rng(0)
    for genre, level in (("jazz", 0.02), ("rock", 0.5)):
        (tmp_path / "music" / genre).mkdir(parents=True)
        for number in range(6):
            noise = level * rng.uniform(-1, 1, 3 * 16000).astype(np.float32)
            soundfile.write(tmp_path / "music" / genre / f"{number}.wav", noise, 16000)
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "train.yaml").write_text(TRAIN)
    recipe, out = load_recipe(str(tmp_path), data=f"folder={tmp_path / 'music'}"), tmp_path / "out"

    def work() -> None:
        run_recipe(recipe, out, jobs=1)

    work()
    expected, files, stored = results(out / "runs"), names(out), snapshot(out / "store.zarr")
    assert len(expected) == 2 and any(name.startswith("report/") for name in files)

    def check() -> None:
        assert snapshot(out / "store.zarr") == stored and verify(out / "store.zarr") == []
        assert results(out / "runs") == expected and names(out) == files

    count = campaign(work, out, check, 12)
    tally("recipe killed (`-9`)", faults=count, half_written_readable=0, same_values_afterwards=count)
