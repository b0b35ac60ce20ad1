"""Pretraining by masked prediction: what is hidden, what is judged, what it is good for."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import killed_after
from small_store import SPEC, Collection, make_collection

from featstore.errors import CheckpointError, ConfigError, DatasetError
from featstore.models import create
from featstore.models.checkpoint_file import load_checkpoint
from featstore.models.layers import InputNorm
from featstore.results import read_results
from featstore.training import TrainConfig, evaluate, train
from featstore.training.masking import HIDE, SWAP, apply_spans, draw_spans, frames_of, interpolated
from featstore.training.reconstruction import Reconstructor
from featstore.training.starting import layer_scales

Make = Callable[..., TrainConfig]
HOW = {"share": 0.3, "span_ms": 100.0, "hidden": 0.8, "swapped": 0.1}


def spans_of(n: int, length_ms: float = 3000.0, **changes):
    index, start = np.arange(n), np.zeros(n)
    return draw_spans(index, start, np.full(n, length_ms), **(HOW | {"seed": 0, "epoch": 0} | changes))


# ---- masks ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0.05, 0.9), span=st.floats(1, 400), length=st.floats(40, 9000), epoch=st.integers(0, 5))
def test_spans_lie_inside_apart_and_cover_the_share(share: float, span: float, length: float, epoch: int) -> None:
    found = spans_of(20, length, share=share, span_ms=span, epoch=epoch)
    width = found.length_ms[0]
    assert width == min(span, length / 2)
    count = (~np.isnan(found.starts)).sum(axis=1)
    assert (count >= 1).all() and len(set(count.tolist())) == 1
    for row in found.starts:
        row = row[~np.isnan(row)]
        assert row[0] >= 0 and row[-1] + width <= length * (1 + 1e-9)
        assert (np.diff(row) >= width * (1 - 1e-9)).all()
    covered = count[0] * width / length
    assert abs(covered - share) <= max(width / length, 1e-9) or count[0] == 1


def test_the_same_seconds_are_hidden_whatever_the_hop() -> None:
    spans = spans_of(50)
    for hop in (5.0, 10.0, 16.0, 32.0):
        chosen, _ = frames_of(spans, hop_ms=hop, n_frames=round(3000 / hop))
        assert chosen.float().mean() == pytest.approx(0.3, abs=0.02 + hop / 500)
        at = (np.arange(chosen.shape[1]) + 0.5) * hop
        starts, ends = spans.starts[0], spans.starts[0] + 100
        inside = ((at[:, None] > starts + hop) & (at[:, None] < ends - hop)).any(axis=1)
        assert chosen[0].numpy()[inside].all()


def test_masks_are_a_function_of_seed_epoch_track_and_start() -> None:
    one = spans_of(8)
    assert np.array_equal(one.starts, spans_of(8).starts)
    assert np.array_equal(one.starts[3], spans_of(4).starts[3])  # no neighbour matters
    for other in (spans_of(8, seed=1), spans_of(8, epoch=1), spans_of(8, purpose=1)):
        assert not np.array_equal(one.starts, other.starts)
    index, length = np.array([5, 5]), np.full(2, 3000.0)
    twice = draw_spans(index, np.array([0.0, 1600.0]), length, **HOW, seed=0, epoch=0)
    assert not np.array_equal(twice.starts[0], twice.starts[1])  # another crop of the same track


def test_four_in_five_spans_are_hidden_and_one_in_ten_swapped() -> None:
    spans = spans_of(3000)
    actions = spans.action[~np.isnan(spans.starts)]
    assert np.mean(actions == HIDE) == pytest.approx(0.8, abs=0.01)
    assert np.mean(actions == SWAP) == pytest.approx(0.1, abs=0.01)


def test_places_are_uniform() -> None:
    chosen, _ = frames_of(spans_of(4000), hop_ms=10, n_frames=300)
    share = chosen.float().mean(dim=0).numpy()
    assert share[20:-20] == pytest.approx(0.3, abs=0.04)


def test_what_the_model_sees() -> None:
    spans = spans_of(200)
    chosen, source = frames_of(spans, hop_ms=10, n_frames=300)
    x = torch.arange(300.0).expand(200, 2, 300).clone()
    shown = apply_spans(x, source, torch.tensor([[-7.0], [-9.0]]))
    hidden = source < 0
    assert (shown[:, 0][hidden] == -7).all() and (shown[:, 1][hidden] == -9).all()
    assert torch.equal(shown[:, 0][~chosen], x[:, 0][~chosen])
    swapped = chosen & ~hidden & (source != torch.arange(300))
    assert 0.06 < swapped.sum() / chosen.sum() < 0.14
    assert torch.equal(shown[:, 0][swapped], source[swapped].float())


def test_padding_is_never_chosen() -> None:
    length = np.array([3000.0, 500.0, 30.0])
    spans = draw_spans(np.arange(3), np.zeros(3), length, **HOW, seed=0, epoch=0)
    chosen, _ = frames_of(spans, hop_ms=10, n_frames=300)
    assert chosen.any(dim=1).all()
    for row, real in enumerate((300, 50, 3)):
        assert not chosen[row, real:].any()


def test_the_line_across_a_span_by_hand() -> None:
    x = torch.tensor([[[1.0, 9, 9, 4, 6, 9]], [[9, 2, 3, 4, 5, 6]], [[1, 2, 3, 4, 5, 6]]])
    chosen = torch.tensor([[0, 1, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    expected = torch.tensor([[[1.0, 2, 3, 4, 6, 6]], [[2, 2, 3, 4, 5, 6]], [[0, 0, 0, 0, 0, 0]]])
    assert torch.equal(interpolated(x, chosen), expected)


def test_a_hidden_frame_cannot_be_read_from_the_input_and_gives_all_the_gradient() -> None:
    torch.manual_seed(0)
    model = create("conv-encoder", n_mels=4, n_frames=60, n_classes=1, width=8)
    norm = InputNorm(np.full(4, -50.0), np.full(4, 5.0))
    predictor = Reconstructor(model, norm, n_outputs=4).eval()
    assert not model.output.weight.requires_grad
    x = torch.randn(3, 4, 60) * 5 - 50
    chosen, source = frames_of(spans_of(3, 600.0, hidden=1.0, swapped=0.0), hop_ms=10, n_frames=60)
    changed = torch.where(chosen[:, None], x + 30, x)
    mean = norm.mean
    with torch.no_grad():
        one, two = (predictor(apply_spans(each, source, mean)) for each in (x, changed))
    assert torch.equal(one, two)
    assert torch.allclose(predictor.frames(x), (x + 50) / 5)


# ---- runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Spectrograms whose bands swing slowly, each with its own period: a line across a span is a poor guess."""
    import pandas as pd
    from small_store import write_store

    rng, n, frames = np.random.default_rng(0), 40, 192
    values = {}
    for i in range(n):
        phase = rng.uniform(0, 2 * np.pi, (16, 1))
        period = np.linspace(6, 10, 16)[:, None]
        swing = np.sin(2 * np.pi * np.arange(frames) / period + phase)
        values[f"t{i:03d}"] = (swing * 8 - 60 + rng.normal(0, 0.5, (16, frames))).astype(np.float32)
    frame = pd.DataFrame(
        {
            "track_id": list(values),
            "path": [f"/music/{track}.wav" for track in values],
            "labels": [[] for _ in values],
            "split": [("train", "train", "train", "valid", "test")[i % 5] for i in range(n)],
            "style": ["loud" if i % 2 else "quiet" for i in range(n)],
        }
    )
    path = tmp_path_factory.mktemp("waves") / "waves.zarr"
    return Collection(write_store(path, frame, values, spec=SPEC), frame, values)


@pytest.fixture
def masked() -> Make:
    def make(*assignments: str, seed: int | None = None) -> TrainConfig:
        small = ["objective.name=masked", "model.width=24", "model.blocks=3", "data.batch_size=8", "loop.epochs=2"]
        small += ["data.crop_frames=96", "device.accelerator=cpu", "device.deterministic=true"]
        return TrainConfig.resolve(assignments=[*small, *assignments], seed=seed)

    return make


def pretrain(waves: Collection, out: Path, config: TrainConfig, feature: object = SPEC) -> dict:
    return train(waves.store, feature, "conv-encoder", out, config=config)


@pytest.mark.slow
def test_it_beats_a_line_and_the_result_says_so(
    waves: Collection, tmp_path: Path, masked: Make, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setenv("FEATSTORE_PROGRESS", "1")
    rates = ("optimizer.learning_rate=5e-3", "loop.epochs=14", "data.crops_per_track=4")
    result = pretrain(waves, tmp_path / "run", masked(*rates, "objective.span_ms=160"))
    scores = result["scores"]["valid"]
    better = min(scores["line_baseline"], scores["mean_baseline"])
    assert scores["skill"] == pytest.approx(1 - scores["loss"] / better)
    assert scores["skill"] > 0.3, scores
    assert scores["chosen_share"] == pytest.approx(0.3, abs=0.05)
    assert (result["task"], result["objective"], result["classes"]) == ("none", "masked", [])
    assert result["n_tracks"] == {"train": 24, "valid": 8, "test": 8}
    assert "to beat on the validation split: " in capsys.readouterr().err
    assert evaluate(tmp_path / "run") == result["scores"]
    assert not (tmp_path / "run/predictions.parquet").exists()
    lines = [json.loads(text) for text in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert result["best_epoch"] == int(np.argmin([line["valid"]["loss"] for line in lines]))
    assert [record.run_id for record in read_results(tmp_path)] == [result["run_id"]]


def test_baselines_are_those_computed_by_hand(waves: Collection, tmp_path: Path, masked: Make) -> None:
    result = pretrain(waves, tmp_path / "run", masked("loop.epochs=1"))
    tensors, _ = load_checkpoint(tmp_path / "run/checkpoints/best.safetensors")
    mean, std = tensors["model.norm.mean"].numpy(), tensors["model.norm.std"].numpy()
    valid = sorted(waves.frame["track_id"][waves.frame["split"] == "valid"])
    total, n = 0.0, 0
    for index, track in enumerate(valid):
        for start in (0, 96):
            values = (waves.values[track][:, start : start + 96] - mean) / std
            at = draw_spans(
                np.array([index]), np.array([start * 32.0]), np.array([96 * 32.0]), **HOW, seed=0, epoch=0, purpose=1
            )
            chosen = frames_of(at, hop_ms=32, n_frames=96)[0][0].numpy()
            total, n = total + np.abs(values[:, chosen]).sum(), n + 16 * chosen.sum()
    assert result["scores"]["valid"]["mean_baseline"] == pytest.approx(total / n, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("objective.distance=l2", "objective.positions=all", "loop.ema=0.9")])
def test_killed_at_any_batch_it_goes_on_bit_for_bit(
    waves: Collection, tmp_path: Path, masked: Make, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    config = masked("loop.checkpoint_batches=1", *extra)
    whole = pretrain(waves, tmp_path / "whole", config)
    for last in (1, 4):
        with killed_after(last, monkeypatch):
            pretrain(waves, tmp_path / str(last), config)
        assert pretrain(waves, tmp_path / str(last), config)["scores"] == whole["scores"]
        one, two = (load_checkpoint(tmp_path / run / "checkpoints/last.safetensors")[0] for run in ("whole", str(last)))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_fine_tuning_a_pretrained_encoder(waves: Collection, tmp_path: Path, masked: Make, config: Make) -> None:
    pretrain(waves, tmp_path / "first", masked("loop.epochs=1"))
    first, _ = load_checkpoint(tmp_path / "first/checkpoints/best.safetensors")
    same = ("model.width=24", "model.blocks=3", "data.crop_frames=96", "data.label_column=style", "loop.epochs=2")
    tuning = [f"start.run={tmp_path / 'first'}", *same]

    def tuned(name: str, *extra: str) -> dict[str, torch.Tensor]:
        chosen = TrainConfig.resolve(assignments=[*tuning, "data.batch_size=8", "device.accelerator=cpu", *extra])
        result = train(waves.store, SPEC, "conv-encoder", tmp_path / name, config=chosen)
        assert result["classes"] == ["loud", "quiet"]
        tensors, state = load_checkpoint(tmp_path / name / "checkpoints/last.safetensors")
        assert not any(key.startswith("output") for key in state["trunk"])
        assert torch.equal(tensors["model.norm.mean"], first["model.norm.mean"])
        return tensors

    def moved(tensors: dict[str, torch.Tensor], name: str) -> float:
        return float((tensors[f"model.model.{name}"] - first[f"model.model.{name}"]).abs().max())

    probe = tuned("probe", "start.trunk_rate=0")
    assert moved(probe, "stem.weight") == moved(probe, "blocks.2.mix.weight") == 0
    decayed = tuned("decayed", "start.layer_decay=0.1")
    assert 0 < 5 * moved(decayed, "blocks.1.mix.weight") < moved(decayed, "blocks.2.mix.weight")
    assert 0 < moved(decayed, "stem.weight") < moved(decayed, "blocks.0.mix.weight")
    with pytest.raises(
        CheckpointError, match=r"the trunk does not fit: stem.weight is \(24, 16, 1\), not \(8, 16, 1\)"
    ):
        tuned("narrow", "model.width=8")


def test_rates_fall_from_block_to_block() -> None:
    model = create("conv-encoder", n_mels=4, n_frames=20, n_classes=2, width=8, blocks=2)
    scales = layer_scales(model, 0.5)
    assert scales["blocks.1.mix.weight"] == 0.5 and scales["blocks.0.norm.bias"] == 0.25
    assert scales["stem.weight"] == 0.125 and "output.weight" not in scales


def test_pretraining_on_labels_of_another_column(waves: Collection, tmp_path: Path, config: Make) -> None:
    small = ("model.width=8", "data.crop_frames=96", "loop.epochs=1", "data.batch_size=8", "device.accelerator=cpu")
    first = TrainConfig.resolve(assignments=[*small, "data.label_column=style"])
    train(waves.store, SPEC, "conv-encoder", tmp_path / "first", config=first)
    labels = waves.frame.assign(labels=[["abc"[i % 3]] for i in range(40)])
    second = TrainConfig.resolve(assignments=[*small, f"start.run={tmp_path / 'first'}"])
    result = train(waves.store, SPEC, "conv-encoder", tmp_path / "second", config=second, tracks=labels)
    assert result["classes"] == ["a", "b", "c"]


def test_tracks_need_no_labels_but_splits(waves: Collection, tmp_path: Path, masked: Make) -> None:
    bare = waves.frame[["track_id", "path"]]
    with pytest.raises(DatasetError, match=r"no splits.*data.split=random"):
        train(waves.store, SPEC, "conv-encoder", tmp_path / "a", config=masked(), tracks=bare)
    drawn = masked("data.split=random", "loop.epochs=1")
    result = train(waves.store, SPEC, "conv-encoder", tmp_path / "b", config=drawn, tracks=bare)
    assert sum(result["n_tracks"].values()) == 40
    only = waves.frame.assign(split="train")
    with pytest.raises(DatasetError, match="no stored track in the split 'valid'"):
        train(waves.store, SPEC, "conv-encoder", tmp_path / "c", config=masked(), tracks=only)


def test_wrong_use(waves: Collection, tmp_path: Path, masked: Make) -> None:
    with pytest.raises(ConfigError, match=r"no vector for each stretch of time.*Choose conv-encoder"):
        train(waves.store, SPEC, "vgg-cnn", tmp_path / "a", config=masked())
    with pytest.raises(ConfigError, match=r"this run has no score 'roc_auc' \[loop.monitor\]. It has loss"):
        pretrain(waves, tmp_path / "b", masked("loop.monitor=roc_auc"))
    for setting, message in (
        ("objective.share=1", "share=1.0 is not in"),
        ("objective.span_ms=0", "span_ms=0.0 is not positive"),
        ("objective.swapped=0.5", "are not shares of a whole"),
        ("objective.name=mask", "objective.name='mask'"),
    ):
        with pytest.raises(ConfigError, match=message):
            masked(setting)


def test_short_tracks_are_padded_and_never_chosen_there(tmp_path: Path, masked: Make, caplog) -> None:
    short = make_collection(tmp_path / "s.zarr", n_frames=[96 if i % 2 else 40 for i in range(60)])
    with caplog.at_level(logging.INFO):
        result = pretrain(short, tmp_path / "run", masked("data.ragged=pad", "loop.epochs=1"))
    assert result["scores"]["valid"]["chosen_share"] < 0.25
