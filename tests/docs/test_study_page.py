"""docs/study.md says what the committed runs say: its tables, its counts, and the runs behind every figure."""

from __future__ import annotations

import csv
import html
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featstore.results.fronts import front_of
from featstore.results.labels import hop_text
from featstore.units import format_bytes
from featstore.workflows.recipes import load_recipe
from featstore.workflows.selection import select

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "study.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Every configuration with its bounds, and the paper's test of it."""
    answer = json.loads((DOCS / "study" / "answer.json").read_text(encoding="utf-8"))
    with open(DOCS / "study" / "configurations.csv", newline="", encoding="utf-8") as file:
        tests = {row["configuration"]: row for row in csv.DictReader(file)}
    assert len(tests) == len(answer["rows"]) == 24
    return [row | {"test": tests[row["configuration"]]} for row in answer["rows"]]


def name_of(row: dict[str, Any]) -> str:
    return f"{row['n_mels']} mels, {hop_text(row['hop_length'], row['sample_rate'])}, {row['encoding']}"


def rate(row: dict[str, Any]) -> str:
    return f"{row['rate_bps'] / 1000:.3g} kbit/s"


def at_most(row: dict[str, Any]) -> str:
    return f"{math.ceil(1000 * row['loss_most'] - 1e-6) / 10:.1f}"


def score(row: dict[str, Any], metric: str) -> str:
    return f"{100 * row[f'{metric}_mean']:.2f} ± {100 * row[f'{metric}_std']:.2f}"


def test_table_is_that_of_the_runs(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        p, least = row["test"]["p_holm"], row["loss_least"]
        digits = 1 if least >= 0.001 else 2
        cells = [row["n_mels"], hop_text(row["hop_length"], row["sample_rate"]), row["encoding"]]
        cells += [score(row, "roc_auc"), score(row, "pr_auc"), rate(row), at_most(row)]
        cells += [f"{math.floor(100 * least * 10**digits + 1e-6) / 10**digits:.{digits}f}" if least else ""]
        cells += [f"{float(p):.3f}" if p else "–", row["test"]["verdict"]]
        assert f"| {' | '.join(map(str, cells))} |" in PAGE
        assert row["n"] == 3 and not row["undertrained"]
    assert PAGE.count(" kbit/s | ") == 24 + sum(row["guaranteed"] for row in rows)


def test_answer_and_guaranteed_front_are_those_of_the_bounds(rows: list[dict[str, Any]]) -> None:
    told = json.loads((DOCS / "study" / "answer.json").read_text(encoding="utf-8"))
    assert all(f"> {sentence}" in PAGE for sentence in told["sentences"])
    points = np.array([[row["rate_bps"], row["loss_most"]] for row in rows])
    assert [row["guaranteed"] for row in rows] == front_of(points).tolist()
    for row in rows:
        line = f"| {name_of(row)} | {rate(row)} | {format_bytes(row['bytes_alone'])} | {at_most(row)} points |"
        assert (line in PAGE) == row["guaranteed"]
    kept = rows[told["answer"]]
    assert name_of(kept) == "48 mels, hop 256 (16 ms), uint8" and kept["loss_most"] <= 0.02
    assert not any(row["loss_most"] <= 0.02 for row in rows if row["rate_bps"] < kept["rate_bps"])
    assert Counter(row["n_mels"] for row in rows if row["loss_least"] > 0.001) == {8: 6, 16: 4}
    assert sum(row["loss_least"] > 0 for row in rows) == 12 and "Twelve configurations are proven" in PAGE
    assert sum(row["may_be_best"] for row in rows) == 6 and "Six may be the best" in PAGE


def test_differences_of_means_are_those_of_the_runs(rows: list[dict[str, Any]]) -> None:
    means = {(row["n_mels"], row["hop_length"], row["encoding"]): 100 * row["roc_auc_mean"] for row in rows}
    quantised = [means[m, h, "uint8"] - means[m, h, "float32"] for m, h, e in means if e == "float32"]
    assert f"between {-min(quantised):.2f} points lower and {max(quantised):.2f} higher" in PAGE
    assert f"{-np.mean(quantised):.2f} lower on average" in PAGE
    hops = {m: [means[m, 256, e] - means[m, 2560, e] for e in ("float32", "uint8")] for m in (96, 48, 16, 8)}
    wide = [*hops[96], *hops[48]]
    assert f"cost {min(wide):.1f} to {max(wide):.1f} points at 96 and 48 bands" in PAGE
    assert f"{min(hops[16]):.1f} to {max(hops[16]):.1f} at 16, {max(hops[8]):.1f} at 8" in PAGE
    lost = {m: [means[96, h, e] - means[m, h, e] for n, h, e in means if n == 96] for m in (48, 16, 8)}
    assert max(lost[48]) < 0.45 and f"a sixth (16) {min(lost[16]):.1f} to {max(lost[16]):.1f}" in PAGE
    assert f"a twelfth (8) {min(lost[8]):.1f} to {max(lost[8]):.1f}" in PAGE


def test_command_is_of_these_configurations(rows: list[dict[str, Any]]) -> None:
    [command] = re.findall(r"^featstore recipe run .*$", PAGE, re.MULTILINE)
    study = load_recipe("atlas")
    chosen = select(study.requests(), study.model_plans(["mels"]), [], "atlas")
    assert "--only mels" in command and list(chosen.features) == ["vgg-cnn"]
    assert sum(map(len, chosen.features.values())) == len(rows)
    page = (DOCS / "study" / "study.html").read_text(encoding="utf-8")
    assert "72 runs of 24 configurations on demo" in page and html.escape(command) in page
    ids = {run for row in rows for run in row["run_ids"]}
    assert len(ids) == 72 and all(f"<td>{run}</td>" in page for run in ids)


def test_pages_and_figures_exist_and_are_small() -> None:
    for target in re.findall(r"\]\((study/[^)]*)\)", PAGE):
        assert 0 < (DOCS / target).stat().st_size < 1_000_000, target
