"""Audio files that kill, hang or bloat whoever decodes them: real processes meet real ends.

The trap is set by a ``sitecustomize`` module on the path of every process of a run: reading a file whose name starts
with ``killer``, ``hanger`` or ``eater`` does to the process what such a file would do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TRAP = """
import os, signal, time
import soundfile

plain = soundfile.SoundFile.read


def read(self, *args, **settings):
    name = os.path.basename(str(getattr(self.name, "name", self.name)))  # of a file in memory, too
    if name.startswith("killer"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("crasher"):
        import ctypes
        ctypes.string_at(0)
    if name.startswith("hanger"):
        time.sleep(3600)
    if name.startswith("stopper"):
        import ctypes
        ctypes.PyDLL(None).sleep(3600)  # keeps Python's lock: no thread of the process runs any more
    if name.startswith("eater"):
        held = []
        while True:
            held.append(bytearray(b"x") * (64 << 20))
            time.sleep(0.02)
    if name.startswith("slow") or "SLOW_ALL" in os.environ:
        time.sleep(float(os.environ.get("SLOW_S", "1")))
    return plain(self, *args, **settings)


soundfile.SoundFile.read = read
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment of a process with the trap set."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(TRAP)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"} | more


def extract_command(tracks: Path, store: Path, *arguments: str) -> list[str]:
    """Command line of an extraction of one small feature."""
    feature = "mel(n_mels=16,scale=db)"
    words = ["extract", str(tracks), "-s", str(store), "-f", feature, *arguments]
    return [sys.executable, "-m", "featstore_cli.main", *words]
