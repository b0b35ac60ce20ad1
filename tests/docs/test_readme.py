"""README.md does what it says: its shell and Python blocks run in order, in one folder, on a small collection."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from featstore.testing.audio import make_collection

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# install commands: what CI itself runs before this test, and the quickstart, which runs here with --smoke
CONSOLE = [
    "pip install -c constraints.txt '.[demo]' && featstore quickstart",
    "pip install -c constraints.txt -e '.[test]' && python -m pytest",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("readme")
    make_collection(path / "music", n_tracks=24, seconds=(1.6, 3.0))
    return path


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall(README.read_text(encoding="utf-8"))


def test_every_block_is_of_a_known_kind() -> None:
    found = blocks()
    assert {kind for kind, _ in found} == {"console", "bash", "python"}
    assert [text.strip() for kind, text in found if kind == "console"] == CONSOLE
    assert CONSOLE[1].split(" && ")[0] in (README.parent / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(2400)  # two quickstarts and twenty commands, each limited below
def test_the_tour_runs(folder: Path) -> None:
    """All commands and programs, in the order of the page."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    env = {"PATH": path, "HOME": str(folder), "FEATSTORE_PROGRESS": "0"}
    ran = 0
    for kind, text in blocks():
        if kind == "console":
            continue
        script = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
        result = subprocess.run(script, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, f"{text}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
        ran += 1
    assert ran >= 6
    for made in ("mel.zarr/manifest.json", "report.html", "smoke/report/pareto.png", "smoke/report/pareto.svg"):
        assert (folder / made).stat().st_size > 1000 or made.endswith("json")
    assert (folder / "smoke" / "report" / "index.html").is_file()


def test_pages_named_in_the_readme_exist() -> None:
    for target in re.findall(r"\]\((docs/[^)]*)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
