"""``featstore doctor``: what an extra needs is what the package's own metadata says."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

from featstore_cli.main import main


def test_extras_follow_the_metadata(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["numpy>=1", 'duckdb>=1; extra == "report"', "not-installed<2,>1; extra == 'report'", 'x; extra == "test"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines if name == "featstore" else [])
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--json"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    assert json.loads(out)["extras"] == {"report": {"duckdb": True, "not-installed": False}}
    with pytest.raises(SystemExit):
        main(["doctor"])
    assert "lacks not-installed: pip install 'featstore[report]'" in capsys.readouterr().out
