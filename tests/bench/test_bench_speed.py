"""The benchmark of docs/speed.md runs, with tiny inputs, and every row says what it compares."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from featstore.testing.musicnn_package import write_untrained
from tests.bench.bench_speed import ROWS, SMOKE, Bench

QUICK = ("start", "first_epoch", "training", "million")


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("speed"), SMOKE)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in ROWS])
def test_row(bench: Bench, name: str) -> None:
    records = ROWS[name](bench)
    assert records and all(record["benchmark"] == "speed" and record["row"] and record["machine"] for record in records)
    if name in ("small_set", "two_cores", "one_feature"):
        assert "ratio" in records[0] and records[0]["ratio_is"].count("/") == 1
    if name == "training":
        assert 0 < records[0]["share_outside"] < 1
    if name == "million":
        assert 0 < records[0]["open"]["seconds"] < 60 and records[0]["first batch"]["seconds"] > 0


@pytest.mark.slow
def test_musicnn_beside_a_package(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer's process is asked in turns; a stand-in for the package has no vectors but zeros."""
    package = write_untrained(tmp_path / "musicnn", "mtt-musicnn")
    (package / "__init__.py").touch()
    (package / "extractor.py").write_text("""
import numpy
def extractor(path, model):
    print(path)
    return None, None, {"mean_pool": numpy.zeros((1, 753))}
""")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("tests.bench.bench_musicnn.PEER_PACKAGES", ("numpy",))
    (record,) = ROWS["musicnn"](Bench(bench.folder, SMOKE, sys.executable))
    assert record["ratio_is"] == "its own package / featstore" and record["largest_difference"] > 0
    assert set(record["seconds_a_minute"]) == {"its own package", "featstore"} and record["peer_versions"]["numpy"]
