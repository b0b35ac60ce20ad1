"""Parts of the training split, and weights that saw what a run validates with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_store import SPEC, Collection

from featstore.errors import ConfigError, DatasetError
from featstore.models.checkpoint_file import load_checkpoint
from featstore.training import TrainConfig, train
from featstore.training.labels import LabelledTracks, SplitTracks
from featstore.training.losses import class_weighting, make_loss
from featstore.training.shares import with_train_share

Make = Callable[..., TrainConfig]


def labelled(n: int = 90) -> LabelledTracks:
    ids = [f"t{i:03d}" for i in range(n)]
    part = SplitTracks(ids, np.arange(n) % 3, [f"group {i // 3}" for i in range(n)])
    return LabelledTracks("x", "single_label", ("a", "b", "c"), {"train": part, "valid": part})


def test_a_share_has_every_class_in_whole_groups_and_grows_by_adding() -> None:
    whole, seen = labelled(), set()
    for share in (0.01, 0.1, 0.5, 1.0):
        found = with_train_share(whole, share, seed=0)
        kept = set(found.splits["train"].track_ids)
        assert np.bincount(found.splits["train"].targets).tolist() == [max(1, round(30 * share))] * 3
        assert seen <= kept and found.splits["valid"] is whole.splits["valid"]
        seen = kept
    assert with_train_share(whole, 0.1, seed=1).splits["train"].track_ids != sorted(seen)[:9]
    by_row = dict(zip(whole.splits["train"].track_ids, whole.splits["train"].targets, strict=True))
    half = with_train_share(whole, 0.5, seed=0).splits["train"]
    assert [by_row[track] for track in half.track_ids] == half.targets.tolist()


def test_one_sided_classes_are_those_of_the_tracks_in_use() -> None:
    ids, targets = [f"t{i:02d}" for i in range(30)], np.zeros((30, 2), np.float32)
    targets[:15, 0], targets[29, 1] = 1, 1
    part = SplitTracks(ids, targets, [f"track {track}" for track in ids])
    whole = LabelledTracks("x", "multi_label", ("a", "b"), {"train": part})
    kept = with_train_share(whole, 0.2, seed=0)
    assert kept.splits["train"].targets.sum(axis=0).tolist() == [3, 0]
    assert (whole.one_sided, kept.one_sided) == ({"train": []}, {"train": ["b"]})


def test_weights_of_classes() -> None:
    targets = np.repeat(np.arange(3), [600, 60, 1])
    assert class_weighting("none", targets, 3) == (None, None)
    inverse, _ = class_weighting("inverse", targets, 3)
    assert inverse.tolist() == pytest.approx([661 / 1800, 661 / 180, 10])
    root, _ = class_weighting("inverse_sqrt", targets, 3)
    assert root.tolist() == pytest.approx([(661 / 1800) ** 0.5, (661 / 180) ** 0.5, 10])
    _, added = class_weighting("logit_adjusted", targets, 3)
    assert np.exp(added).sum() == pytest.approx(1) and added.argmax() == 0
    with pytest.raises(ConfigError, match="inverse is for single labels"):
        class_weighting("inverse", np.zeros((4, 3)), 3)


def test_adjusted_logits_ask_more_of_a_rare_class() -> None:
    import torch

    plain, adjusted = make_loss("single_label"), make_loss("single_label", added=torch.tensor([0.9, 0.1]).log())
    logits = torch.zeros(1, 2)
    for target, factor in ((0, 0.9), (1, 0.1)):
        assert float(plain(logits, torch.tensor([target]))) == pytest.approx(np.log(2))
        assert float(adjusted(logits, torch.tensor([target]))) == pytest.approx(-np.log(factor), rel=1e-5)


def test_results_hold_chance_and_the_overfitting_gap(styles: Collection, tmp_path: Path, config: Make) -> None:
    chosen = config("evaluate.splits=train,valid,test", "loop.monitor=macro_f1_all", "loop.class_weights=inverse_sqrt")
    result = train(styles.store, SPEC, "vgg-cnn", tmp_path / "run", config=chosen)
    assert set(result["chance"]["test"]) == {"uniform", "class_share", "largest"}
    assert result["chance"]["test"]["uniform"]["mean"] == pytest.approx(1 / 3, abs=0.02)
    scores = result["scores"]
    assert result["overfitting"] == scores["train"]["macro_f1_all"] - scores["valid"]["macro_f1_all"]


def test_weights_that_saw_the_test_tracks_are_refused(styles: Collection, tmp_path: Path, config: Make) -> None:
    train(styles.store, SPEC, "vgg-cnn", tmp_path / "first", config=config("loop.epochs=1", "data.train_share=0.5"))
    again = config("loop.epochs=1", f"start.run={tmp_path / 'first'}")
    assert train(styles.store, SPEC, "vgg-cnn", tmp_path / "same", config=again)["n_tracks"]["train"] == 36
    other = config("loop.epochs=1", f"start.run={tmp_path / 'first'}", "data.split=random", "data.split_seed=3")
    with pytest.raises(
        DatasetError, match=r"it was trained on (group|track) .* more tracks or groups of this run's split (valid|test)"
    ):
        train(styles.store, SPEC, "vgg-cnn", tmp_path / "other", config=other)


def test_a_folder_with_a_checkpoint_alone_is_started_from(
    styles: Collection, tmp_path: Path, config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    train(styles.store, SPEC, "vgg-cnn", tmp_path / "first", config=config("loop.epochs=1"))
    shutil.copytree(tmp_path / "first" / "checkpoints", tmp_path / "copy" / "checkpoints")
    again = config("loop.epochs=1", f"start.run={tmp_path / 'copy'}")
    train(styles.store, SPEC, "vgg-cnn", tmp_path / "again", config=again)
    _, state = load_checkpoint(tmp_path / "again" / "checkpoints" / "best.safetensors")
    assert state["trunk"] and "does not say which tracks it was trained on" in caplog.text
