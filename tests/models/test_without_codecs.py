"""What works without the packages of the extra ``codecs``: listings leave out what they cannot build."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("demucs", "transformers"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
from featstore_cli.main import main
main(sys.argv[1:])
"""


def without_codecs(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_recipes_are_listed() -> None:
    done = without_codecs("recipe", "list")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]][:3] == ["atlas", "ferraro2020", "gafx2022"]


@pytest.mark.slow
@pytest.mark.parametrize(("listing", "kept", "absent"), [("list", "musicnn", "gafx-u"), ("encoders", "MTT", "MERT")])
def test_models_that_can_be_built_are_listed(listing: str, kept: str, absent: str) -> None:
    done = without_codecs("models", listing)
    assert done.returncode == 0, done.stderr
    assert kept in done.stdout and absent not in done.stdout
    assert done.stderr.count("left out") == 1 and absent in done.stderr and "featstore[codecs]" in done.stderr
