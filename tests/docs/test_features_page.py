"""docs/features.md: its lists are those of the code, and its commands run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from featstore.testing.audio import make_collection
from tests.docs.features_page import PAGE, PART, PARTS, renewed

BLOCK = re.compile(r"^```(bash|python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_generated_lists_are_fresh() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {found[2] for found in PART.finditer(text)} == set(PARTS)
    assert renewed(text) == text, "run: python -m tests.docs.features_page"


def test_figures_and_links_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / target).exists(), target
    heads = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)}
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in heads, anchor


@pytest.mark.slow
def test_commands_run(tmp_path: Path) -> None:
    make_collection(tmp_path / "music", n_tracks=4, seconds=(3.2, 5.0))
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    env = {"PATH": path, "HOME": str(tmp_path), "FEATSTORE_PROGRESS": "0"}
    ran = 0
    for kind, text in blocks:
        if kind == "yaml":
            (tmp_path / "grid.yaml").write_text(text)
            continue
        script = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
        result = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, f"{text}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
        ran += 1
    assert ran == 5
    assert (tmp_path / "heard.wav").stat().st_size > 10000 and (tmp_path / "plan.svg").exists()
