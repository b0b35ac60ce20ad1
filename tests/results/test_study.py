"""The resolution study's page: tables in the paper's layout, tests over the grid, runs behind every number."""

from __future__ import annotations

import csv
import html
import re
from pathlib import Path

import pytest

from featstore.errors import ConfigError
from featstore.results import RunSet, compare, holm, read_results, summarise
from featstore.results.study import against_best, against_float, paper_tables, verdict
from featstore.results.study_page import write_study
from featstore.testing.runs import mel_grid, write_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    path = tmp_path_factory.mktemp("study")
    grid = mel_grid(n_mels=[96, 48, 8], hop_multiple=[1], sample_rate=[12000, 16000], encoding=["float32", "uint8"])
    grid += mel_grid(n_mels=[96], hop_multiple=[2], scale=["log10_1p"]) + mel_grid(n_mels=[48], model=["musicnn"])
    write_runs(path, grid, seeds=3)
    return read_results(path)


def test_every_configuration_is_tested_against_the_best_of_its_model(runs: RunSet) -> None:
    frame, statements = against_best(summarise(runs), "roc_auc", "independent")
    assert set(statements) == {"vgg-cnn", "musicnn"} and len(frame) == 14
    assert "independent two-sample t-test" in statements["vgg-cnn"]
    assert "n = 3" in statements["vgg-cnn"] and "(ddof = 1)" in statements["vgg-cnn"]
    assert "Holm's correction over 12 comparisons" in statements["vgg-cnn"]
    vgg = frame[frame["model"] == "vgg-cnn"].reset_index(drop=True)
    assert vgg["verdict"][0] == "best mean" and (vgg["verdict"] == "best mean").sum() == 1
    p = [compare(v, vgg["roc_auc_values"][0], test="independent").p for v in vgg["roc_auc_values"][1:]]
    assert vgg["p"][1:].tolist() == pytest.approx(p) and vgg["p_holm"][1:].tolist() == pytest.approx(holm(p))
    assert (vgg[vgg["n_mels"] == 8]["verdict"] == "differs").all()
    assert verdict({"told_apart": False, "in_doubt": True}) == "in doubt"


def test_quantised_features_against_float32(runs: RunSet) -> None:
    pairs = against_float(summarise(runs), "roc_auc", "welch")
    assert len(pairs) == 6 and set(pairs["encoding"]) == {"uint8"}
    assert pairs["bytes_ratio"].tolist() == pytest.approx([0.25] * 6)
    assert (pairs["n"] == 3).all() and all(len(ids) == 6 for ids in pairs["run_ids"])
    summary = summarise(runs)
    assert not len(against_float(summary[summary["encoding"] == "float32"], "roc_auc", "welch"))


def test_tables_have_the_paper_s_layout_and_numbers(runs: RunSet) -> None:
    four, five = paper_tables(summarise(runs))
    assert four.title.startswith("Table IV") and len(four.rows) == 6 and len(five.rows) == 18
    row = next(r for r in four.rows if r[1:4] == ["128", "×1", "16 kHz"])
    assert row[-2:] == ["90.83", "38.92"] and row[4] == "not run"
    row = next(r for r in five.rows if r[:4] == ["vgg-cnn", "128", "×1", "16 kHz"])
    assert row[-2:] == ["86.84", "28.10"]
    place, row = next((i, r) for i, r in enumerate(five.rows) if r[:4] == ["vgg-cnn", "96", "×1", "16 kHz"])
    mine = summarise(runs)
    mine = mine[(mine["n_mels"] == 96) & (mine["sample_rate"] == 16000) & (mine["hop_multiple"] == 1)]
    mine = mine[(mine["encoding"] == "float32") & (mine["scale"] == "db")].iloc[0]
    assert row[4] == f"{100 * mine['roc_auc_mean']:.2f} ± {100 * mine['roc_auc_std']:.2f}" and row[6] == "3"
    assert five.run_ids[place] == mine["run_ids"]
    assert "14 of 18 rows were not run" in five.note or "13 of 18 rows were not run" in five.note


def test_page_stands_alone_and_names_the_runs_of_every_figure(runs: RunSet, tmp_path: Path) -> None:
    files = write_study(
        runs, tmp_path, published="MTAT", title="A <b> study", commands=["featstore recipe run x", "featstore y"]
    )
    assert {path.name for path in files} == {
        "study.html", "configurations.csv", "figure1-musicnn.png", "front-musicnn.png", "figure1-vgg-cnn.png",
        "front-vgg-cnn.png", "quantised.png",
    }  # fmt: skip
    page = (tmp_path / "study.html").read_text()
    assert page.count("<section>") == 8 and page.count("<img") == 5
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:)", page) and "default-src 'none'" in page
    assert (
        html.escape("A <b> study") in page
        and "A <b> study" not in page
        and "featstore recipe run x" in page
        and "featstore y" in page
    )
    sections = page.split("<section>")[1:]
    ids = {record.run_id for record in runs}
    assert len(ids) == 42
    figure_one = next(part for part in sections if "Figure 1: vgg-cnn" in part)
    named = {found for found in ids if f"<td>{found}</td>" in figure_one}
    exact = {r.run_id for r in runs if "float32" in r.feature and r.model == "vgg-cnn"}
    assert named == exact and "The 21 runs behind this figure" in figure_one
    assert all(found in sections[-1] for found in ids), "the table of all configurations names every run"
    with open(tmp_path / "configurations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14 and all(row["verdict"] and row["run_ids"] and row["bytes_alone"] for row in rows)


def test_runs_without_a_grid_are_refused(tmp_path: Path, runs: RunSet) -> None:
    summary = summarise(runs).assign(n_mels=None)
    with pytest.raises(ConfigError, match="no run has mel bands and a hop multiple"):
        against_best(summary, "roc_auc", "welch")
