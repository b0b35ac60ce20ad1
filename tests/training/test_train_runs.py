from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_store import CLASSES, SPEC, Collection, make_collection, write_store

from featstore.errors import CheckpointError, ConfigError, DatasetError, MissingFeature
from featstore.metrics import METRICS
from featstore.models.checkpoint_file import load_checkpoint
from featstore.results import read_results
from featstore.results.details import prediction_file
from featstore.training import NonFiniteLoss, TrainConfig, evaluate, train
from featstore.training.loop import Loop
from featstore.training.progress import ScaleWatch

Make = Callable[..., TrainConfig]


def run(music: Collection, out: Path, config: TrainConfig, **settings) -> dict:
    return train(music.store, SPEC, "vgg-cnn", out, config=config, **settings)


def curve(out: Path) -> list[dict]:
    """Lines of metrics.jsonl without what a clock decides."""
    clock = {"time", "seconds_train", "seconds_validate", "samples_per_s", "waiting_share"}
    lines = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


@pytest.fixture(scope="module")
def finished(music: Collection, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run long enough to have learnt something."""
    out = tmp_path_factory.mktemp("runs") / "run"
    config = TrainConfig.resolve(
        assignments=[
            *("model.width=0.03", "model.pools=fit", "model.norm_momentum=0.1", "data.batch_size=6"),
            *("data.crop_frames=24", "loop.epochs=12", "evaluate.bootstrap=20", "device.accelerator=cpu"),
        ]
    )
    return out, run(music, out, config)


def test_a_run_learns_and_its_result_is_complete(finished: tuple[Path, dict], music: Collection) -> None:
    out, result = finished
    assert result["scores"]["test"]["roc_auc"] > 0.8
    low, high = result["intervals"]["test"]["roc_auc"]
    assert low <= result["scores"]["test"]["roc_auc"] <= high
    assert result["classes"] == list(CLASSES)
    assert (result["model"], result["dataset"], result["seed"], result["fold"]) == ("vgg-cnn", "music", 0, None)
    assert result["feature"] == music.store[SPEC].name
    assert result["n_tracks"] == {"train": 36, "valid": 12, "test": 12}
    assert result["bytes"]["alone"] == result["bytes"]["added"] == music.store[SPEC].bytes_alone
    assert result["bytes"]["audio"] == 60 * 1000
    aucs = [row["roc_auc"] for row in result["per_class"]["test"].values()]
    assert np.mean(aucs) == pytest.approx(result["scores"]["test"]["roc_auc"])
    assert "test" not in result["confusion"]
    assert result["parameters"] > 1000
    assert result["gmacs"] > 0
    assert result["seconds"]["train"] > 0
    assert result["seconds"]["inference"] > 0
    assert 0 <= result["rates"]["waiting_share"] < 1
    assert result["peak_memory_bytes"] > 1e6
    assert result["store"]["fingerprint"] == music.store.fingerprint
    records = read_results(out.parent)
    assert [record.run_id for record in records] == [result["run_id"]]
    assert len(curve(out)) == result["epochs"] == 12
    assert not list(out.glob(".*.part"))


def test_evaluating_again_gives_the_same_scores(finished: tuple[Path, dict]) -> None:
    out, result = finished
    before = (out / "predictions.parquet").read_bytes()
    assert evaluate(out) == result["scores"]
    assert (out / "predictions.parquet").read_bytes() == before
    assert list(evaluate(out, splits=["train"])) == ["train"]
    evaluate(out, settings={"evaluate": {"pool": "mean_logit"}})
    assert (out / "predictions.parquet").read_bytes() == before  # reports go on reading what was trained


def test_another_store_may_hold_some_of_the_tracks(
    finished: tuple[Path, dict], music: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Labels and splits are the run's own, and so are its predictions, which stay."""
    out, before = finished[0], (finished[0] / "predictions.parquet").read_bytes()
    test = music.frame.loc[music.frame["split"] == "test", "track_id"].tolist()[:8]
    part = music.frame[music.frame["track_id"].isin(test)].assign(split="train", labels=[[] for _ in test])
    other = write_store(tmp_path / "part.zarr", part, music.values, spec=SPEC)
    with caplog.at_level(logging.INFO):
        scores = evaluate(out, store=other, predictions=tmp_path / "part.parquet")
    assert list(scores) == ["test"] and "holds 8 of the 12 test tracks" in caplog.text
    whole, found = (
        prediction_file(place)["test"] for place in (out / "predictions.parquet", tmp_path / "part.parquet")
    )
    assert list(found.track_ids) == test
    rows = [whole.track_ids.index(track) for track in test]
    assert np.allclose(found.score, whole.score[rows], atol=1e-6) and (found.target == whole.target[rows]).all()
    assert (out / "predictions.parquet").read_bytes() == before
    with pytest.raises(ConfigError, match="the store holds none of the run's tracks in valid"):
        evaluate(out, store=other, splits=["valid"])


def test_any_metric_can_be_computed_from_the_predictions(finished: tuple[Path, dict]) -> None:
    out, result = finished
    parts = prediction_file(out / "predictions.parquet")
    header = json.loads(pq.read_schema(out / "predictions.parquet").metadata[b"featstore"])
    assert (header["classes"], header["task"], list(parts)) == (list(CLASSES), "multi_label", ["valid", "test"])
    assert {part.classes for part in parts.values()} == {tuple(CLASSES)}
    for split, part in parts.items():
        for name in METRICS:
            assert METRICS.load(name)(part.target, part.score).value == result["scores"][split][name]


def test_a_finished_run_is_not_trained_again(finished: tuple[Path, dict], music: Collection, caplog) -> None:
    out, result = finished
    config = TrainConfig.resolve(json.loads(json.dumps(result["config"])))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with caplog.at_level(logging.INFO):
        assert run(music, out, config) == result
    assert "is finished already" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.slow
def test_killed_between_training_and_scoring(music: Collection, tmp_path: Path, config: Make) -> None:
    for number, extra in enumerate((("loop.keep=last",), ("loop.patience=1", "loop.epochs=9", "loop.monitor=loss"))):
        out = tmp_path / str(number)
        first = run(music, out, config(*extra))
        (out / "result.json").unlink()
        (out / "predictions.parquet").unlink()
        lines = curve(out)
        again = run(music, out, config(*extra))
        assert curve(out) == lines
        assert (again["scores"], again["epochs"]) == (first["scores"], first["epochs"])
        assert again["seconds"]["train"] == first["seconds"]["train"]
        assert evaluate(out) == first["scores"]


def test_same_seed_same_run_other_seed_another(music: Collection, tmp_path: Path, config: Make) -> None:
    one, two = run(music, tmp_path / "a", config()), run(music, tmp_path / "b", config())
    other = run(music, tmp_path / "c", config(seed=1))
    assert one["scores"] == two["scores"] != other["scores"]
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    assert one["run_id"] == two["run_id"] != other["run_id"]
    assert one["config_hash"] == two["config_hash"] == other["config_hash"]


class Killed(Exception):
    pass


def kill_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Make the loop die after a number of batches, wherever that is."""
    left = [steps]
    show = Loop._show

    def dying(self: Loop) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        show(self)

    monkeypatch.setattr(Loop, "_show", dying)


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [
        (),
        ("loop.accumulate=2", "optimizer.name=sgd", "schedule.name=cosine", "loop.ema=0.9"),
        ("loop.clip_norm=1", "optimizer.name=adamw", "schedule.warmup_epochs=1.5", "data.tier=disk"),
    ],
)
def test_killed_at_any_batch_a_run_goes_on_bit_for_bit(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    settings = config("loop.checkpoint_batches=1", "data.batch_size=10", *extra)
    run(music, tmp_path / "whole", settings)
    whole, _ = load_checkpoint(tmp_path / "whole/checkpoints/last.safetensors")
    for steps in range(6):  # two epochs of three batches
        out = tmp_path / f"killed-{steps}"
        with monkeypatch.context() as patch:
            kill_after(patch, steps)
            with pytest.raises(Killed):
                run(music, out, settings)
        run(music, out, settings)
        again, _ = load_checkpoint(out / "checkpoints/last.safetensors")
        assert set(again) == set(whole)
        assert all(torch.equal(again[name], whole[name]) for name in whole), steps
        assert curve(out) == curve(tmp_path / "whole")
        name = "predictions.parquet"
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_signal_stops_between_batches_and_keeps_all(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("data.batch_size=10")
    run(music, tmp_path / "whole", settings)
    show = Loop._show

    def shown(self: Loop) -> None:
        show(self)
        if (self.progress.epoch, self.progress.batch) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_show", shown)
        with pytest.raises(KeyboardInterrupt, match="stopped in epoch 1"):
            run(music, tmp_path / "stopped", settings)
    assert signal.getsignal(signal.SIGTERM) is before
    _, state = load_checkpoint(tmp_path / "stopped/checkpoints/last.safetensors")
    assert (state["progress"]["epoch"], state["progress"]["batch"]) == (1, 2)
    run(music, tmp_path / "stopped", settings)
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")


def test_a_loss_that_is_not_finite_names_batch_and_tracks(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("loop.checkpoint_batches=1", "loop.epochs=5")
    step, seen = Loop.step, []

    def poisoned(self: Loop, batch: dict, n_batches: int) -> None:
        if (self.progress.epoch, self.progress.batch) == (2, 1):
            seen.extend(self.parts.loader.track_ids[i] for i in batch["index"].tolist())
            with torch.no_grad():
                self.parts.normed.model.output.weight[0, 0] = float("inf")
        step(self, batch, n_batches)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", poisoned)
        with pytest.raises(
            NonFiniteLoss, match=r"epoch 2, batch 1, tracks t\d+.*checkpoints are those of before.*start.run="
        ) as caught:
            run(music, tmp_path / "run", settings)
    assert all(track in str(caught.value) for track in seen)
    assert len(seen) == 8
    tensors, state = load_checkpoint(tmp_path / "run/checkpoints/last.safetensors")
    assert (state["progress"]["epoch"], state["progress"]["batch"]) == (2, 1)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())
    load_checkpoint(tmp_path / "run/checkpoints/best.safetensors")
    assert run(music, tmp_path / "run", settings)["epochs"] == 5  # healed, it goes on


def test_an_overflow_in_half_precision_is_said(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scales = iter([65536.0, 65536.0, 16384.0, 32768.0])  # a device with such a scale is not here
    monkeypatch.setattr(ScaleWatch, "note", lambda self, _, *, epoch, note=ScaleWatch.note: note(
        self, {"scale": next(scales)}, epoch=epoch
    ))  # fmt: skip
    run(music, tmp_path / "run", config("loop.epochs=4"))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["gradient_scale"] for line in lines] == [65536, 65536, 16384, 32768]
    said = [each.message for each in caplog.records if "overflowed" in each.message]
    assert len(said) == 1 and "in epoch 2 and their steps were left out" in said[0] and "bf16-mixed" in said[0]


def test_a_single_label_run(styles: Collection, tmp_path: Path, config: Make) -> None:
    extra = ("loop.epochs=6", "loop.class_weights=balanced", "loop.label_smoothing=0.05", "model.norm_momentum=0.2")
    result = run(styles, tmp_path / "run", config(*extra))
    assert result["task"] == "single_label"
    assert result["scores"]["test"]["micro_f1"] == pytest.approx(result["scores"]["test"]["accuracy"])
    confusion = np.array(result["confusion"]["test"])
    assert confusion.sum() == 12
    assert confusion.trace() / 12 == pytest.approx(result["scores"]["test"]["accuracy"])
    assert [row["n"] for row in result["per_class"]["test"].values()] == confusion.sum(axis=1).tolist()
    parts = prediction_file(tmp_path / "run/predictions.parquet")
    assert np.allclose(parts["test"].score.sum(axis=1), 1, atol=1e-5)
    assert parts["test"].target.dtype == np.int64
    assert evaluate(tmp_path / "run") == result["scores"]


@pytest.mark.parametrize("pool", ["mean_logit", "majority"])
def test_other_ways_from_windows_to_tracks(styles: Collection, tmp_path: Path, config: Make, pool: str) -> None:
    result = run(styles, tmp_path / "run", config(f"evaluate.pool={pool}", "data.crop_frames=12"))
    parts = prediction_file(tmp_path / "run/predictions.parquet")
    assert np.allclose(parts["test"].score.sum(axis=1), 1, atol=1e-5)
    if pool == "majority":
        assert set(np.unique(parts["test"].score * 4).tolist()) <= {0, 1, 2, 3, 4}  # four windows a track
    assert evaluate(tmp_path / "run") == result["scores"]


def test_input_statistics_travel_with_the_weights(music: Collection, tmp_path: Path, config: Make) -> None:
    for how in ("band", "global"):
        result = run(music, tmp_path / how, config(f"data.normalize={how}"))
        tensors, _ = load_checkpoint(tmp_path / how / "checkpoints/best.safetensors")
        train_ids = music.frame["track_id"][music.frame["split"] == "train"]
        joined = np.concatenate([music.values[track] for track in train_ids], axis=1).astype(np.float64)
        mean = joined.mean(axis=1) if how == "band" else np.full(16, joined.mean())
        std = joined.std(axis=1) if how == "band" else np.full(16, joined.std())
        np.testing.assert_allclose(tensors["model.norm.mean"][:, 0].numpy(), mean, rtol=1e-5)
        np.testing.assert_allclose(tensors["model.norm.std"][:, 0].numpy(), std, rtol=1e-4)
        assert evaluate(tmp_path / how) == result["scores"]


def test_early_stopping_keeps_the_best_epoch(music: Collection, tmp_path: Path, config: Make) -> None:
    settings = config("loop.epochs=30", "loop.patience=2", "optimizer.learning_rate=1e-9", "schedule.name=plateau")
    result = run(music, tmp_path / "run", settings)
    assert result["epochs"] < 30
    values = [line["valid"]["roc_auc"] for line in curve(tmp_path / "run")]
    assert result["best_epoch"] == int(np.argmax(values))
    assert len(values) == result["best_epoch"] + 3


def test_folds_cover_every_track_once(music: Collection, tmp_path: Path, config: Make) -> None:
    tested: list[str] = []
    hashes = set()
    for fold in range(3):
        settings = config("data.split=folds", "data.folds=3", f"data.fold={fold}", "loop.epochs=1")
        result = run(music, tmp_path / str(fold), settings)
        assert result["fold"] == fold
        hashes.add(result["config_hash"])
        tested += prediction_file(tmp_path / str(fold) / "predictions.parquet")["test"].track_ids
    assert sorted(tested) == sorted(music.frame["track_id"])
    assert len(hashes) == 1


def test_another_table_and_label_column(music: Collection, tmp_path: Path, config: Make) -> None:
    table = music.frame[music.frame["track_id"] != "t000"]
    result = run(music, tmp_path / "run", config("data.label_column=style"), tracks=table)
    assert (result["task"], result["classes"]) == ("single_label", ["loud", "quiet"])
    assert sum(result["n_tracks"].values()) == 59
    assert evaluate(tmp_path / "run") == result["scores"]


def test_the_order_of_the_table_is_irrelevant(music: Collection, tmp_path: Path, config: Make) -> None:
    path = str(music.store.location)
    one = train(path, SPEC, "vgg-cnn", tmp_path / "a", config=config(), tracks=music.frame)
    two = run(music, tmp_path / "b", config(), tracks=music.frame.sample(frac=1, random_state=0))
    assert (one["run_id"], one["scores"]) == (two["run_id"], two["scores"])


def test_views_train_like_stored_features(music: Collection, tmp_path: Path, config: Make) -> None:
    view = SPEC.replace("hop_length=512", "hop_length=1024")
    settings = config("data.crop_frames=null", "data.crop_s=0.4")
    result = train(music.store, view, "vgg-cnn", tmp_path / "run", config=settings)
    assert result["hop_multiple"] == 2
    assert result["bytes"]["added"] == 0 < result["bytes"]["alone"]
    assert result["input"]["n_frames"] == 6  # 0.4 s at 64 ms


def test_whole_tracks_of_about_one_length(tmp_path: Path, config: Make) -> None:
    music = make_collection(tmp_path / "music.zarr", n=20, n_frames=[48, 47, 49] * 7)
    assert run(music, tmp_path / "run", config("data.crop_frames=null"))["input"]["n_frames"] == 47
    uneven = make_collection(tmp_path / "uneven.zarr", n=20, n_frames=[48, 24] * 10)
    with pytest.raises(ConfigError, match=r"differ in length, from 24 to 48 frames.*--set data.crop_s"):
        run(uneven, tmp_path / "uneven", config("data.crop_frames=null"))


def test_a_feature_that_is_not_stored(music: Collection, tmp_path: Path, config: Make) -> None:
    with pytest.raises(MissingFeature, match=r"has no mel.*n_mels=80.*featstore extract"):
        train(music.store, "mel(n_mels=80)", "vgg-cnn", tmp_path / "run", config=config())
    assert not (tmp_path / "run").exists()


def test_a_folder_with_another_run(finished: tuple[Path, dict], music: Collection, config: Make) -> None:
    out, _ = finished
    with pytest.raises(ConfigError, match=r"the folder holds another run: .*Choose another --out"):
        run(music, out, config())
    with pytest.raises(ConfigError, match=r"settings.seed 0, here 3"):
        run(music, out, TrainConfig.resolve(json.loads((out / "result.json").read_text())["config"], seed=3))


def test_two_processes_do_not_train_in_one_folder(music: Collection, tmp_path: Path, config: Make) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process is training in this folder"):
            run(music, tmp_path / "run", config())


def corrupt(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "flipped":
        data[-100] ^= 4
    else:
        data = bytearray(b"not a checkpoint")
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["truncated", "flipped", "foreign"])
def test_a_damaged_checkpoint_is_named(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    settings = config("loop.checkpoint_batches=1")
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            run(music, tmp_path / "run", settings)
    corrupt(tmp_path / "run/checkpoints/last.safetensors", how)
    with pytest.raises(CheckpointError, match=r"(truncated or damaged|checksum).*last.safetensors.*Delete it"):
        run(music, tmp_path / "run", settings)
    (tmp_path / "run/checkpoints/last.safetensors").unlink()
    assert run(music, tmp_path / "run", settings)["epochs"] == 2


def test_checkpoints_of_other_runs_are_refused(music: Collection, tmp_path: Path, config: Make) -> None:
    run(music, tmp_path / "one", config())
    run(music, tmp_path / "two", config("model.width=0.04"))
    best = "checkpoints/best.safetensors"
    (tmp_path / "one" / best).write_bytes((tmp_path / "two" / best).read_bytes())
    with pytest.raises(CheckpointError, match=r"of another run: its model_settings is .*0.04.*the run's .*0.02"):
        evaluate(tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"there is no run.*featstore train"):
        evaluate(tmp_path / "none")
    (tmp_path / "two" / best).unlink()
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        evaluate(tmp_path / "two")
    with pytest.raises(ConfigError, match=r"no split 'dev'.*There are: train, valid, test"):
        evaluate(tmp_path / "one", splits=["dev"])


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (("model.widht=1",), ConfigError, "unknown setting 'model.widht'.*Did you mean width"),
        (("data.crop_frames=500",), DatasetError, "has 48 frames, the crop needs 500"),
        (("model.pools=table",), ConfigError, "n_frames=24 is too few"),
        (("evaluate.splits=[dev]",), ConfigError, "no track in dev.*There are: train, valid, test"),
        (("device.accelerator=cuda",), ConfigError, "no CUDA device was found"),
    ],
)
def test_settings_that_cannot_work(
    music: Collection, tmp_path: Path, config: Make, assignments: tuple[str, ...], error: type, message: str
) -> None:
    if "cuda" in message.lower() and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(error, match=message):
        run(music, tmp_path / "run", config(*assignments))


def test_a_file_in_the_way(music: Collection, tmp_path: Path, config: Make) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="this is a file; a run needs a folder"):
        run(music, tmp_path / "run", config())


def test_out_of_memory_suggests_a_batch_size(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Loop, batch: dict, n_batches: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Loop, "step", full)
    with pytest.raises(
        ConfigError, match=r"out of memory with data.batch_size=8.*batch_size=4 --set loop.accumulate=2"
    ):
        run(music, tmp_path / "run", config())


def test_tracks_that_failed_are_left_out(tmp_path: Path, config: Make, caplog) -> None:
    music = make_collection(tmp_path / "music.zarr", n=30, failed=("t000", "t003"))
    result = run(music, tmp_path / "run", config())
    assert "2 of 30 tracks have no stored feature: t000, t003" in caplog.text
    assert sum(result["n_tracks"].values()) == result["n_stored"] == 28
