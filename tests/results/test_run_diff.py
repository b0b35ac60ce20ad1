"""What changed between two sets of runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featstore.errors import ConfigError
from featstore.results import RunSet, compare, diff_runs, holm, read_results, write_result
from featstore.results.diff import describe_diff


def _part(runs: RunSet, n_mels: int, hop: int = 1, encoding: str = "float32") -> RunSet:
    def keep(record: Any) -> bool:
        fields = record.result["feature_fields"]
        same = fields["n_mels"] == n_mels and fields["encoding"] == encoding
        return bool(same and record.result["hop_multiple"] == hop)

    return runs.select(keep)


def test_only_what_differs_is_told(grid: RunSet) -> None:
    found = diff_runs(_part(grid, 96), _part(grid, 48), resamples=50)
    assert found.settings["n_mels"] == ([96], [48]) and "hop_multiple" not in found.settings
    assert found.same > 20 and found.costs["bytes_alone"][1] == found.costs["bytes_alone"][0] / 2
    assert found.bootstrap["roc_auc"].tracks == 150 and not found.warnings


def test_scores_are_compared_b_minus_a_with_holm_within_a_split(grid: RunSet) -> None:
    a, b = _part(grid, 96), _part(grid, 8)
    found = diff_runs(a, b, bootstrap=False)
    expected = compare([r.score("roc_auc") for r in b], [r.score("roc_auc") for r in a])
    assert replace(found.scores["test.roc_auc"], p_holm=expected.p_holm) == expected and expected.difference < 0
    tested = [name for name in found.scores if name.startswith("test.")]
    adjusted = holm([found.scores[name].p for name in tested])
    assert [found.scores[name].p_holm for name in tested] == adjusted and not found.bootstrap


def test_text_and_json_say_the_same(grid: RunSet) -> None:
    found = diff_runs(_part(grid, 96), _part(grid, 48), resamples=20)
    text = describe_diff(found)
    assert "n_mels" in text and "Welch's t-test, two-sided, n = 3 and 3, ddof = 1." in text
    assert "over test tracks: roc_auc difference" in text and "bytes_alone: 698 MB → 349 MB" in text
    told = json.loads(json.dumps(found.as_json()))
    assert told["settings"]["n_mels"] == {"a": [96], "b": [48]} and told["runs"] == {"a": 3, "b": 3}
    assert told["scores"]["test.roc_auc"]["p_holm"] == found.scores["test.roc_auc"].p_holm


def test_single_runs_are_not_tested(grid: RunSet) -> None:
    found = diff_runs(grid[0:1], grid[1:2], bootstrap=False)
    assert "Not tested: n = 1 and 1" in describe_diff(found)
    assert found.as_json()["scores"]["test.roc_auc"]["p"] is None


def test_equal_sides_have_nothing_to_tell(grid: RunSet) -> None:
    side = _part(grid, 96)
    found = diff_runs(side, side, bootstrap=False)
    assert not found.settings and not found.costs and "3 runs are on both sides" in found.warnings
    assert "All settings are the same." in describe_diff(found)


def test_comparisons_that_mean_nothing_are_warned_of(tmp_path: Path, result: dict[str, Any], grid: RunSet) -> None:
    write_result(tmp_path / "other", result | {"dataset": "gtzan"})
    found = diff_runs(grid, read_results(tmp_path), bootstrap=False)
    assert any("different data sets" in text for text in found.warnings)
    assert any("12 different configurations" in text for text in found.warnings)
    with pytest.raises(ConfigError, match="the second side has no finished run"):
        diff_runs(grid, grid.select(lambda _: False))
