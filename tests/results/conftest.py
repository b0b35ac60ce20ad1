from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from featstore.results import RunSet, read_results
from featstore.testing.runs import mel_grid, write_runs

RESULT: dict[str, Any] = {
    "model": "vgg-cnn",
    "feature": "mel(n_mels=96,scale=db)@float32",
    "dataset": "demo",
    "seed": 0,
    "fold": None,
    "scores": {"test": {"roc_auc": 0.8, "pr_auc": 0.5}},
    "parameters": 1000,
    "gmacs": 1.5,
    "bytes": {"alone": 4000, "added": 0, "audio": 8000},
    "seconds": {"extract": 10.0, "train": 20.0, "inference": 1.0},
    "store": {"path": "store.zarr", "fingerprint": "abc"},
    "config_hash": "f00",
    "duration_s": 7200.0,
    "n_stored": 100,
}


@pytest.fixture
def result() -> dict[str, Any]:
    """A complete result; a fresh copy each time."""
    return copy.deepcopy(RESULT)


@pytest.fixture(scope="session")
def grid_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve configurations of three seeds with predictions of 150 tracks."""
    root = tmp_path_factory.mktemp("grid")
    grid = mel_grid(n_mels=[96, 48, 8], hop_multiple=[1, 2], encoding=["float32", "uint8"])
    write_runs(root, grid, predictions=150, spread=0.001)
    return root


@pytest.fixture(scope="session")
def grid(grid_path: Path) -> RunSet:
    return read_results(grid_path)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    """The same configurations without predictions: scores with a known, small spread."""
    root = tmp_path_factory.mktemp("plain")
    write_runs(root, mel_grid(n_mels=[96, 48, 8], hop_multiple=[1, 2], encoding=["float32", "uint8"]), spread=0.001)
    return read_results(root)
