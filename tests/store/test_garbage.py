"""Leftovers of the dead go, what belongs to the living stays."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from featstore.atomic import atomic_path, writer_of
from featstore.owner import Owner, process_lives
from featstore.store.garbage import collect_garbage, swept
from featstore.store.location import open_location
from featstore.testing.audio import make_collection

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


def test_a_container_of_the_same_host_name_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = open_location(tmp_path / "s")
    here = Owner.this_process()
    other = replace(here, machine="00000000f0000000", pid=1 << 21, started=1.0)  # no such process in this container
    folder = location.staging(f"{other.label}-0000")
    (folder / "k.0.0").write_bytes(b"half")
    os.utime(folder, (1, 1))
    lease = {"host": other.host, "machine": other.machine, "pid": other.pid, "started": other.started}
    location.write("leases/k/0.json", json.dumps(lease).encode())
    assert Owner.from_label(other.label) == other and not other.is_local and here.is_local
    assert collect_garbage(location) == [] and (folder / "k.0.0").exists()
    part = tmp_path / "s" / ".x.00000000-999999-0000.part"
    part.write_bytes(b"half")
    assert collect_garbage(location) == [] and part.exists(), "another system's process may be alive"
    location.remove("leases/k/0.json")
    assert f"staging/{folder.name}" in collect_garbage(location) and not (tmp_path / "s" / "staging").exists()


def test_a_killed_writer_that_nobody_waits_for_is_gone(tmp_path: Path) -> None:
    location = open_location(tmp_path / "s")
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "s" / "x")])
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and stays in the table of processes
    assert not process_lives(writer.pid)
    assert process_lives(os.getpid()) and not process_lives(os.getpid(), started=1.0)
    assert len(collect_garbage(location)) == 1 and not list((tmp_path / "s").glob(".*"))
    writer.wait()


def test_parts_of_two_systems_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_path(tmp_path / "x") as part:
        assert writer_of(part.name) == os.getpid()
        monkeypatch.setattr("featstore.atomic.this_machine", lambda: "another")
        assert writer_of(part.name) is None


def test_nothing_of_a_store_in_memory_stays_on_the_disk() -> None:
    location = open_location("memory://garbage")
    location.staging(Owner.this_process().label).rmdir()
    assert collect_garbage(location) == [] and not location.staging_folder.exists()


def test_what_the_dead_staged_goes_before_some_writing_and_after_it_however_it_ends(tmp_path: Path) -> None:
    location = open_location(tmp_path / "s")

    def leave() -> Path:
        dead = replace(Owner.this_process(), pid=1 << 21, started=1.0)
        staged = location.staging(f"{dead.label}-0000") / "k.0.0"
        staged.write_bytes(b"half")
        return staged

    earlier = leave()
    with pytest.raises(OSError, match="full"), swept(location):
        assert not earlier.exists()
        left = leave()
        raise OSError("the disk is full")
    assert not left.exists() and not location.staging_folder.exists()
    with swept(location):
        left = leave()
    assert not left.exists()


@pytest.mark.slow
def test_an_extraction_that_a_full_disk_ends_leaves_nothing_staged(tmp_path: Path) -> None:
    music = make_collection(tmp_path / "m", n_tracks=8, seconds=(20.0, 20.5))
    words = ["extract", music, "-f", "mel(n_mels=96)", "-s", tmp_path / "s.zarr", "-j", "2", "--shard-tracks", "2"]
    limited = "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))\n"
    limited += "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "from featstore_cli.main import main\nmain(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", limited, *map(str, words)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "s.zarr" / "staging").exists()
