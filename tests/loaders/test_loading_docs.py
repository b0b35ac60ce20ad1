"""The Python of docs/loading.md, run from top to bottom on a small store."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.loaders.stores import write_store

PAGE = Path(__file__).parents[2] / "docs" / "loading.md"


@pytest.mark.slow
def test_every_block_runs(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {f"t{i:02d}": rng.uniform(1e-6, 10, (96, 800 + i)).astype(np.float32) for i in range(40)}
    labels = [["rock"], ["jazz", "classical"]] * 20
    write_store(tmp_path / "store.zarr", arrays, [("mel(sample_rate=16000,n_mels=96)", "float32")], labels=labels)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(names["rest"]) == 2 and set(names["batch"]) == {"mel", "target", "index", "start"}
