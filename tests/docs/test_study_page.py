"""docs/study.md says what the committed runs say: its table, its counts, and the runs behind every figure."""

from __future__ import annotations

import csv
import html
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from featstore.results.bounds import Study, loss_bounds
from featstore.units import format_bytes
from featstore.workflows.recipes import load_recipe
from featstore.workflows.selection import select

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "study.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with open(DOCS / "study" / "configurations.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def score(row: dict[str, str], metric: str) -> str:
    return f"{100 * float(row[f'{metric}_mean']):.2f} ± {100 * float(row[f'{metric}_std']):.2f}"


def test_table_is_that_of_the_runs(rows: list[dict[str, str]]) -> None:
    for row in rows:
        p = f"{float(row['p_holm']):.3f}" if row["p_holm"] else "–"
        cells = [f"{int(row['sample_rate']) / 1000:g} kHz", row["n_mels"], f"×{row['hop_multiple']}"]
        cells += [{"log10_1p": "log", "db": "dB"}[row["scale"]], row["encoding"]]
        cells += [score(row, "roc_auc"), score(row, "pr_auc")]
        cells += [format_bytes(float(row[f"bytes_{name}"])) for name in ("alone", "added")]
        assert f"| {' | '.join([*cells, p, row['verdict']])} |" in PAGE
    assert len(rows) == 42 and PAGE.count(" kHz | ") == 42 and all(row["n"] == "3" for row in rows)
    assert Counter(row["verdict"] for row in rows)["in doubt"] == 25 and "25 of 42 configurations are in doubt" in PAGE


def test_commands_are_of_these_configurations(rows: list[dict[str, str]]) -> None:
    commands = re.findall(r"^featstore recipe run .*$", PAGE, re.MULTILINE)
    study = load_recipe("ferraro2020", data="demo")
    count = 0
    for command in commands:
        [only] = re.findall(r"--only '([^']*)'", command)
        chosen = select(study.requests(), study.model_plans(), [only], "study")
        assert list(chosen.features) == ["vgg-cnn"]
        count += chosen.n_configurations
    assert count == len(rows)
    page = (DOCS / "study" / "study.html").read_text(encoding="utf-8")
    assert "126 runs of 42 configurations on demo" in page
    assert all(html.escape(command) in page for command in commands)
    ids = {run for row in rows for run in re.findall(r"[0-9a-f]{12}", row["run_ids"])}
    assert len(ids) == 126 and all(f"<td>{run}</td>" in page for run in ids)


def test_bounds_are_those_of_the_runs(rows: list[dict[str, str]]) -> None:
    scores = [float(row["roc_auc_mean"]) for row in rows], [float(row["roc_auc_std"]) ** 2 for row in rows]
    found = loss_bounds(Study(*map(np.array, scores), np.array([int(row["n"]) for row in rows])))
    points = {row["configuration"]: 100 * most for row, most in zip(rows, found.most, strict=True)}
    said = re.findall(
        r"^\| (\d+) kHz, (\d+) mels, hop (\d+) .*, (\w+), (\w+) \| ([\d.]+ MB) \| ([\d.]+) points \|$", PAGE, re.M
    )
    assert len(said) == 6
    for rate, mels, hop, scale, encoding, size, most in said:
        wanted = [str(1000 * int(rate)), mels, hop, {"log": "log10_1p", "dB": "db"}[scale], encoding]
        fields = ("sample_rate", "n_mels", "hop_length", "scale", "encoding")
        [row] = [row for row in rows if [row[name] for name in fields] == wanted]
        assert format_bytes(float(row["bytes_alone"])) == size
        assert points[row["configuration"]] == pytest.approx(float(most), abs=0.15)  # critical values are simulated
        cheaper = [points[r["configuration"]] for r in rows if float(r["bytes_alone"]) < float(row["bytes_alone"])]
        assert points[row["configuration"]] < min(cheaper), "on the guaranteed front"
    worse = [row for row, least in zip(rows, found.least, strict=True) if least > 0.002]
    assert [row["n_mels"] for row in worse] == ["8"] * 6
    assert found.may_be_best.sum() == 16
    doubtful = [points[row["configuration"]] for row in rows if row["verdict"] == "in doubt"]
    assert f"their bounds are {min(doubtful):.0f} to {max(doubtful):.0f} points" in PAGE


def test_pages_and_figures_exist_and_are_small() -> None:
    for target in re.findall(r"\]\((study/[^)]*)\)", PAGE):
        assert 0 < (DOCS / target).stat().st_size < 1_000_000, target
