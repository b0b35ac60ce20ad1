"""The benchmark of docs/speed.md runs, with tiny inputs, and every row says what it compares."""

from __future__ import annotations

import pytest

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
