"""docs/sincresnet2021.md and docs/gafx2022.md say what the committed runs say."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from featstore.workflows.recipes import load_recipe

DOCS = Path(__file__).parents[2] / "docs"
PAPERS = ["sincresnet2021", "gafx2022"]


def runs_of(paper: str) -> list[dict[str, str]]:
    with open(DOCS / paper / "configurations.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("paper", PAPERS)
def test_rows_are_those_of_the_runs(paper: str) -> None:
    page = (DOCS / f"{paper}.md").read_text(encoding="utf-8")
    table = {cells[1].strip(): cells for line in page.splitlines() if len(cells := line.split("|")) > 6}
    weak = 100 * load_recipe(paper, data="demo").report["tables"][0]["undertrained"]
    scores = []
    for row in runs_of(paper):
        mean = 100 * float(row["accuracy_mean"])
        found = [name for name, cells in table.items() if cells[2].strip().startswith(f"{mean:.1f}")]
        assert found, row["configuration"]
        assert all(name.endswith("(undertrained)") is (mean < weak) for name in found)
        assert any(f"{int(float(row['parameters'])):,}" in table[name][5] for name in found)
        scores.append(mean)
    assert len(scores) == {"sincresnet2021": 6, "gafx2022": 5}[paper]


@pytest.mark.parametrize("paper", PAPERS)
def test_command_files_and_figures_are_there(paper: str) -> None:
    page = (DOCS / f"{paper}.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^featstore recipe run .*$", page, re.MULTILINE)
    shown = (DOCS / paper / "page.html").read_text(encoding="utf-8")
    assert command in shown
    ids = {run for row in runs_of(paper) for run in re.findall(r"[0-9a-f]{12}", row["run_ids"])}
    assert len(ids) == {"sincresnet2021": 18, "gafx2022": 5}[paper] and all(run in shown for run in ids)
    targets = re.findall(rf"\]\(((?:{paper}|benchmarks)/[^)]*)\)", page)
    assert len(targets) >= 3 and all(0 < (DOCS / target).stat().st_size < 1_000_000 for target in targets)


def test_bytes_and_steps_are_the_measured_ones() -> None:
    page = (DOCS / "sincresnet2021.md").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (DOCS / "benchmarks/clips.jsonl").read_text().splitlines()]
    sizes = [line["bytes_an_hour"] for line in lines if line["bench"] == "bytes"]
    said = [float(value) for value in re.findall(r"^\| (?:waveform|mel), .* \| ([\d.]+) \|$", page, re.MULTILINE)]
    assert said == [round(size / 1e6, 1) for size in sizes] and len(said) == 8
    ways = ("input_alone_steps_per_s", "training_steps_per_s")
    ratios = [line[way]["by_processor"]["ratio"] for line in lines if line["bench"] == "clips" for way in ways]
    said = [float(value) for value in re.findall(r"^\| (?:mp3|WAV), .* \| ([\d.]+) \|$", page, re.MULTILINE)]
    assert said == ratios
    for line in map(json.loads, (DOCS / "benchmarks/sinc.jsonl").read_text().splitlines()):
        both = [f"{line[what]['ratio']:.2f}" for what in ("forward", "forward and backward")]
        assert f"| {line['length']} | {both[0]} | {both[1]} |" in page
