"""docs/atlas.md says what the committed runs say, and keeps rows that still learned off its front."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featstore.results.fronts import front_of
from featstore.units import format_bytes
from featstore.workflows.recipes import load_recipe

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "atlas.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "atlas" / "answer.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return list(answer["rows"])


def rate(row: dict[str, Any]) -> str:
    return f"{row['rate_bps'] / 1000:.3g} kbit/s"


def at_most(row: dict[str, Any]) -> str:
    return f"{math.ceil(1000 * row['loss_most'] - 1e-6) / 10:.1f}"


def score(row: dict[str, Any], metric: str) -> str:
    return f"{100 * row[f'{metric}_mean']:.2f} ± {100 * row[f'{metric}_std']:.2f}"


def test_every_row_stands_in_the_table(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 42
    for row in rows:
        least, digits = row["loss_least"], 1 if row["loss_least"] >= 0.001 else 2
        fronts = " and ".join(
            word for word, key in (("measured", "on_front"), ("guaranteed", "guaranteed")) if row[key]
        )
        cells = [row["label"], score(row, "roc_auc"), score(row, "pr_auc"), rate(row), at_most(row)]
        cells += [f"{math.floor(100 * least * 10**digits + 1e-6) / 10**digits:.{digits}f}" if least else "", fronts]
        cells += [f"{row['seconds_audio'] / 3600:.1f} h" if row["seconds_audio"] else "–"]
        cells += [f"{row['seconds_train']:.0f} s", f"{row['gmacs']:.2g}" if row["gmacs"] else "–"]
        assert f"| {' | '.join(cells)} |" in PAGE
        assert row["n"] == 3, "three seeds"


def test_rows_that_still_learned_are_marked_and_on_no_front(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["undertrained"] == ((row["late_gain"] or 0.0) > 0.01) == row["label"].endswith("(undertrained)")
        assert not (row["undertrained"] and (row["on_front"] or row["guaranteed"]))
    trained = np.array([not row["undertrained"] for row in rows])
    points = np.array([[row["rate_bps"], row["loss_most"]] for row in rows])
    assert [row["guaranteed"] for row in rows] == front_of(points, trained).tolist()
    marked = len(rows) - int(trained.sum())
    assert f"{len(rows)} rows" in PAGE and f"{marked} are marked as undertrained" in PAGE


def test_the_answer_is_that_of_the_bounds(answer: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    assert all(f"> {sentence}" in PAGE for sentence in answer["sentences"])
    for row in rows:
        cells = [row["label"], rate(row), format_bytes(row["bytes_alone"]), score(row, "roc_auc"), at_most(row)]
        assert (f"| {' | '.join(cells)} |" in PAGE) == row["guaranteed"]


def test_the_rows_are_those_of_the_recipe(rows: list[dict[str, Any]]) -> None:
    models = {plan.model for plan in load_recipe("atlas").model_plans()}
    assert {row["model"] for row in rows} == models
    assert {row["representation"] for row in rows} >= {"mel", "waveform", "vq_tokens", "vq_codes", "embedding"}
    page = (DOCS / "atlas" / "atlas.html").read_text(encoding="utf-8")
    for command in re.findall(r"^featstore recipe run .*$", PAGE, re.MULTILINE)[:1]:
        assert html.escape(command) in page
    ids = {run for row in rows for run in row["run_ids"]}
    assert len(ids) == 3 * len(rows) and all(f"<td>{run}</td>" in page or run in page for run in ids)


def test_drops_are_those_of_the_runs(rows: list[dict[str, Any]]) -> None:
    shifts = ["mp3_64k", "gain_6dB", "noise_20dB", "resample_8k", "timbre_FluidR3Mono_GM"]
    assert [re.sub(r"\W", "_", name) for name in load_recipe("atlas").shifts["names"]] == shifts
    named = 0
    for row in rows:
        drops = [round(100 * row[f"drop_{shift}_roc_auc"], 1) or 0.0 for shift in shifts]
        tokens = [
            f"{100 * row[f'shifted_{shift}_tokens']:.0f}" for shift in shifts if row["representation"][:2] == "vq"
        ]
        cells = [row["label"], *(f"{drop:.1f}".replace("-", "−") for drop in drops)]
        named += f"| {' | '.join(cells)} | {', '.join(tokens) + ' %' if tokens else ''} |" in PAGE
        assert {row[f"shifted_{shift}_tracks"] for shift in shifts} == {64}
    assert named == 19


def test_verdicts_are_those_of_the_recipe() -> None:
    judged = json.loads((DOCS / "atlas" / "claims.json").read_text(encoding="utf-8"))
    claims = judged["claims"] if isinstance(judged, dict) else judged
    assert [claim["claim"] for claim in claims] == [claim["claim"] for claim in load_recipe("atlas").report["claims"]]
    for claim in claims:
        [line] = [line for line in PAGE.splitlines() if line.startswith(f"| {claim['claim']} |")]
        assert line.endswith(f"| {claim['verdict']} |")
    assert {claim["verdict"] for claim in claims} == {"holds", "does not hold", "cannot be said"}


def test_pages_and_figures_exist() -> None:
    for target in re.findall(r"\]\((atlas/[^)]*)\)", PAGE):
        assert 0 < (DOCS / target).stat().st_size < 4_000_000, target
