"""What the system says of a path that no reader or writer has a sentence for is one line, too."""

from __future__ import annotations

import errno
import os

import pytest

from featstore_cli import main as command


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
