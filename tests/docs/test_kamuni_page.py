"""docs/kamuni2024.md says what the committed runs say."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from featstore.models.transformer_trunk import SIZES
from featstore.units import format_bytes
from featstore.workflows.recipes import load_recipe

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "kamuni2024.md").read_text(encoding="utf-8")
HTML = (DOCS / "kamuni2024" / "transformers.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with open(DOCS / "kamuni2024" / "configurations.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_and_bytes_are_those_of_the_runs(rows: list[dict[str, str]]) -> None:
    assert len(rows) == 16 and all(row["n"] == "3" for row in rows)
    for row in rows:
        cells = [f"{100 * float(row[f'{m}_mean']):.2f} ± {100 * float(row[f'{m}_std']):.2f}" for m in METRICS]
        assert re.search(re.escape(f"| {cells[0]} | {cells[1]} | 3 |"), PAGE), row["label"]
        size = format_bytes(float(row["bytes_per_track"]))
        assert any(cells[0] in line and f"| {size} |" in line for line in PAGE.splitlines())
    ids = {run for row in rows for run in row["run_ids"].split()}
    assert len(ids) == 48 and all(run in HTML for run in ids)


METRICS = ("macro_f1_all", "accuracy")


def test_the_command_makes_these_configurations(rows: list[dict[str, str]]) -> None:
    [command] = re.findall(r"^featstore recipe run .*$", PAGE, re.MULTILINE)
    assert command.split()[3:8] == ["kamuni2024", "--data", "demo", "--only", "main"]
    recipe = load_recipe("kamuni2024", data="demo")
    plans = recipe.model_plans(["main", "cheap"])
    assert len(plans) == len(rows) and recipe.seeds == [0, 1, 2]
    main = recipe.model_plans(["main"])
    assert {plan.settings["model"]["group"] for plan in main} == {16} and "a position is 16 tokens" in PAGE
    assert {plan.settings["loop"]["epochs"] for plan in main} == {7} and "7 of training" in PAGE
    assert {plan.pretrain["loop"]["epochs"] for plan in main if plan.pretrain} == {
        5
    } and "5 epochs of pretraining" in PAGE
    tiny, small = (SIZES[name].layers * SIZES[name].width ** 2 for name in ("tiny", "small"))
    assert f"{small / tiny:.0f} times the weights" in PAGE


def test_the_reading_agrees_with_the_tables() -> None:
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "±" in line and len(cells) > 3:
            found.setdefault(cells[0], cells[1:])
    best = {
        name: max(float(cells[0].split()[0]) for label, cells in found.items() if label.startswith(name))
        for name in ("SpectroFormer", "TokenFormer", "CodebookFormer")
    }
    assert best["SpectroFormer"] > best["TokenFormer"] > best["CodebookFormer"]  # the order of the means
    histogram = float(found["regression on token histograms"][0].split()[0])
    assert histogram > best["TokenFormer"]
    assert best["TokenFormer"] < float(found["guessing: all classes alike"][0].split()[0])
    for name in best:
        ways = [float(found[f"{name}{way}"][0].split()[0]) for way in ("", ", pretrained, fine-tuned")]
        assert float(found[f"{name}, pretrained, frozen"][0].split()[0]) < min(ways)
    skills = re.findall(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]", PAGE)
    assert len(skills) >= 3 and all(float(low) <= 0 for _, low, _ in skills[:3])  # above zero for none


def test_figures_exist_and_are_small() -> None:
    for target in re.findall(r"\]\((kamuni2024/[^)]*)\)", PAGE):
        assert 0 < (DOCS / target).stat().st_size < 1_000_000, target
