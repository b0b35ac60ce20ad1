"""Learned filters in training: the paper's settings, a learning rate of their own, and how far they moved."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_store import fill_store

from featstore.errors import ConfigError
from featstore.loaders.crops import CropPlan, plan_crops
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store
from featstore.training import TrainConfig, evaluate, train
from featstore.training.config import OptimizerConfig, ScheduleConfig
from featstore.training.feeding import TAILS
from featstore.training.optimizers import make_optimizer, rate_factor, set_rate

WAVE = "waveform(sample_rate=8000)"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rng, n = np.random.default_rng(0), 20
    frame = pd.DataFrame(
        {
            "track_id": [f"t{i:02d}" for i in range(n)],
            "path": [f"/music/{i}.wav" for i in range(n)],
            "labels": [["high" if i % 2 else "low"] for i in range(n)],
            "split": [("train", "train", "train", "valid", "test")[i % 5] for i in range(n)],
        }
    )
    seconds, values = np.arange(12_000) / 8000, {}
    for i, track in enumerate(frame["track_id"]):
        tone = 0.3 * np.sin(2 * np.pi * (900 if i % 2 else 200) * seconds)
        values[track] = (tone + 0.01 * rng.standard_normal(len(seconds))).astype(np.float32)
    spec = parse_spec(WAVE)
    header = ArrayHeader(spec, Encoding.parse("float32", spec), (), ("sample",))
    return fill_store(tmp_path_factory.mktemp("filters") / "store.zarr", frame, values, header)


def settings(*assignments: str) -> TrainConfig:
    """Return the paper's settings, with a small network and few epochs."""
    small = [
        "model.filters=6",
        "model.lengths=[21,41,81]",
        "model.columns=64",
        "model.width=0.125",
        "model.fc_hidden=8",
    ]
    small += ["model.sample_rate=8000", "loop.epochs=2", "evaluate.bootstrap=10", "device.accelerator=cpu"]
    paper = ["data.crop_s=0.5", "data.crops_per_track=4", "data.distinct_crops=true", "data.crop_grid_s=0.125"]
    paper += ["data.window_stride_s=0.125", "data.batch_size=8", "augment.gain=0.1", "augment.noise=0.02"]
    paper += ["optimizer.name=sgd", "optimizer.learning_rate=0.005", "optimizer.weight_decay=0.0001"]
    paper += ["evaluate.pool=majority", "loop.keep=last"]
    return TrainConfig.resolve(assignments=[*small, *paper, *assignments])


def movement(run: Path) -> list[dict[str, float]]:
    return [json.loads(line)["model"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_cutoffs_have_a_rate_of_their_own_and_their_movement_is_recorded(store: Store, tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = train(store, WAVE, "ms-sinc-resnet", tmp_path / "run", config=settings("optimizer.cutoff_rate=1000"))
    assert evaluate(tmp_path / "run") == result["scores"]
    epochs = movement(tmp_path / "run")
    assert [set(epoch) for epoch in epochs] == [
        {f"maps.{k}.bank.{figure}" for k in range(3) for figure in ("mean_hz", "max_hz")}
    ] * 2
    assert all(0 < epoch["maps.1.bank.mean_hz"] < epoch["maps.1.bank.max_hz"] for epoch in epochs)
    assert epochs[1]["maps.0.bank.max_hz"] != epochs[0]["maps.0.bank.max_hz"]
    train(store, WAVE, "ms-sinc-resnet", tmp_path / "still", config=settings("optimizer.cutoff_rate=0"))
    assert all(set(epoch.values()) == {0.0} for epoch in movement(tmp_path / "still"))


def test_groups_of_the_optimizer() -> None:
    names = {"low_hz": (3,), "weight": (2, 2), "bias": (2,)}
    parameters = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in names.items()}
    config = OptimizerConfig(name="sgd", weight_decay=1e-4)
    optimizer = make_optimizer(parameters.items(), config, trunk={"low_hz", "weight"}, rates={"low_hz": 50.0})
    set_rate(optimizer, 0.01, trunk_rate=0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(parameters[name])] for name in names] == pytest.approx([0.25, 0.005, 0.01])
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decays[id(parameters[name])] for name in names] == [0, 1e-4, 0]
    assert optimizer.param_groups[-1]["rate"] == 1, "reports read the rate of the last group"


def test_schedule_of_the_paper() -> None:
    paper = ScheduleConfig(name="step", step_epochs=30, factor=0.5, warmup_epochs=5, warmup_factor=0.002)
    rates = [0.005 * rate_factor(paper, epoch=epoch, epochs=200) for epoch in (0, 4.99, 5, 29, 30, 59, 60, 199)]
    wanted = [1e-5, 1e-5, 0.005, 0.005, 0.0025, 0.0025, 0.00125, 0.005 / 2**6]
    assert rates == pytest.approx(wanted)


CLIP, GRID = 48_000, 8000


def clips(n_samples: int, policy: str, mode: str, **more: object) -> CropPlan:
    """Clips of 3 s of one track, as the loaders of training lay them out."""
    settings = {"crop_frames": CLIP, "window_stride": GRID, "ragged": "pad", "tail": TAILS[policy]}
    lengths, seconds = [np.array([n_samples])], [Fraction(1, 16_000)]
    return plan_crops(lengths, seconds, ["track"], ["waveform"], mode=mode, **settings, **more)


@pytest.mark.parametrize("n_samples", [480_000, 480_213, 487_999])  # the second is the usual length of GTZAN
def test_clips_at_test_are_the_55_of_the_paper(n_samples: int) -> None:
    assert clips(n_samples, "whole", "windows").first.tolist() == list(range(0, 440_000, GRID))
    covered = clips(n_samples, "cover", "windows").first
    assert covered[-1] == n_samples - CLIP, "which is a clip more than the paper's where the track is longer than 30 s"


@pytest.mark.parametrize("n_samples", [47_999, 16_000, 1])
def test_a_track_shorter_than_a_clip_gives_one_that_is_filled_up(n_samples: int) -> None:
    for policy in ("whole", "cover"):
        plan = clips(n_samples, policy, "windows")
        assert plan.first.tolist() == [0]
        assert plan.valid_of(0, np.array([0]), plan.first).tolist() == [n_samples]


def test_clips_of_the_published_code() -> None:
    """Its rows, from its rule: two seconds before and one after each mark of half a second, wrapped and filled up."""
    signal = np.arange(1, 480_001)

    def row(number: int) -> np.ndarray:
        start = GRID * number - 32_000
        part = signal[start:] if start < 0 else signal[start : start + CLIP]
        return np.pad(part, (0, CLIP - len(part)))

    plan = clips(480_000, "published_code", "windows")
    found = [signal[start : start + CLIP] for start in plan.first]
    valid = plan.valid_of(0, np.arange(60), plan.first)
    assert [len(part) for part in found] == valid.tolist()
    filled = {tuple(np.pad(part, (0, CLIP - len(part)))[[0, -1]]) for part in found}
    assert len(found) == 60 and filled == {tuple(row(number)[[0, -1]]) for number in range(60)}
    drawn = clips(480_000, "published_code", "random", crops_per_track=3, start_grid=GRID)
    starts = np.concatenate([drawn.starts(seed=0, epoch=epoch) for epoch in range(400)])
    assert set(starts) == {int(row(number)[0]) - 1 for number in range(59)}, "it never trains on the last row"
    assert {int(row(number)[0]) - 1 for number in range(60)} - set(starts) == {440_000}
    chance = np.linspace(0, 1, 59, endpoint=False)
    loose = drawn.drawn_starts(np.zeros(59, dtype=int), chance + 1e-9)
    assert sorted(loose) == sorted(set(starts))


def test_clips_past_the_end_must_be_filled_up() -> None:
    with pytest.raises(ConfigError, match=r"clip_policy=published_code with ragged=error.*data\.ragged=pad"):
        TrainConfig.resolve(assignments=["data.clip_policy=published_code"])
