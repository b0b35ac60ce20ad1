"""Mixed precision and several processes, through Lightning Fabric on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_store import SPEC, Collection

from featstore.errors import ConfigError, FeatstoreError
from featstore.models.checkpoint_file import load_checkpoint
from featstore.training import TrainConfig, evaluate, train, work
from featstore.training.config import DeviceConfig
from featstore.training.engines import make_fabric, process_settings
from featstore.training.loop import Loop

Make = Callable[..., TrainConfig]


def run(music: Collection, out: Path, config: TrainConfig) -> dict:
    return train(music.store, SPEC, "vgg-cnn", out, config=config)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["train"]["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_plain_torch_is_enough_for_one_cpu() -> None:
    assert make_fabric(DeviceConfig(accelerator="cpu")) is None


@pytest.mark.slow
def test_bfloat16_follows_float32(music: Collection, tmp_path: Path, config: Make) -> None:
    run(music, tmp_path / "full", config())
    result = run(music, tmp_path / "half", config("device.precision=bf16-mixed"))
    assert losses(tmp_path / "half") != losses(tmp_path / "full")
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "full"), rel=0.05)  # 8 bits of mantissa
    assert evaluate(tmp_path / "half") == result["scores"]


@pytest.mark.slow
def test_a_compiled_model_follows_the_plain_one(music: Collection, tmp_path: Path, config: Make) -> None:
    run(music, tmp_path / "plain", config())
    result = run(music, tmp_path / "compiled", config("device.compile=true"))
    # fused operations round in another order, and training spreads that
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)
    assert evaluate(tmp_path / "compiled") == result["scores"]


def test_process_settings_are_undone() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    other = before[0] + 1
    with process_settings(DeviceConfig(threads=other, deterministic=True, keep_memory=False), macs_per_batch=1e12):
        assert torch.get_num_threads() == other
        assert torch.are_deterministic_algorithms_enabled()
    with process_settings(DeviceConfig(keep_memory=False), macs_per_batch=10):
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def die_after_four_steps(fabric: object, job: work.Job) -> work.Outcome:
    """Stand in for ``work``: every process dies inside the second epoch, after a state was kept."""
    show = Loop._show

    def dying(self: Loop) -> None:
        show(self)
        if self.progress.step == 5:
            raise ConfigError("died on purpose", "test")

    Loop._show = dying
    return work.work(fabric, job)


@pytest.mark.slow
def test_two_processes_share_a_run_and_resume_it(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = ("loop.epochs=3", "data.batch_size=10", "loop.checkpoint_batches=1", "evaluate.bootstrap=0")
    settings = config("device.devices=2", *same)
    whole = run(music, tmp_path / "whole", settings)
    one = run(music, tmp_path / "one", config(*same))
    assert whole["run_id"] == one["run_id"]
    # the same global batches; each process's norms see its half of them, so the numbers are near and not equal
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "one"), rel=0.5)
    with monkeypatch.context() as patch:
        patch.setattr("featstore.training.run.work", die_after_four_steps)
        with pytest.raises(FeatstoreError, match="died on purpose"):
            run(music, tmp_path / "killed", settings)
    _, state = load_checkpoint(tmp_path / "killed/checkpoints/last.safetensors")
    assert (state["progress"]["epoch"], state["progress"]["batch"]) == (1, 1)
    assert run(music, tmp_path / "killed", settings)["scores"] == whole["scores"]
    again, _ = load_checkpoint(tmp_path / "killed/checkpoints/last.safetensors")
    end, _ = load_checkpoint(tmp_path / "whole/checkpoints/last.safetensors")
    weights = [name for name in end if name.startswith(("model.", "optimizer."))]
    assert all(torch.equal(again[name], end[name]) for name in weights)
    with pytest.raises(FeatstoreError, match=r"batch_size=9 cannot be shared by 2 processes"):
        run(music, tmp_path / "odd", config("device.devices=2", "data.batch_size=9"))


def test_norms_over_several_devices_need_cuda(music: Collection, tmp_path: Path, config: Make) -> None:
    with pytest.raises(ConfigError, match=r"torch joins batch norms on CUDA only \[device.sync_norms=true\]"):
        run(music, tmp_path / "run", config("device.devices=2", "device.sync_norms=true"))
    run(music, tmp_path / "one", config("device.sync_norms=true", "loop.epochs=1"))
