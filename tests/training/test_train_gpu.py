"""On a CUDA device: mixed precision, determinism across a stop, and the watch over losses that does not wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from killing import killed_after
from small_store import SPEC, Collection

from featstore.models.checkpoint_file import load_checkpoint
from featstore.training import NonFiniteLoss, TrainConfig, evaluate, train
from featstore.training.loop import Loop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device was found"),
]

Make = Callable[..., TrainConfig]
ON = ("device.accelerator=cuda", "loop.epochs=3")


def losses(out: Path) -> list[float]:
    return [json.loads(line)["train"]["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("tier", ["gpu", "ram"])
def test_it_follows_the_cpu(music: Collection, tmp_path: Path, config: Make, precision: str, tier: str) -> None:
    train(music.store, SPEC, "vgg-cnn", tmp_path / "cpu", config=config("loop.epochs=3"))
    settings = config(*ON, f"device.precision={precision}", f"data.tier={tier}")
    result = train(music.store, SPEC, "vgg-cnn", tmp_path / "gpu", config=settings)
    assert losses(tmp_path / "gpu") == pytest.approx(losses(tmp_path / "cpu"), rel=0.1)
    again = evaluate(tmp_path / "gpu")
    assert again["test"]["loss"] == pytest.approx(result["scores"]["test"]["loss"], rel=1e-3)
    assert result["peak_memory_bytes"] > 0 and result["device"] == torch.cuda.get_device_name()


@pytest.mark.parametrize("precision", ["32", "16-mixed"])
def test_stopped_and_resumed_bit_for_bit(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    settings = config(*ON, f"device.precision={precision}", "loop.checkpoint_batches=1", "augment.mixup=0.3")
    train(music.store, SPEC, "vgg-cnn", tmp_path / "whole", config=settings)
    with killed_after(6, monkeypatch):
        train(music.store, SPEC, "vgg-cnn", tmp_path / "killed", config=settings)
    train(music.store, SPEC, "vgg-cnn", tmp_path / "killed", config=settings)
    one, two = (load_checkpoint(tmp_path / run / "checkpoints/last.safetensors")[0] for run in ("whole", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one if name.startswith(("model.", "optimizer.")))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_a_loss_that_is_not_finite_is_noticed_a_step_later_and_named(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop.step

    def poisoned(self: Loop, batch: dict, n_batches: int) -> None:
        if (self.progress.epoch, self.progress.batch) == (1, 1):
            with torch.no_grad():
                self.parts.normed.model.output.weight[0, 0] = float("inf")
        step(self, batch, n_batches)

    monkeypatch.setattr(Loop, "_step", poisoned)
    with pytest.raises(NonFiniteLoss, match="epoch 1, batch 1, tracks t"):
        train(music.store, SPEC, "vgg-cnn", tmp_path / "run", config=config(*ON, "loop.checkpoint_batches=1"))
    tensors, _ = load_checkpoint(tmp_path / "run/checkpoints/last.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())
