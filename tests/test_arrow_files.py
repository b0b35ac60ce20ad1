"""Parquet is read from memory of Arrow's own: its threads may outlive the reader, and Python as a process ends."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featstore.arrow_files import arrow_file

PACKAGE = Path(__file__).parent.parent / "featstore"
READERS = ("read_table", "read_parquet", "ParquetFile")


def test_a_file_holds_no_object_of_python(tmp_path: Path) -> None:
    pq.write_table(pa.table({"row": np.arange(9)}), tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    before = sys.getrefcount(content)
    file = arrow_file(content)
    assert sys.getrefcount(content) == before
    assert pq.read_table(file)["row"].to_pylist() == pd.read_parquet(arrow_file(content))["row"].tolist() == [*range(9)]


def test_parquet_is_read_from_such_files_alone() -> None:
    """``pyarrow.OSFile`` is one of Arrow's own files, too."""
    found = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READERS:
                source = ast.unparse(node.args[0])
                assert source.startswith("arrow_file(") or (source == "file" and "with pa.OSFile(" in text), (
                    f"{path}:{node.lineno}: {ast.unparse(node)}"
                )
                found += 1
    assert found >= 5


@pytest.mark.slow
def test_a_process_that_ends_at_once_is_not_aborted(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0]}).to_parquet(tmp_path / "foreign.parquet")
    code = (
        "import sys, torch\nfrom featstore.datasets.table import TrackTable\n"
        "try:\n    TrackTable.read(sys.argv[1])\nexcept ValueError:\n    sys.exit(1)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "foreign.parquet")]
    for _ in range(6):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (1, "")
