"""docs/object_storage.md does what it says, against a real S3 server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from featstore.testing.audio import make_collection, tone
from featstore.testing.s3_server import S3Server

PAGE = Path(__file__).parents[2] / "docs" / "object_storage.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# not run: what the tests' own environment was installed with, and the settings of a server that there is none of
CONSOLE = ["pip install 'featstore[s3]'", "export AWS_ENDPOINT_URL=https://s3.example.org"]


def test_the_kinds_of_blocks_are_known() -> None:
    found = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert {kind for kind, _ in found} == {"console", "bash", "python"}
    assert [text.strip().splitlines()[0] for kind, text in found if kind == "console"] == CONSOLE


@pytest.mark.slow
def test_the_page_runs(s3: S3Server, tmp_path: Path) -> None:
    import soundfile

    make_collection(tmp_path / "music", n_tracks=12, seconds=(1.6, 2.4))
    s3.client().create_bucket(Bucket="music")
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", tone(1.5), 22050)
        s3.replace("s3://music/audio", f"{name}.wav", (tmp_path / f"{name}.wav").read_bytes())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "HOME": str(tmp_path), "FEATSTORE_PROGRESS": "0", "TMPDIR": str(tmp_path)}
    ran = 0
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "console":
            continue
        script = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
        result = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, f"{text}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
        ran += 1
    assert ran == 4
    assert (tmp_path / "run" / "result.json").is_file()
