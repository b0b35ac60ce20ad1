"""``featstore report`` as a user calls it: answers on stdout, the rest on stderr, exit code 1 for what is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featstore.testing.runs import mel_grid, write_runs

Report = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("runs")
    write_runs(root, mel_grid(n_mels=[96, 48], hop_multiple=[1, 2], encoding=["float32", "uint8"]), predictions=60)
    (root / "half").mkdir()
    (root / "half" / "config.yaml").write_text("seed: 0\n")
    return str(root)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Run ``featstore report …`` in this process: exit code, stdout, stderr."""
    from featstore_cli.main import main

    def called(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["report", *args])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return called


def test_table(report: Report, runs: str) -> None:
    code, out, err = report("table", runs, "--by", "model,n_mels")
    assert code == 0 and out.splitlines()[0].startswith("All: vgg-cnn")
    assert "skipped:" in err and "has not finished" in err and "skipped" not in out


def test_table_styles_and_files(report: Report, runs: str, tmp_path: Path) -> None:
    code, out, _ = report("table", runs, "--json", "--where", "encoding=uint8")
    assert code == 0 and len(json.loads(out)) == 4
    code, out, _ = report("table", runs, "--format", "csv", "--metric", "roc_auc")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and len(rows) == 8 and "pr_auc_mean" not in rows[0]
    code, out, err = report("table", runs, "--format", "latex", "-o", str(tmp_path / "table.tex"))
    assert code == 0 and out == "" and r"\toprule" in (tmp_path / "table.tex").read_text() and "Written:" in err
    code, out, _ = report("table", runs, "--published", "--split", "test", "--wide", "--confidence", "0.9")
    assert code == 0 and "published MTAT roc_auc" in out and "inference" in out


@pytest.mark.slow
def test_plain_questions(report: Report, runs: str) -> None:
    code, out, _ = report("query", runs, "--minimise", "bytes", "--within", "2%", "--of", "best")
    assert code == 0 and "costs" in out.splitlines()[0] and "the answer first" in out
    code, out, _ = report("query", runs, "--good-enough", "--margin", "0.5")
    assert code == 0 and out.startswith("Keep ") and "resampled" in out
    told = json.loads(report("query", runs, "--good-enough", "--margin", "0.5", "--json")[1])
    assert told["answer"]["bytes_alone"] == min(row["bytes_alone"] for row in told["rows"])
    assert told["answer"]["loss_most"] <= 0.5
    code, out, _ = report("query", runs, "--minimise", "bytes", "--min", "roc_auc=0.5", "--json")
    told = json.loads(out)
    assert code == 0 and told["answer"]["bytes_alone"] == min(row["bytes_alone"] for row in told["rows"])
    code, out, _ = report("query", runs, "--budget", "50GB", "--tracks", "241904", "--where", "model=vgg-cnn")
    assert code == 0 and "for 241,904 tracks" in out


def test_sql(report: Report, runs: str) -> None:
    sql = "SELECT n_mels, count(*) AS n FROM runs GROUP BY n_mels ORDER BY n_mels"
    assert json.loads(report("query", runs, "--sql", sql, "--json")[1]) == [
        {"n_mels": 48, "n": 12},
        {"n_mels": 96, "n": 12},
    ]
    assert report("query", runs, "--sql", sql, "--format", "csv")[1] == "n_mels,n\n48,12\n96,12\n"
    assert "(no rows)" in report("query", runs, "--sql", "SELECT * FROM runs WHERE false")[1]


@pytest.mark.slow
def test_pareto_with_figures(report: Report, runs: str, tmp_path: Path) -> None:
    pictures = [str(tmp_path / name) for name in ("front.png", "front.svg", "front.pdf")]
    outputs = [word for path in pictures for word in ("-o", path)]
    code, out, _ = report("pareto", runs, *outputs, "--margin", "0.5")
    assert code == 0 and all(Path(path).stat().st_size > 5000 for path in pictures)
    assert out.startswith("Keep ") and "60 test tracks resampled" in out
    code, out, err = report("pareto", runs, "--x", "rate,gmacs", "--y", "pr_auc", "--test", "independent", "--json")
    told = json.loads(out)
    assert code == 0 and told["axes"] == ["rate_bps", "gmacs"] and told["margin"] == 0.02
    assert "--test has no effect" in err


@pytest.mark.slow
def test_plot_html_and_diff(report: Report, runs: str, tmp_path: Path) -> None:
    code, out, _ = report("plot", runs, "--kind", "bytes", "-o", str(tmp_path / "b.svg"), "--json")
    assert code == 0 and json.loads(out)["figures"] == [str(tmp_path / "b.svg")]
    code, out, _ = report("html", runs, "-o", str(tmp_path / "page.html"), "--json")
    assert code == 0 and json.loads(out)["runs"] == 24 and (tmp_path / "page.html").stat().st_size > 50_000
    code, out, _ = report("diff", runs, runs, "--where-a", "n_mels=96", "--where-b", "n_mels=48", "--bootstrap", "0")
    assert code == 0 and "n_mels" in out and "4 different configurations" in out
    code, out, _ = report("diff", f"{runs}/vgg-cnn-0000/seed0", f"{runs}/vgg-cnn-0000/seed1", "--json")
    assert code == 0 and json.loads(out)["settings"]["seed"] == {"a": [0], "b": [1]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["table", "nowhere"], "there is no such folder of runs [nowhere]"),
        (["table", "RUNS", "--by", "mels"], "runs have no column 'mels'"),
        (["table", "RUNS", "--where", "n_mels=7"], "none of 24 runs meets the conditions"),
        (["table", "RUNS/half"], "no finished run was found"),
        (["table"], "Missing argument 'RUNS...'"),
        (["table", "RUNS", "--format", "xml"], "'xml' is not one of"),
        (["query", "RUNS"], "no question was asked"),
        (["query", "RUNS", "--minimise", "bytes", "--budget", "1GB"], "--minimise and --budget are two questions"),
        (["query", "RUNS", "--budget", "1GB", "--tracks", "9", "--margin", "0.1"], "--margin belongs to --good-enough"),
        (["query", "RUNS", "--good-enough", "--margin", "0.000001"], "is known to be within 0.0001 points of the best"),
        (["query", "RUNS", "--budget", "1GB"], "--budget needs the size of the collection"),
        (["query", "RUNS", "--sql", "DROP TABLE runs"], "only one SELECT can be run"),
        (["query", "RUNS", "--minimise", "bytes", "--min", "0.9"], "'0.9' is not NAME=NUMBER [--min]"),
        (["pareto", "RUNS", "--y", "roc"], "the summary has no metric 'roc'"),
        (["plot", "RUNS", "-o", "x.gif"], "cannot draw '.gif'"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_1(report: Report, runs: str, args: list[str], message: str) -> None:
    code, out, err = report(*[word.replace("RUNS", runs) for word in args])
    assert code == 1 and message in err and "Traceback" not in err and out == ""


def test_each_command_has_help_with_an_example(report: Report) -> None:
    for name in ("table", "query", "pareto", "plot", "html", "diff"):
        code, out, _ = report(name, "--help")
        assert code == 0 and f"featstore report {name} " in out and "Example" in out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from featstore_cli.report import report\n"
        "assert not {'pandas', 'matplotlib', 'duckdb', 'scipy', 'torch'} & set(sys.modules), sys.modules"
    )
    env: dict[str, Any] = {**os.environ}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=60)
