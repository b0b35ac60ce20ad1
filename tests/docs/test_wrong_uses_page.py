"""docs/wrong_uses.md: a part of its commands is run again, and they say what the page has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.wrong_uses import HEAD, PAGE, USES, prepare, run, transcript


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wrong")
    prepare(path)
    return path


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FEATSTORE_PROGRESS", "0")


def test_the_page_has_all_of_them() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(HEAD.strip()) and len(USES) >= 40
    assert [line.removeprefix("$ featstore ") for line in text.splitlines() if line.startswith("$ ")] == USES


def test_messages_are_those_of_the_page(folder: Path) -> None:
    """Every third, and all that concern training: the page is made by the same code."""
    text = PAGE.read_text(encoding="utf-8")
    for use in [*USES[::3], *(use for use in USES[1::3] if use.startswith("train"))]:
        code, said = run(use, folder)
        assert code == 1, use
        assert "Traceback" not in said
        assert transcript([use], folder)[0] in text, f"run: python -m tests.docs.wrong_uses\n{said}"
