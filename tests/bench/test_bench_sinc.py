from __future__ import annotations

import json

import pytest

from tests.bench.bench_sinc import main


def test_both_forms_are_timed_and_agree(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--lengths", "51", "301", "--filters", "3", "--clips", "2", "--n-samples", "2000", "--turns", "1"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["length"] for line in lines] == [51, 301]
    for line in lines:
        assert line["relative_difference"] < 1e-5
        assert line["forward"]["ratio"] > 0 and line["forward and backward"]["plain_s"] > 0
