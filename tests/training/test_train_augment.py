from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import killed_after
from small_store import SPEC, Collection

from featstore.errors import CheckpointError, ConfigError
from featstore.models.checkpoint_file import load_checkpoint
from featstore.specs import parse_spec
from featstore.training import TrainConfig, train
from featstore.training.augment import gain, make_augmentation, mask, mixup
from featstore.training.config import AugmentConfig

Make = Callable[..., TrainConfig]


def batch(n: int = 6) -> torch.Tensor:
    return torch.rand(n, 16, 30, generator=torch.Generator().manual_seed(0)) + 0.1


@pytest.mark.parametrize("scale", ["db", "db(factor=20)", "power", "magnitude", "log10_1p", "ln"])
def test_gain_means_the_same_on_every_scale(scale: str) -> None:
    parsed = parse_spec(f"mel(scale={scale})").scale
    power = batch()
    drawn = torch.linspace(-6, 6, 6)
    louder = gain(parsed.apply(power, xp=torch), drawn, scale=parsed)
    expected = parsed.apply(power * 10 ** (drawn / 10)[:, None, None], xp=torch)
    torch.testing.assert_close(louder, expected, rtol=1e-4, atol=1e-4)


def test_levels_of_a_batch() -> None:
    spec = {"input": parse_spec(SPEC)}
    quiet = torch.full((2000, 4, 5), -60.0)
    for settings_, lowest, highest in (
        (AugmentConfig(gain_db=6), -66, -54),
        (AugmentConfig(gain=0.1), -60 - 0.9152, -60 + 0.8279),
    ):
        torch.manual_seed(0)
        louder, _ = make_augmentation(settings_, spec, 3)(quiet, torch.zeros(2000, dtype=torch.long))
        assert torch.equal(louder, louder[:, :1, :1].expand_as(louder))
        assert lowest - 1e-4 <= louder.min() < lowest + 0.05
        assert highest - 0.05 < louder.max() <= highest + 1e-4


def test_a_waveform_is_made_louder_by_its_amplitude_and_given_noise() -> None:
    spec = {"input": parse_spec("waveform(sample_rate=16000)")}
    x, target = torch.full((500, 4000), 0.1), torch.zeros(500, dtype=torch.long)
    louder, _ = make_augmentation(AugmentConfig(gain=0.1), spec, 2)(x, target)
    factors = louder[:, 0] / 0.1
    assert torch.equal(louder, louder[:, :1].expand_as(louder))
    assert 0.9 - 1e-5 <= factors.min() < 0.91 < 1.09 < factors.max() <= 1.1 + 1e-5
    assert factors.mean() == pytest.approx(1, abs=0.01)
    rough, _ = make_augmentation(AugmentConfig(noise=0.02), spec, 2)(x, target)
    assert (rough - x).std() == pytest.approx(0.02, rel=0.01)
    even, _ = make_augmentation(AugmentConfig(noise=0.01, noise_kind="uniform"), spec, 2)(x, target)
    assert (even - x).abs().max() <= 0.01 + 1e-6
    assert (even - x).std() == pytest.approx(0.01 / 3**0.5, rel=0.01)


def test_several_inputs_change_together() -> None:
    specs = {"a": parse_spec(SPEC), "b": parse_spec(SPEC.replace("scale=db", "scale=power"))}
    levels = torch.rand(6, 16, 30) * 20 - 60
    x = {"a": levels, "b": 10 ** (levels / 10)}
    target = torch.arange(6) % 3
    louder, _ = make_augmentation(AugmentConfig(gain_db=4), specs, 3)(x, target)
    torch.testing.assert_close(10 ** (louder["a"] / 10), louder["b"], rtol=1e-3, atol=0)
    hidden, _ = make_augmentation(AugmentConfig(time_masks=2, time_width=9, band_masks=1), specs, 3)(x, target)
    assert torch.equal(hidden["a"] != x["a"], hidden["b"] != x["b"])
    x["b"] = x["b"][..., ::2]
    mixed, soft = make_augmentation(AugmentConfig(mixup=0.4, time_masks=1), specs, 3)(x, target)
    assert mixed["b"].shape == (6, 16, 15) and soft.shape == (6, 3)


@settings(max_examples=50, deadline=None)
@given(axis=st.sampled_from([-2, -1]), widest=st.integers(1, 40), count=st.integers(1, 3), seed=st.integers(0, 99))
def test_masks_are_whole_bands_or_frames_of_the_examples_mean(axis: int, widest: int, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = batch()
    masked = mask(x, axis=axis, widest=widest, count=count)
    changed = masked != x
    lines = changed.any(dim=-3 - axis)
    assert torch.equal(lines, changed.all(dim=-3 - axis))
    assert int(lines.sum(dim=1).max()) <= count * widest
    means = x.mean(dim=(1, 2), keepdim=True).expand_as(x)
    assert torch.equal(masked[changed], means[changed])


@pytest.mark.parametrize("single", [True, False])
def test_mixup_mixes_inputs_and_targets_alike(single: bool) -> None:
    torch.manual_seed(1)
    x = torch.eye(5)[:, :, None].repeat(1, 1, 4)  # each example tells who it is
    target = torch.tensor([0, 1, 2, 1, 0]) if single else torch.tensor([[1.0, 0, 0]] * 3 + [[0, 1.0, 1.0]] * 2)
    mixed, soft = mixup(x, target, alpha=0.4, n_classes=3)
    whole = torch.nn.functional.one_hot(target, 3).float() if single else target
    torch.testing.assert_close(mixed[:, :, 0] @ whole, soft)
    assert (mixed.diagonal(dim1=0, dim2=1) >= 0.5).all()


def test_nothing_is_nothing_and_a_gain_needs_a_scale() -> None:
    specs, wave = {"input": parse_spec(SPEC)}, {"input": parse_spec("waveform(sample_rate=16000)")}
    assert make_augmentation(AugmentConfig(), specs, 3) is None

    class Tokens:
        kind = "vq_tokens"

    with pytest.raises(ConfigError, match=r"a gain has no meaning for this feature \[vq_tokens\]"):
        make_augmentation(AugmentConfig(gain_db=3.0), {"input": Tokens()}, 3)
    with pytest.raises(ConfigError, match=r"masks are for spectra \[waveform\]"):
        make_augmentation(AugmentConfig(time_masks=1), wave, 3)
    with pytest.raises(ConfigError, match="gain and gain_db are both set"):
        make_augmentation(AugmentConfig(gain_db=3.0, gain=0.1), specs, 3)
    with pytest.raises(ConfigError, match=r"gain=1.0 is not in \[0, 1\)"):
        AugmentConfig(gain=1.0)
    with pytest.raises(ConfigError, match=r"noise=-1.0 is negative"):
        AugmentConfig(noise=-1.0)


@pytest.mark.slow
def test_an_augmented_run_repeats_itself_after_a_stop(
    styles: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["gain_db=3", "noise=0.5", "band_masks=1", "band_width=3", "time_masks=2", "mixup=0.3"]
    settings = config("loop.checkpoint_batches=1", *(f"augment.{one}" for one in chosen))
    train(styles.store, SPEC, "vgg-cnn", tmp_path / "whole", config=settings)
    with killed_after(6, monkeypatch):
        train(styles.store, SPEC, "vgg-cnn", tmp_path / "killed", config=settings)
    train(styles.store, SPEC, "vgg-cnn", tmp_path / "killed", config=settings)
    one, two = (load_checkpoint(tmp_path / run / "checkpoints/last.safetensors")[0] for run in ("whole", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    plain = train(styles.store, SPEC, "vgg-cnn", tmp_path / "plain", config=config())
    assert plain["run_id"] != TrainConfig.digest(settings.identity())


@pytest.mark.slow
def test_fine_tuning_starts_from_another_runs_trunk(
    music: Collection, styles: Collection, tmp_path: Path, config: Make
) -> None:
    train(music.store, SPEC, "vgg-cnn", tmp_path / "first", config=config())
    first, _ = load_checkpoint(tmp_path / "first/checkpoints/best.safetensors")
    settings = config(
        *(f"start.run={tmp_path / 'first'}", "start.freeze_epochs=9", "data.label_column=style", "loop.epochs=2")
    )
    result = train(music.store, SPEC, "vgg-cnn", tmp_path / "second", config=settings)
    second, state = load_checkpoint(tmp_path / "second/checkpoints/last.safetensors")
    assert result["task"] == "single_label"
    frozen = [f"model.model.{name}" for name in state["trunk"]]
    assert "model.model.blocks.0.0.weight" in frozen
    assert all(torch.equal(first[name], second[name]) for name in frozen)
    assert "output.weight" not in state["trunk"]  # another number of classes
    thawed = config(f"start.run={tmp_path / 'first'}", "start.trunk_rate=0.1", "data.label_column=style")
    train(music.store, SPEC, "vgg-cnn", tmp_path / "third", config=thawed)
    third, _ = load_checkpoint(tmp_path / "third/checkpoints/last.safetensors")
    moved = (third["model.model.blocks.0.0.weight"] - first["model.model.blocks.0.0.weight"]).abs().max()
    assert 0 < moved < 2e-3  # eight steps of at most a tenth of 1e-3


def test_a_start_that_cannot_be(music: Collection, tmp_path: Path, config: Make) -> None:
    train(music.store, SPEC, "vgg-cnn", tmp_path / "first", config=config())
    wide = (f"start.run={tmp_path / 'first'}", "model.width=0.1")
    with pytest.raises(CheckpointError, match=r"the trunk does not fit: blocks.0.0.weight is .*start.strict=false"):
        train(music.store, SPEC, "vgg-cnn", tmp_path / "wide", config=config(*wide))
    with pytest.raises(CheckpointError, match=r"[0-9]+ of [0-9]+ parameters of the trunk fit this model"):
        train(music.store, SPEC, "vgg-cnn", tmp_path / "wider", config=config(*wide, "start.strict=false"))
    with pytest.raises(CheckpointError, match=r"no checkpoint to start from.*Check start.run"):
        train(music.store, SPEC, "vgg-cnn", tmp_path / "none", config=config("start.run=nowhere"))
