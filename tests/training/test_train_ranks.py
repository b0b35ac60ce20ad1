"""Several processes over gloo: stopped at every step of small epochs, a run goes on to the same bits."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_store import SPEC, Collection

from featstore.models.checkpoint_file import load_checkpoint
from featstore.training import TrainConfig, train
from featstore.training import run as run_module
from featstore.training.work import Job, work

Make = Callable[..., TrainConfig]
EPOCHS, BATCHES = 2, 3  # BATCHES an epoch


class Captured(Exception):
    def __init__(self, job: Job) -> None:
        self.job = job


class Killed(Exception):
    pass


def job_of(music: Collection, out: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> Job:
    """What ``train`` would hand to its processes."""

    def capture(fabric: Any, function: Any, job: Job, **_: Any) -> None:
        raise Captured(job)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "launch", capture)
        with pytest.raises(Captured) as caught:
            train(music.store, SPEC, "vgg-cnn", out, config=config)
    return caught.value.job


def one_process(rank: int, world_size: int, port: int, jobs: list[Job], kills: tuple[int, ...], report: str) -> None:
    """The whole run, then runs killed after each step and resumed, in one group of processes."""
    from lightning_fabric import Fabric

    from featstore.training.engines import ddp_strategy
    from featstore.training.loop import Loop

    torch.set_num_threads(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
    place |= {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {name: str(value) for name, value in place.items()} | {"FEATSTORE_PROGRESS": "0"}
    fabric = Fabric(
        accelerator="cpu", devices=world_size, strategy=ddp_strategy(jobs[0].config.device, start_method="popen")
    )
    fabric.launch()
    show, seen = Loop._show, []
    step = Loop.step

    def noting(self: Loop, batch: dict, n_batches: int) -> None:
        seen.append([self.progress.epoch, self.progress.batch, batch["index"].tolist(), batch["start"].tolist()])
        step(self, batch, n_batches)

    Loop.step = noting
    outcome = work(fabric, jobs[0])
    whole, scores = list(seen), [part.values for part in outcome.parts]
    faults = []
    for last, job in zip(kills, jobs[1:], strict=True):

        def dying(self: Loop, last: int = last) -> None:
            show(self)
            if self.progress.step == last:
                raise Killed

        seen.clear()
        Loop._show = dying
        with contextlib.suppress(Killed):
            work(fabric, job)
        Loop._show = show
        fabric.barrier()
        kept = job.folder.last.is_file()
        reached = load_checkpoint(job.folder.last)[1]["progress"] if kept else {"epoch": 0, "batch": 0}
        before = [each for each in seen if (each[0], each[1]) < (reached["epoch"], reached["batch"])]
        seen.clear()
        again = work(fabric, job)
        if before + seen != whole:
            faults.append(f"killed after step {last}: other items on rank {rank}")
        if [part.values for part in again.parts] != scores:
            faults.append(f"killed after step {last}: other scores")
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, (whole, faults))
    if rank == 0:
        Path(report).write_text(json.dumps(gathered))


def losses(out: Path) -> list[dict]:
    lines = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    return [{"train": line["train"], "valid": line["valid"]} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_killed_at_every_step_of_small_epochs(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    kills = tuple(range(1, EPOCHS * BATCHES + 1))
    settings = config(
        *(f"device.devices={world_size}", "data.batch_size=12", f"loop.epochs={EPOCHS}", "loop.checkpoint_batches=1"),
        *("evaluate.bootstrap=0", "evaluate.splits=[test]", "loop.validation_windows=1", "augment.mixup=0.4"),
    )
    names = ["whole", *(f"killed-{last}" for last in kills)]
    jobs = [job_of(music, tmp_path / name, settings, monkeypatch) for name in names]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    report = tmp_path / "report.json"
    torch.multiprocessing.spawn(one_process, (world_size, port, jobs, kills, str(report)), nprocs=world_size)
    ranks = json.loads(report.read_text())
    assert [faults for _, faults in ranks] == [[]] * world_size
    for epoch in range(EPOCHS):  # nothing is lost and nothing comes twice
        items = [track for whole, _ in ranks for at, _, index, _ in whole for track in index if at == epoch]
        assert sorted(items) == list(range(36))
    whole, _ = load_checkpoint(tmp_path / "whole/checkpoints/last.safetensors")
    for name in names[1:]:
        again, _ = load_checkpoint(tmp_path / name / "checkpoints/last.safetensors")
        moved = [
            key for key in whole if key.startswith(("model.", "optimizer.")) and not torch.equal(whole[key], again[key])
        ]
        assert not moved, (name, moved)
        assert losses(tmp_path / name) == losses(tmp_path / "whole"), name
