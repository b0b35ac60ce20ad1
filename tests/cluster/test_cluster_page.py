"""docs/cluster.md does what it says: its shell blocks run in order, its YAML is read, its table of keys is whole."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from featstore.cluster_file import ClusterConfig, read_cluster
from featstore.testing.audio import make_collection

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if found == kind]


def test_blocks_are_of_known_kinds() -> None:
    """Text blocks need machines that are not here, or show what was printed."""
    kinds = {kind for kind, _ in BLOCK.findall(PAGE.read_text(encoding="utf-8"))}
    assert kinds == {"bash", "yaml", "text"}


def test_the_cluster_file_is_read_and_names_every_key(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    content = yaml.safe_load(text)
    assert set(content) == {field.name for field in dataclasses.fields(ClusterConfig)}
    path = tmp_path / "slurm.yaml"
    path.write_text(text)
    assert read_cluster(path).jobs == 8


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path) -> None:
    make_collection(tmp_path / "music", n_tracks=4, seconds=(0.5, 1.0))
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for text in blocks("bash"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "array.zarr" / "manifest.json").exists()
