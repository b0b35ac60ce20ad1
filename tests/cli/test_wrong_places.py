"""What the system says of a path that no reader or writer has a sentence for is one line, too."""

from __future__ import annotations

import errno
import os

import pytest

from featstore_cli import main as command


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize("words", [["tag", "run", "--threshold"], ["report", "pareto", ".", "--margin"]])
def test_numbers_are_finite(words: list[str], value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([*words, value])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert f"Invalid value for '{words[-1]}'" in said and ("not a finite number" in said or "not in the range" in said)


def test_a_refusal_of_the_system_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(**_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/locked/store.zarr")

    monkeypatch.setattr(command.cli, "main", refuses)
    with pytest.raises(SystemExit) as ended:
        command.main(["doctor"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "error: Permission denied [/locked/store.zarr]. Check the path, its permissions and the disk\n"
    )
