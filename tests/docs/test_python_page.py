"""docs/python.md: its programs run in order, and its table names every function at the top of the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import featstore
from featstore.testing.audio import make_collection

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


def test_every_function_is_in_the_table() -> None:
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    for name in set(featstore.__all__) - {"__version__", "models", "parse_spec"}:
        assert re.search(rf"`{name}\b", table), name


@pytest.mark.slow
def test_programs_run(tmp_path: Path) -> None:
    make_collection(tmp_path / "music", n_tracks=12, seconds=(1.6, 3.0))
    programs = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(programs) == 4
    script = "\n".join(f"def part_{n}():\n{_indented(text)}" for n, text in enumerate(programs))
    script += '\nif __name__ == "__main__":\n' + "".join(f"    part_{n}()\n" for n in range(len(programs)))
    (tmp_path / "program.py").write_text(script, encoding="utf-8")
    env = os.environ | {"FEATSTORE_PROGRESS": "0", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert "12 tracks computed; 0 failed" in done.stdout
    assert "(12, 48, 47) ('track', 'band', 'frame') float32 12" in done.stdout
    assert "Hz s dB" in done.stdout and "torch.Size([4, 48, 60]) torch.Size([4, 2])" in done.stdout


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
