"""Groups of runs against numbers worked out by hand and by scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from featstore.errors import ConfigError
from featstore.plain import is_missing
from featstore.results import RunSet, format_table, read_results, summarise, write_result
from featstore.results.frames import flatten, metrics_in, short_scale
from featstore.results.labels import field_text

Write = Callable[..., RunSet]


@pytest.fixture
def write(tmp_path: Path, result: dict[str, Any]) -> Write:
    """Write runs from (seed, fold, score) and changes, and read them."""

    def written(*runs: tuple[int | None, int | None, float], **changes: Any) -> RunSet:
        start = len(list(tmp_path.iterdir()))
        for number, (seed, fold, score) in enumerate(runs):
            own = {
                "seed": seed,
                "fold": fold,
                "scores": {"test": {"roc_auc": score}},
                "finished": f"2026-01-{number + 1:02d}",
            }
            write_result(tmp_path / f"run{start + number:03d}", result | own | changes)
        return read_results(tmp_path)

    return written


def test_three_seeds_by_hand(write: Write) -> None:
    # mean 0.8; deviations -0.01, 0, 0.01 give a variance of 0.0002 / 2; t of 97.5 % at 2 degrees of freedom is 4.30265
    [row] = summarise(write((0, None, 0.79), (1, None, 0.80), (2, None, 0.81))).to_dict("records")
    assert row["roc_auc_mean"] == pytest.approx(0.8)
    assert row["roc_auc_std"] == pytest.approx(0.01)
    assert row["roc_auc_low"] == pytest.approx(0.8 - 4.30265 * 0.01 / math.sqrt(3), abs=1e-7)
    assert row["roc_auc_high"] == pytest.approx(0.8 + 4.30265 * 0.01 / math.sqrt(3), abs=1e-7)
    assert (row["n"], row["n_runs"], row["over"], row["n_configurations"]) == (3, 3, "run", 1)
    assert row["roc_auc_values"] == (0.79, 0.80, 0.81)
    assert row["bytes_alone"] == 4000 and row["ratio_to_audio"] == 0.5
    assert row["bytes_per_hour"] == 2000 and row["bytes_per_track"] == 40


def test_intervals_equal_those_of_scipy(write: Write) -> None:
    values = [0.71, 0.74, 0.69, 0.72, 0.75]
    [row] = summarise(write(*[(i, None, v) for i, v in enumerate(values)]), confidence=0.9).to_dict("records")
    low, high = stats.t.interval(0.9, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (row["roc_auc_low"], row["roc_auc_high"]) == pytest.approx((low, high))


def test_one_run_has_a_mean_and_no_deviation(write: Write) -> None:
    [row] = summarise(write((0, None, 0.7))).to_dict("records")
    assert row["roc_auc_mean"] == 0.7 and row["n"] == 1
    assert math.isnan(row["roc_auc_std"]) and math.isnan(row["roc_auc_low"])


def test_folds_are_averaged_within_each_seed(write: Write) -> None:
    # seed means 0.75 and 0.80: n is 2, not 4; deviation 0.05 / sqrt(2)
    runs = write((0, 0, 0.70), (0, 1, 0.80), (1, 0, 0.78), (1, 1, 0.82))
    [auto] = summarise(runs).to_dict("records")
    assert (auto["over"], auto["n"], auto["n_runs"]) == ("seed", 2, 4)
    assert auto["roc_auc_values"] == pytest.approx((0.75, 0.80))
    assert auto["roc_auc_std"] == pytest.approx(0.05 / math.sqrt(2))
    [fold] = summarise(runs, over="fold").to_dict("records")
    assert fold["roc_auc_values"] == pytest.approx((0.74, 0.81)) and fold["n"] == 2
    [run] = summarise(runs, over="run").to_dict("records")
    assert run["n"] == 4 and run["roc_auc_std"] == pytest.approx(np.std([0.7, 0.8, 0.78, 0.82], ddof=1))


def test_a_run_done_again_counts_once_the_last_one(write: Write) -> None:
    [row] = summarise(write((0, None, 0.5), (1, None, 0.6), (0, None, 0.9))).to_dict("records")
    assert row["n"] == 2 and sorted(row["roc_auc_values"]) == [0.6, 0.9]


def test_a_score_that_is_undefined_does_not_count(write: Write) -> None:
    [row] = summarise(write((0, None, 0.5), (1, None, float("nan")), (2, None, 0.7))).to_dict("records")
    assert row["n"] == 2 and row["roc_auc_mean"] == pytest.approx(0.6)


def test_runs_that_differ_in_a_setting_are_different_configurations(write: Write) -> None:
    write((0, None, 0.7), (1, None, 0.8), config={"training": {"lr": 0.1, "threads": 1}, "seed": 0})
    runs = write((0, None, 0.6), config={"training": {"lr": 0.2, "threads": 8}, "seed": 0})
    summary = summarise(runs)
    assert summary["n"].tolist() == [2, 1]
    assert summary["label"].tolist() == ["mel, lr=0.1", "mel, lr=0.2"]


def test_labels_tell_what_is_unlike_most(write: Write) -> None:
    def training(**changes: Any) -> dict[str, Any]:
        return {"training": {"lr": 0.1, "batch": 32, "schedule": {"name": "cosine"}} | changes}

    write((0, None, 0.9), config=training())
    write((0, None, 0.8), config=training(lr=0.2))
    write((0, None, 0.7), config=training(batch=8))
    runs = write((0, None, 0.6), config=training(batch=8, schedule={"name": "step"}))
    labels = summarise(runs)["label"].tolist()
    assert labels == ["mel", "mel, lr=0.2", "mel, batch=8", "mel, batch=8, schedule=step"]


def test_places_and_threads_do_not_make_a_configuration(write: Write) -> None:
    write((0, None, 0.7), config={"threads": 1, "out": "a", "seed": 0, "device": {"precision": "32"}})
    runs = write((1, None, 0.8), config={"threads": 4, "out": "b", "seed": 1, "device": {"precision": "32"}})
    assert summarise(runs)["n"].tolist() == [2]


def test_any_grouping_and_seeds_over_several_configurations(plain: RunSet) -> None:
    summary = summarise(plain, ["n_mels", "encoding"])
    assert len(summary) == 6 and summary["n_runs"].tolist() == [6] * 6
    row = summary[(summary["n_mels"] == 96) & (summary["encoding"] == "uint8")].iloc[0]
    part = plain.frame[(plain.frame["n_mels"] == 96) & (plain.frame["encoding"] == "uint8")]
    by_seed = part.groupby("seed")["test.roc_auc"].mean()
    assert row["over"] == "seed" and row["n"] == 3 and row["n_configurations"] == 2 and row["balanced"]
    assert row["roc_auc_mean"] == pytest.approx(by_seed.mean())
    assert row["roc_auc_std"] == pytest.approx(by_seed.std(ddof=1))
    assert row["bytes_alone"] == pytest.approx(part["bytes_alone"].mean())


def test_groups_that_lack_a_seed_are_marked(plain: RunSet) -> None:
    summary = summarise(plain[1:], ["model"])
    assert summary["balanced"].tolist() == [False]


def test_settings_can_make_a_group(plain: RunSet) -> None:
    assert summarise(plain, ["config.training.batch_size"])["config.training.batch_size"].tolist() == [32]
    with pytest.raises(ConfigError, match=r"no run has a setting 'config\.training\.batchsize'.*batch_size"):
        summarise(plain, ["config.training.batchsize"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": ["mels"]}, r"no column 'mels'.*n_mels"),
        ({"metrics": ["roc"]}, r"no run has the metric 'roc' on test.*roc_auc"),
        ({"split": "tset"}, r"no scores|split 'tset'"),
        ({"over": "epoch"}, "cannot average over 'epoch'"),
    ],
)
def test_wrong_questions_are_answered_with_near_misses(plain: RunSet, options: dict[str, Any], message: str) -> None:
    if options.get("split"):
        options["metrics"] = ["roc_auc"]
    with pytest.raises(ConfigError, match=message):
        summarise(plain, **options)


def test_no_runs_at_all(plain: RunSet) -> None:
    with pytest.raises(ConfigError, match="no runs to summarise"):
        summarise(plain.select(lambda _: False))


def test_rows_come_best_first_and_losses_the_other_way(plain: RunSet) -> None:
    assert summarise(plain)["roc_auc_mean"].is_monotonic_decreasing
    assert summarise(plain, metrics=["loss"])["loss_mean"].is_monotonic_increasing


def test_the_frame_reads_fields_from_the_name_when_none_are_recorded(write: Write) -> None:
    name = "mel(sample_rate=12000,n_mels=48,hop_length=512,scale=log10_1p)@uint8"
    frame = write((0, None, 0.7), feature=name).frame
    row = frame.iloc[0]
    assert (row["representation"], row["sample_rate"], row["n_mels"], row["hop_length"]) == ("mel", 12000, 48, 512)
    assert (row["scale"], row["encoding"]) == ("log10_1p", "uint8")
    unknown = write((0, None, 0.7), feature="tokens.r1(codec=jukebox)").frame
    assert "tokens" in unknown["representation"].tolist()
    assert str(frame["n_mels"].dtype) == "Int64"


def test_labels_tell_only_what_differs(plain: RunSet) -> None:
    labels = set(summarise(plain)["label"])
    assert len(labels) == 12 and "48 mels, hop 512 (32 ms), uint8" in labels


def test_hops_are_named_by_length_where_multiples_would_mislead(write: Write) -> None:
    write((0, None, 0.7), feature="mel(hop_length=256)", hop_multiple=1)
    summary = summarise(write((0, None, 0.6), feature="mel(hop_length=512)", hop_multiple=1))
    assert summary["label"].tolist() == ["hop 256 (16 ms)", "hop 512 (32 ms)"]


def test_representations_with_a_model_each_are_named_without_it(write: Write) -> None:
    tokens = (
        "vq_tokens(sample_rate=16000,codec=jukebox,level=2,weights="
        + 32 * "0"
        + ",n_codebooks=1,hop=128,n_codes=255,code_width=64)"
    )
    write((0, None, 0.7), feature="mel(n_mels=96,scale=db)@uint8")
    write((0, None, 0.7), feature="mel(n_mels=48,scale=db)@uint8")
    write((0, None, 0.6), feature=f"{tokens}@uint8", model="token-histogram")
    runs = write((0, None, 0.8), feature="embedding(model=mtt-musicnn,per=track)@float16", model="probe")
    summary = summarise(runs)
    assert summary["label"].tolist() == [
        "vectors of mtt-musicnn, float16",
        "96 mels, uint8",
        "48 mels, uint8",
        "tokens of 255 codes, uint8",
    ]
    assert "probe on vectors, vgg-cnn on mel, token-histogram on tokens" in format_table(summary)
    both = write((0, None, 0.8), feature="mel(n_mels=96,scale=db)@uint8", model="probe")
    assert "vgg-cnn, 96 mels, uint8" in summarise(both)["label"].tolist()


def test_small_helpers() -> None:
    import pandas as pd

    assert (
        is_missing(None) and is_missing(float("nan")) and is_missing(pd.NA) and not is_missing("") and not is_missing(0)
    )
    assert field_text("config.training.lr", 0.1) == "training.lr=0.1" and field_text("scale", "log10_1p") == "log"
    assert short_scale(None) is None and flatten({"a": {"b": {"c": 1}}}) == {"a.b.c": 1}


def test_metrics_are_listed_usual_ones_first(plain: RunSet) -> None:
    assert metrics_in(plain.frame) == ["roc_auc", "pr_auc", "loss"]
    assert metrics_in(plain.frame, "nothing") == []
