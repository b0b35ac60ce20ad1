"""Fronts by hand and by brute force; the tests of a paper's page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import ConfigError
from featstore.metrics import lower_is_better
from featstore.results import RunSet, compare, holm, pareto, read_results, summarise, write_result
from featstore.results.fronts import front_of
from featstore.results.paper_tests import judged
from featstore.results.sentences import answer_json


@pytest.fixture
def three(tmp_path: Path, result: dict[str, Any]) -> RunSet:
    """Small and clearly worse; medium and as good; large and best by a hair."""
    scores = {8: (0.70, 0.71, 0.72), 48: (0.88, 0.89, 0.90), 96: (0.885, 0.894, 0.905), 128: (0.80, 0.81, 0.82)}
    for mels, values in scores.items():
        for seed, value in enumerate(values):
            own = {
                "seed": seed,
                "feature": f"mel(n_mels={mels})@float32",
                "scores": {"test": {"roc_auc": value}},
                "bytes": {"alone": mels * 100, "added": 0},
                "gmacs": 200 - mels,
            }
            write_result(tmp_path / f"{mels}-{seed}", result | own)
    return read_results(tmp_path)


def test_front_best_and_answer_by_hand(three: RunSet) -> None:
    front = pareto(summarise(three), margin=0.05)
    frame = front.frame
    assert frame["n_mels"].tolist() == [8, 48, 96, 128]  # cheapest first
    assert frame["on_front"].tolist() == [True, True, True, False]
    assert frame["n_mels"][front.best] == 96
    assert frame["n_mels"][front.answer] == 48
    assert frame["may_be_best"].tolist() == [False, True, True, False]
    assert frame["loss"][0] == pytest.approx((0.885 + 0.894 + 0.905) / 3 - 0.71)
    assert frame["loss_least"][0] > 0.1
    assert frame["loss_least"][1] == 0
    assert "all 4 configurations at once" in front.statement
    assert "n = 3 runs each" in front.statement


def test_p_values_are_those_of_the_tests_after_holm(three: RunSet) -> None:
    summary = summarise(three).sort_values("bytes_alone", ignore_index=True)
    for test in ("welch", "independent"):
        frame, best, statement = judged(summary, "roc_auc", test=test)
        raw = [compare(values, frame.loc[2, "roc_auc_values"], test=test).p for values in frame["roc_auc_values"]]
        raw[2] = float("nan")
        assert best == 2
        assert frame["p"].tolist() == pytest.approx(raw, nan_ok=True)
        assert frame["p_holm"].tolist() == pytest.approx(holm(raw), nan_ok=True)
        assert "Holm's correction over 3 comparisons" in statement
        assert "n = 3 runs per configuration (ddof = 1)" in statement


def test_a_row_that_only_the_correction_saves_is_in_doubt(three: RunSet) -> None:
    summary = summarise(three)
    values = {
        8: (0.885, 0.886, 0.887),
        48: (0.887, 0.888, 0.889),
        96: (0.890, 0.894, 0.898),
        128: (0.886, 0.887, 0.888),
    }
    summary["roc_auc_values"] = [values[int(mels)] for mels in summary["n_mels"]]
    summary["roc_auc_mean"] = [float(np.mean(v)) for v in summary["roc_auc_values"]]
    frame, _, _ = judged(summary, "roc_auc", alpha=0.07)
    doubtful = frame[frame["in_doubt"]]
    assert len(doubtful) and (doubtful["p"] < 0.07).all() and (doubtful["p_holm"] >= 0.07).all()


def test_one_run_each_is_not_tested(three: RunSet) -> None:
    summary = summarise(three.select(lambda record: record.result["seed"] == 0))
    frame, best, statement = judged(summary, "roc_auc")
    assert [apart for row, apart in enumerate(frame["told_apart"]) if row != best] == [None] * 3
    assert statement.startswith("Not tested: n = 1")


def test_two_costs_and_a_loss(three: RunSet) -> None:
    front = pareto(summarise(three), ["bytes_alone", "gmacs"])
    assert front.frame.set_index("n_mels")["on_front"].to_dict() == {8: True, 48: True, 96: True, 128: True}
    assert lower_is_better("loss") and lower_is_better("reconstruction_loss") and not lower_is_better("accuracy")


def test_losses_are_minimised(plain: RunSet) -> None:
    front = pareto(summarise(plain), "bytes_alone", "loss")
    assert front.frame["loss_mean"][front.best] == front.frame["loss_mean"].min()


def test_rows_without_a_cost_are_left_out_and_counted(three: RunSet) -> None:
    summary = summarise(three)
    summary.loc[summary["n_mels"] == 128, "gmacs"] = np.nan
    front = pareto(summary, "gmacs")
    assert (front.left_out, len(front.frame)) == (1, 3)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("bytes", "roc_auc", r"'bytes' is no axis of cost.*bytes_alone"),
        ("bytes_alone", "roc", r"no metric 'roc'.*roc_auc"),
        (["gmacs", "bytes_alone", "parameters"], "roc_auc", "3 axes of cost"),
    ],
)
def test_wrong_axes(plain: RunSet, x: Any, y: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pareto(summarise(plain), x, y)


def test_no_values_on_an_axis(plain: RunSet) -> None:
    summary = summarise(plain)
    summary["gmacs"] = np.nan
    with pytest.raises(ConfigError, match="no configuration has values of gmacs and roc_auc"):
        pareto(summary, "gmacs")


def test_data_sets_are_not_compared_with_each_other(plain: RunSet) -> None:
    summary = summarise(plain)
    summary.loc[0, "dataset"] = "mtat"
    with pytest.raises(ConfigError, match=r"demo, mtat cannot be compared.*--where dataset=demo"):
        pareto(summary)


def test_plain_values_for_programs(plain: RunSet) -> None:
    import json

    told = json.loads(json.dumps(answer_json(pareto(summarise(plain)))))
    assert told["margin"] == 0.02
    assert len(told["rows"]) == 12
    assert set(told["guaranteed"]) == {row for row, each in enumerate(told["rows"]) if each["guaranteed"]}
    assert told["sentences"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=25))
def test_front_equals_brute_force(points: list[tuple[int, ...]]) -> None:
    def dominated(point: tuple[int, ...]) -> bool:
        others = [q for q in points if q != point]
        return any(all(a <= b for a, b in zip(q, point, strict=True)) for q in others)

    assert front_of(points).tolist() == [not dominated(point) for point in points]
