"""Control characters of file names and messages are spelled out before they reach the terminal."""

import io
import logging
import sys
from pathlib import Path

import pytest

from featstore_cli.main import main
from featstore_cli.terminal import WarnedOnce, printable, printable_streams


def test_control_characters_are_spelled_out() -> None:
    assert printable("a\x1b[2Jb\x9b1mc\x7f\u202ed") == r"a\x1b[2Jb\x9b1mc\x7f\u202ed"
    assert printable("tab\tline\nüñ☃ 漢\r") == "tab\tline\nüñ☃ 漢\r"


def test_streams_are_given_back(capsys: pytest.CaptureFixture) -> None:
    before = sys.stdout, sys.stderr
    with printable_streams():
        print("\x1b]0;title\x07")
        sys.stderr.write("\x1b[31m")
        assert sys.stdout.isatty() is False
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("\\x1b]0;title\\x07\n", "\\x1b[31m")


def test_a_warning_is_told_once() -> None:
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.Logger("featstore.training")
    handler.addFilter(WarnedOnce())
    logger.addHandler(handler)
    for name in ("a", "b", "a"):
        logger.warning("%s is empty", name)
        logger.error("%s failed", name)
    assert stream.getvalue().split("\n")[:-1] == ["a is empty", "a failed", "b is empty", "b failed", "a failed"]


def test_an_error_that_names_an_odd_path(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["store", "info", str(tmp_path / "\x07red.zarr")])
    shown = capsys.readouterr()
    assert "there is no store" in shown.err and "\x07" not in shown.err and r"\x07red.zarr" in shown.err
