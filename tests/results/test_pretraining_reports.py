"""Reports of pretraining: probes beside losses, skill, guessing, overfitting, and what a run started from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from featstore.errors import ConfigError
from featstore.results import RunSet, read_results, summarise
from featstore.results.figure_storage import draw_storage
from featstore.results.page_data import page_data
from featstore.results.paper_page import check_report, write_page
from featstore.results.paper_tables import paper_table
from featstore.results.probes import probe_table, rank_correlation, run_correlations
from featstore.testing.runs import mel_grid, write_runs

METRIC = "macro_f1_all"
REPORT: dict[str, Any] = {
    "metric": METRIC,
    "tables": [
        {
            "title": "Genre",
            "columns": [METRIC, "n", "overfitting", "seconds_audio"],
            "metrics": ["macro_f1"],
            "reference": {"paper": "kamuni2024"},
            "rows": [
                {"label": "fresh", "where": ["path~/fresh/"]},
                {"label": "all alike", "chance": "uniform"},
                {"label": "as quoted", "where": ["path~/none/"], "published": ["kind=chance"]},
            ],
        },
        {
            "title": "Pretraining",
            "stage": "pretraining",
            "columns": ["loss", "baseline", "skill", "probe", "rank_correlation", "n"],
            "rows": [{"label": "Former", "where": ["model=former"]}],
        },
    ],
    "figures": [
        {"kind": "storage", "title": "Storage"},
        {"kind": "probes", "stage": "pretraining", "title": "Loss and score"},
    ],
}


def change(folder: Path, edit: Any) -> None:
    path = folder / "result.json"
    result = json.loads(path.read_text())
    edit(result)
    path.write_text(json.dumps(result))


def probes(seed: int) -> list[dict[str, Any]]:
    losses, scores = [5.0, 4.0, 3.5, 3.2], [[0.1, 0.2, 0.4, 0.3], [0.1, 0.2, 0.3, 0.4]][seed]
    return [
        {"step": 10 * k, "valid": {"loss": loss, "skill": 1 - loss / 5}, "probe": {METRIC: score}}
        for k, (loss, score) in enumerate(zip(losses, scores, strict=True))
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSet, RunSet]:
    """Two seeds of one model from fresh weights and from two kinds of pretraining, which differ in nothing else."""
    root = tmp_path_factory.mktemp("study")
    for name, source in (("fresh", ""), ("tuned", "a1"), ("other", "b2")):
        for seed, folder in enumerate(write_runs(root / "runs" / name, mel_grid(model=["former"]), seeds=2)):

            def edit(result: dict[str, Any], seed: int = seed, source: str = source, name: str = name) -> None:
                test = 0.5 + 0.01 * seed + {"fresh": 0, "tuned": 0.1, "other": 0.2}[name]
                result["run_id"] = f"{name}-{seed}"
                result["scores"] = {
                    split: {METRIC: test + add, "macro_f1": test + add}
                    for split, add in (("train", 0.3), ("valid", 0.1), ("test", 0.0))
                }
                result["overfitting"] = 0.2 + 0.01 * seed
                result["chance"] = {"test": {"uniform": {"mean": 0.125, "deviation": 0.01}}}
                result["audio_seen_s"] = {"run": 100.0, "start": 20.0 if source else 0.0}
                result["config"]["start"] = {"run": f"pretraining/{source}/seed-{seed}" if source else ""}
                if source:
                    result["start"] = {"model": "former", "objective": "masked-ids", "config_hash": f"{source}ffff"}

            change(folder, edit)
    for seed, folder in enumerate(write_runs(root / "pretraining", mel_grid(model=["former"]), seeds=2)):

        def pretrained(result: dict[str, Any], seed: int = seed) -> None:
            skill = {"skill": 0.36 + 0.02 * seed, "skill_low": 0.3 + 0.01 * seed, "skill_high": 0.4 + 0.01 * seed}
            result["scores"] = {"valid": {"loss": 3.2, "line_baseline": 6.0, "mean_baseline": 5.0, **skill}}
            result["probes"] = probes(seed)

        change(folder, pretrained)
    return read_results(root / "runs"), read_results(root / "pretraining")


def test_runs_from_other_pretraining_are_other_configurations(study: tuple[RunSet, RunSet]) -> None:
    summary = summarise(study[0])
    assert len(summary) == 3 and (summary["n"] == 2).all()  # and not one, with the others taken for runs done again
    assert len(set(summary["label"])) == 3
    assert sorted(summary[f"{METRIC}_mean"].round(3)) == [0.505, 0.605, 0.705]


def test_tables_hold_guessing_overfitting_and_the_paper_s_line_where_it_belongs(study: tuple[RunSet, RunSet]) -> None:
    table = paper_table(REPORT["tables"][0], study[0], {"metric": METRIC})
    assert table is not None
    assert table.heads == [
        "configuration",
        "macro F1 (all classes)",
        "n",
        "train − valid",
        "audio seen",
        "macro F1, published",
    ]
    assert table.rows == [
        ["fresh", "50.50 ± 0.71", "2", "20.00 ± 0.00", "1.67 min", ""],
        ["all alike", "12.50 ± 1.00", "–", "–", "–", ""],
        ["as quoted", "not run", "0", "–", "–", "11.00"],
    ]
    assert "1 of 3 rows were not run" in table.note


def test_the_table_of_pretraining_has_skill_with_its_widest_interval_and_the_probes(
    study: tuple[RunSet, RunSet],
) -> None:
    table = paper_table(REPORT["tables"][1], study[1], {"metric": METRIC})
    assert table is not None
    first, second = (spearmanr([4.0, 3.5, 3.2], scores).statistic for scores in ([0.2, 0.4, 0.3], [0.2, 0.3, 0.4]))
    assert (round(first, 2), second) == (-0.5, -1.0)
    assert table.rows == [
        [
            "Former",
            "3.20 ± 0.00",
            "5.000 ± 0.000",
            "0.370 [0.300, 0.410]",
            "35.00 ± 7.07 (first weights 10.00 ± 0.00)",
            "-0.75 (-1.00 to -0.50)",
            "2",
        ]
    ]


def test_first_weights_do_not_count_in_a_correlation(study: tuple[RunSet, RunSet]) -> None:
    table = probe_table(study[1], METRIC)
    assert len(table) == 8 and sorted(run_correlations(table).values()) == pytest.approx([-1.0, -0.5])
    assert rank_correlation([1, 2], [1, 2]) != rank_correlation([1, 2], [1, 2])  # NaN: two say nothing
    assert rank_correlation([1, 2, 3], [5, 5, 5]) != 0


@pytest.mark.slow
def test_the_page_shows_both_stages(study: tuple[RunSet, RunSet], tmp_path: Path) -> None:
    check_report(REPORT)
    files = write_page(study[0], tmp_path, REPORT, before=study[1])
    assert {path.name for path in files} == {"page.html", "configurations.csv", "storage.png", "probes.png"}
    page = (tmp_path / "page.html").read_text()
    assert page.count("<section>") == 4 and "The 6 runs behind this figure" in page
    assert "The 2 runs behind this figure" in page and "-0.75 (-1.00 to -0.50)" in page
    svg = (tmp_path / "probes.svg").read_text()
    assert "within a run: -0.75 (-1.00 to -0.50)" in svg
    storage = (tmp_path / "storage.svg").read_text()
    assert "guessing:" in storage and "uniform" in storage
    without = write_page(study[0], tmp_path / "alone", REPORT)  # nothing was pretrained: the rest is shown
    assert {path.name for path in without} == {"page.html", "configurations.csv", "storage.png"}


def test_the_page_of_runs_says_how_far_training_is_above_validation(study: tuple[RunSet, RunSet]) -> None:
    found = page_data(study[0], title="", details=0)["remarks"]
    assert sorted(found) == ["0", "1", "2"]
    assert found["0"] == [
        ["guessing, macro F1 (all classes)", "uniform 0.1250"],
        ["macro F1 (all classes), training less validation", "0.2050 ± 0.0071"],
    ]


def test_figures_say_what_they_lack(study: tuple[RunSet, RunSet], tmp_path: Path) -> None:
    from featstore.results.figures import draw

    with pytest.raises(ConfigError, match=r"no run has probes of its trunk .*loop.probe_every"):
        draw(study[0], "probes", [tmp_path / "a.png"], metric=METRIC)
    with pytest.raises(ConfigError, match="macro_f1_all"):
        draw_storage(study[1], metric=METRIC)
