"""Where tests find the published weights of the package ``musicnn``, which cannot be shipped."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["find_musicnn"]

VERSION = "0.1.0"


def find_musicnn(*, download: bool = False) -> tuple[Path | None, str]:
    """Folder or wheel of the package, or None and the reason why there is none.

    It is looked for where the environment variable ``FEATSTORE_MUSICNN`` points, then in a cache in the folder for
    temporary files; ``download`` lets pip fetch the wheel into that cache, once.
    """
    named = os.environ.get("FEATSTORE_MUSICNN")
    if named:
        path = Path(named)
        if path.is_dir() and (wheels := sorted(path.glob("musicnn-*.whl"))):
            path = wheels[-1]
        return (path, "") if path.exists() else (None, f"FEATSTORE_MUSICNN={named} does not exist")
    cache = Path(tempfile.gettempdir()) / f"featstore-musicnn-{os.getuid()}"
    wheels = sorted(cache.glob("musicnn-*.whl"))
    if wheels:
        return wheels[-1], ""
    if not download:
        return None, "the package musicnn is not at hand: set FEATSTORE_MUSICNN to its folder or wheel"
    command = [sys.executable, "-m", "pip", "download", f"musicnn=={VERSION}", "--no-deps", "-d", str(cache)]
    command += ["--quiet", "--retries", "1", "--timeout", "15", "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"pip could not fetch musicnn {VERSION}: {error}"
    wheels = sorted(cache.glob("musicnn-*.whl"))
    if not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return None, f"pip could not fetch musicnn {VERSION}: {reason}"
    return wheels[-1], ""
