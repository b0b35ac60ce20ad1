"""The check for machines with a GPU runs from end to end, with tiny sizes, wherever it is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from tests.gpu_check import PARTS, SMOKE, run


@pytest.mark.slow
def test_every_part_runs_and_says_what_it_ran_on() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu_check", "--smoke"], capture_output=True, text=True, timeout=600, check=True
    )
    found = json.loads(done.stdout)
    assert set(PARTS) <= set(found) and found["left_out"] == []
    on_gpu = torch.cuda.is_available()
    assert ("no CUDA device" in found["device"]) != on_gpu
    assert found["gpu_tests"].get("failed", 0) == 0 and found["gpu_tests"]["passed" if on_gpu else "skipped"] > 0
    assert {(row["configuration"], row["tier"]) for row in found["loader_tiers"]} == {
        (name, tier) for name in ("smallest", "largest") for tier in ("disk", "ram", "gpu")
    }
    assert all(0 <= row["waiting_share"] < 1 and row["samples_per_s"] > 0 for row in found["loader_tiers"])
    assert [row["precision"] for row in found["models"]] == ["float32", "bfloat16"] * len(SMOKE.models)
    assert found["tokens_level_2"]["seconds_a_minute"] > 0 and found["musicnn_vectors"]["seconds_a_minute"] > 0


def test_parts_that_would_begin_too_late_are_named() -> None:
    assert run(SMOKE, budget_s=-1.0)["left_out"] == list(PARTS)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.gpu_check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "no CUDA device was found; --smoke" in done.stderr and done.stdout == ""
