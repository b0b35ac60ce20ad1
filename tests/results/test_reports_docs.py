"""docs/reports.md: every command, every SELECT and every block of Python in it is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("duckdb")
pytest.importorskip("matplotlib")

from featstore.results import query, read_results
from featstore.results.sql import VIEWS, view_frame
from featstore.testing.runs import mel_grid, write_runs

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "reports.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("docs")
    grid = mel_grid(n_mels=[96, 48], hop_multiple=[1, 2], encoding=["float32", "uint8"])
    write_runs(root / "runs", grid, predictions=60, epochs=4)
    return root


@pytest.mark.slow
def test_every_command_runs(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from featstore_cli.main import main

    monkeypatch.chdir(place)
    lines = [line for block in _blocks("bash") for line in block.splitlines()]
    assert len(lines) == 18
    for line in lines:
        program, *args = shlex.split(line)
        assert program == "featstore"
        with pytest.raises(SystemExit) as stopped:
            main(args)
        out, err = capsys.readouterr()
        assert not stopped.value.code and out, f"{line}: {err}"
    assert {"front.svg", "figure1.pdf", "classes.png", "report.html"} <= {path.name for path in place.iterdir()}


def test_every_select_runs_and_finds_something(place: Path) -> None:
    runs, selects = read_results(place / "runs"), _blocks("sql")
    answers = [query(runs, sql) for sql in selects]
    assert len(answers) == 4 and all(len(answer) for answer in answers)
    halves = answers[0]
    frame = runs.frame[runs.frame["encoding"] == "float32"]
    means = frame.groupby(["hop_multiple", "n_mels"])["test.roc_auc"].mean()
    assert halves["difference"].tolist() == pytest.approx([means[h, 48] - means[h, 96] for h in (1, 2)])


@pytest.mark.slow
def test_python_runs_from_top_to_bottom(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    names: dict[str, Any] = {}
    for block in _blocks("python"):
        exec(compile(block, "reports.md", "exec"), names)
    assert len(names["runs"]) == 24 and names["front"].frame["guaranteed"].any()


def test_the_views_have_the_columns_that_are_told(place: Path) -> None:
    runs = read_results(place / "runs")
    told = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", TEXT, re.MULTILINE))
    assert set(told) >= set(VIEWS)
    for view in set(VIEWS) - {"tracks"}:
        columns = set(view_frame(runs, view).columns)
        words = {word for part in re.findall(r"`([^`]+)`", told[view]) for word in re.split(r"[,\s]+", part)}
        named = {word for word in words if re.fullmatch(r"\w+", word)} - {"accuracy", "macro_f1"}
        assert named <= columns, f"{view}: {named - columns}"


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT)
    assert len(pictures) == 5 and all((DOCS / path).stat().st_size > 10_000 for path in pictures)
