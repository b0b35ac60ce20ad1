"""The resolution study's page: tables in the paper's layout, tests over the grid, runs behind every number."""

from __future__ import annotations

import csv
import html
import re
from pathlib import Path

import pytest
import yaml

from featstore.errors import ConfigError
from featstore.results import RunSet, compare, holm, read_results, summarise
from featstore.results.figure_encoding import against_float
from featstore.results.paper_page import DEFAULTS, check_report, write_page
from featstore.results.paper_tables import against_best, paper_table
from featstore.results.paper_tests import verdict
from featstore.testing.runs import mel_grid, write_runs
from featstore.workflows.recipes import load_recipe

STUDY = load_recipe("ferraro2020", data="mtat=x").report


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    path = tmp_path_factory.mktemp("study")
    grid = mel_grid(n_mels=[96, 48, 8], hop_multiple=[1], sample_rate=[12000, 16000], encoding=["float32", "uint8"])
    grid += mel_grid(n_mels=[96], hop_multiple=[2], scale=["log10_1p"]) + mel_grid(n_mels=[48], model=["musicnn"])
    write_runs(path, grid, seeds=3)
    return read_results(path)


def test_every_configuration_is_tested_against_the_best_of_its_model(runs: RunSet) -> None:
    frame, statements = against_best(summarise(runs), "roc_auc", test="independent")
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
    four, five = (paper_table(spec, runs, STUDY) for spec in STUDY["tables"][:2])
    assert four is not None and five is not None
    assert four.title.startswith("Table IV") and len(four.rows) == 6 and len(five.rows) == 18
    row = next(r for r in four.rows if r[1:4] == ["128", "256 (16 ms)", "16 kHz"])
    assert row[-2:] == ["90.83", "38.92"] and row[4] == "not run"
    row = next(r for r in five.rows if r[:4] == ["vgg-cnn", "128", "256 (16 ms)", "16 kHz"])
    assert row[-2:] == ["86.84", "28.10"]
    place, row = next((i, r) for i, r in enumerate(five.rows) if r[:4] == ["vgg-cnn", "96", "256 (16 ms)", "16 kHz"])
    mine = summarise(runs)
    mine = mine[(mine["n_mels"] == 96) & (mine["sample_rate"] == 16000) & (mine["hop_multiple"] == 1)]
    mine = mine[(mine["encoding"] == "float32") & (mine["scale"] == "db")].iloc[0]
    assert row[4] == f"{100 * mine['roc_auc_mean']:.2f} ± {100 * mine['roc_auc_std']:.2f}" and row[6] == "3"
    assert five.run_ids[place] == mine["run_ids"]
    assert "14 of 18 rows were not run" in five.note or "13 of 18 rows were not run" in five.note


def test_rows_near_guessing_are_marked(runs: RunSet) -> None:
    rows = [{"label": f"{n} bands", "where": [f"n_mels={n}", "model=vgg-cnn", "encoding=float32"]} for n in (96, 8, 3)]
    spec = {"title": "T", "rows": rows, "metrics": ["roc_auc"], "columns": ["roc_auc"]}
    plain = paper_table(spec, runs, STUDY)
    assert plain is not None and [row[0] for row in plain.rows] == ["96 bands", "8 bands", "3 bands"]
    scores = [float(row[1].partition(" ")[0]) / 100 for row in plain.rows[:2]]
    between = paper_table({**spec, "undertrained": sum(scores) / 2}, runs, STUDY)
    assert between is not None
    marks = [row[0].endswith("(undertrained)") for row in between.rows]
    assert marks == [scores[0] < scores[1], scores[1] < scores[0], False], "a row that was not run is no worse"
    assert "too near" in between.note and "Undertrained" not in plain.note


@pytest.mark.slow
def test_page_stands_alone_and_names_the_runs_of_every_figure(runs: RunSet, tmp_path: Path) -> None:
    files = write_page(runs, tmp_path, STUDY, title="A <b> study", commands=["featstore recipe run x", "featstore y"])
    assert {path.name for path in files} == {
        "study.html", "configurations.csv", "figure1-musicnn.png", "front-musicnn.png", "figure1-vgg-cnn.png",
        "front-vgg-cnn.png", "quantised.png",
    }  # fmt: skip
    page = (tmp_path / "study.html").read_text()
    assert page.count("<section>") == 8 and page.count("<img") == 5
    assert 'name="color-scheme" content="light dark"' in page and "prefers-color-scheme: dark" in page
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


def test_a_report_is_checked_before_any_work() -> None:
    table = {"title": "T", "rows": ["model"]}
    for wrong, message in (
        ({"table": []}, r"unknown key 'table' \[report\].*tables"),
        ({"tables": [{"rows": ["model"]}]}, r"needs a title and rows \[report.tables\[0\]\]"),
        ({"tables": [{**table, "colums": []}]}, r"unknown key 'colums'.*columns"),
        ({"tables": [{**table, "reference": {"paper": "ferraro"}}]}, "unknown paper 'ferraro'.*ferraro2020"),
        ({"tables": [table, {**table, "where": ["n_mels"]}]}, "'n_mels' is no condition"),
        ({"figures": [{"kind": "figure2"}]}, r"unknown figure 'figure2' \[report.figures\[0\]\].*figure1"),
        ({"figures": ["pareto"]}, "'pareto' is not a mapping"),
        ({"where": ["?"]}, "is no condition"),
        ({"where": "?"}, r"'\?' is no condition"),
        ({"tables": {"title": "T"}}, "tables is not a list"),
        ({"tables": [{**table, "rows": "model"}]}, "needs a title and rows"),
        ({"tables": [{**table, "rows": ["model", {"n_mels": 1}]}]}, "needs a title and rows"),
        ({"tables": [{**table, "rows": [3]}]}, "the row 3 is not a mapping"),
        ({"tables": [{**table, "rows": [{"model": "a", "published": ["x"]}]}]}, "'x' is no condition"),
        ({"tables": [{**table, "columns": ["roc_acu"]}]}, r"unknown column 'roc_acu' \[report.tables\[0\]\].*roc_auc"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_report(wrong)


@pytest.mark.slow
def test_another_paper_only_writes_yaml(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", mel_grid(n_mels=[96], model=["vgg-cnn", "ast"]), seeds=2, task="single_label",
               predictions=40)  # fmt: skip
    runs = read_results(tmp_path / "runs")
    settings = yaml.safe_load("""
        metric: accuracy
        tables:
          - title: Table 4
            rows:
              - {label: AST on a mel-spectrogram, where: [model=ast],
                 published: [model=AST DeiT-S, place=table 3]}
              - {label: extractor trained on AudioSet, where: [model=gafx],
                 published: ["detail~AudioSet balanced", place=table 4]}
            columns: [accuracy, n, gmacs]
            metrics: [accuracy]
            reference: {paper: gafx2022, kind: own, dataset: GTZAN (80/20)}
            note: Splits differ.
          - {title: All, rows: [model], columns: [accuracy, verdict], within: dataset}
          - {title: None of them, rows: [model], where: [n_mels=1]}
        figures: [{kind: pareto, title: Size and accuracy}]
    """)
    files = write_page(runs, tmp_path / "page", settings)
    assert [path.name for path in files] == ["page.html", "configurations.csv", "pareto.png"]
    page = files[0].read_text()
    assert page.count("<section>") == 3
    four = paper_table(settings["tables"][0], runs, {**DEFAULTS, **settings})
    assert four is not None
    assert four.heads == ["configuration", "accuracy", "n", "GMACs", "accuracy, GTZAN (80/20)"]
    ours = summarise(runs, ["model"], metrics=["accuracy"]).set_index("model").loc["ast"]
    shown = f"{100 * ours['accuracy_mean']:.2f} ± {100 * ours['accuracy_std']:.2f}"
    assert four.rows[0][:3] == ["AST on a mel-spectrogram", shown, "2"] and four.rows[0][-1] == "64.50"
    assert four.rows[1][1:] == ["not run", "0", "–", "51.00 ± 2.00"]
    assert four.note.startswith("Splits differ.") and "1 of 2 rows were not run" in four.note
    both = paper_table(settings["tables"][1], runs, {**DEFAULTS, **settings})
    assert both is not None and {row[2] for row in both.rows} >= {"best mean"} and len(both.rows) == 2


def test_runs_without_a_grid_are_refused(tmp_path: Path, runs: RunSet) -> None:
    with pytest.raises(ConfigError, match=r"no run meets n_mels>1000"):
        write_page(runs, tmp_path, {**STUDY, "where": ["n_mels>1000"]})
    for spec, message in (
        ({"rows": ["model"], "columns": ["micro_f1"]}, "no run has the column 'micro_f1'"),
        ({"rows": ["n_mel"]}, r"runs have no column 'n_mel'.*n_mels"),
        ({"rows": ["model"], "columns": ["verdict"], "within": "modle"}, r"runs have no column 'modle'.*model"),
    ):
        with pytest.raises(ConfigError, match=message):
            paper_table({"title": "T", **spec}, runs, DEFAULTS)
    with pytest.raises(ConfigError, match=r"no run has the metric 'accuracy' on test.*roc_auc"):
        write_page(runs, tmp_path, {"metric": "accuracy"})
    with pytest.raises(ConfigError, match="runs have no column 'modle'"):
        write_page(runs, tmp_path, {"figures": [{"kind": "pareto", "each": "modle"}]})


def test_the_documented_section_is_one(runs: RunSet) -> None:
    text = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    section, claims = (yaml.safe_load(block)["report"] for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    check_report(section)
    check_report(claims)
    table = paper_table(section["tables"][0], runs, {**DEFAULTS, **section})
    assert table is not None and [row[-1] for row in table.rows] == ["64.50", "51.00 ± 2.00"]
    for key in ("figures", "tables", "each", "within", "reference", "published", "columns", "metrics", "note"):
        assert f"`{key}`" in text
