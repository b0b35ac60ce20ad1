"""Leftovers of the dead go, what belongs to the living stays."""

import os
import subprocess
import sys
from pathlib import Path

from featstore.atomic import atomic_path, writer_of
from featstore.store.garbage import collect_garbage
from featstore.store.location import open_location

KILLED = "import os, sys\nfrom featstore.atomic import atomic_path\nwith atomic_path(sys.argv[1]) as part: os._exit(9)"


def test_half_an_atomic_write_of_a_dead_process_goes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "features" / "x")], check=False)
    (left,) = (tmp_path / "features").iterdir()
    with atomic_path(tmp_path / "features" / "y") as part:
        assert writer_of(part.name) == os.getpid() != writer_of(left.name)
        assert collect_garbage(open_location(tmp_path), dry_run=True) == [f"features/{left.name}"]
        assert left.exists()
        assert collect_garbage(open_location(tmp_path)) == [f"features/{left.name}"]
        assert part.exists() and not left.exists()
    assert (tmp_path / "features" / "y").exists()
