"""Files that appear whole or not at all, and may be read by whom the user lets read."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from featstore.atomic import atomic_path, canonical_json, write_bytes
from featstore.errors import StoreError


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_users_mask_decides_who_may_read(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "plain", b"x")
        with atomic_path(tmp_path / "weights.safetensors") as part:
            save_file({"w": np.zeros(3, np.float32)}, part)  # makes a file of its own, for its owner alone
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as part:
        part.write_bytes(b"ne")
        raise RuntimeError("half way")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_what_is_no_file_stays_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, what in (("pipe", "a device or a pipe"), ("folder", "a folder")):
        with pytest.raises(StoreError, match=rf"cannot write: this is {what} \[.*{name}\]\. Name a file"):
            write_bytes(tmp_path / name, b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_canonical_json_has_the_layout_of_the_standard_library() -> None:
    values = [
        {"b": [1, 2.5, None, True, "a,\n b"], "a": {"é": [], "d": {}, "c": [[1], {"x": (1, "q")}]}},
        {"numbers": {3: [1], 1: {"deep": [2]}}, "tiny": 5e-324, "big": 10**30},
        [],
        "alone",
        [[[]], [{}], [""]],
    ]
    for value in values:
        expected = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        assert canonical_json(value) == expected.encode()
    for bad in ({"a": [float("nan")]}, [1.0, float("inf")]):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json(bad)
