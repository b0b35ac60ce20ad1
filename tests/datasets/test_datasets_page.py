"""The commands and the program of docs/datasets.md run as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from featstore.datasets.demo import NOTICE
from featstore_cli.datasets import datasets

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks, except those that carry a reason not to be run."""
    found = re.findall(rf"(<!-- not run: [^>]+ -->\n)?```{language}\n(.*?)```", PAGE, re.DOTALL)
    return [text for reason, text in found if not reason]


@pytest.mark.slow
def test_commands_and_program_run(
    tmp_path: Path, tone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        tone(tmp_path / f"MUSIC/{'ab'[number % 2]}/{number}.wav", hz=200 + 10 * number)
    rows = [f"MUSIC/{'ab'[number % 2]}/{number}.wav,x|y,calm/sad" for number in range(4)]
    (tmp_path / "list.csv").write_text("\n".join(["path,labels,mood", *rows]))
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line) for text in blocks("bash") for line in text.splitlines()]
    assert len(commands) == 8 and len(blocks("python")) == 1
    for words in commands:
        assert words[:2] == ["featstore", "datasets"]
        result = CliRunner().invoke(datasets, words[2:], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    exec(compile(blocks("python")[0], "docs/datasets.md", "exec"), {})
    assert "4 multi_label ('x', 'y')" in capsys.readouterr().out


def test_terms_are_the_notice_of_the_build() -> None:
    quoted = "\n".join(line[2:] for line in PAGE.splitlines() if line.startswith("> "))
    assert quoted == NOTICE
