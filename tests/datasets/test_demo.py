"""Making the built-in music: whole files, nothing twice, nothing lost to a kill."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

pytest.importorskip("music21")
pytest.importorskip("symusic")

from featstore.datasets import TrackTable, check_table, index
from featstore.datasets.demo import NOTICE, STYLES, TAGS, build, build_demo
from featstore.datasets.demo.adapter import default_root
from featstore.datasets.demo.arrange import Clip
from featstore.datasets.demo.build import ClipRecord
from featstore.datasets.demo.render import Loudness
from featstore.datasets.demo.sizes import ClipChoice
from featstore.errors import ConfigError, DatasetError
from featstore_cli.datasets import datasets

OPTIONS = {"size": 1, "format": "flac", "jobs": 1}


def miniature(root: Path, tone: object) -> Path:
    """The smallest build; the adapter makes it."""
    return root


ONE = OPTIONS


def hashes(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.flac")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of one clip a style."""
    root = tmp_path_factory.mktemp("demo")
    build_demo(root, **ONE)
    return root


def test_one_clip_a_style(made: Path) -> None:
    records = build_demo(made, **ONE)
    assert [each.style for each in records] == list(STYLES)
    assert len({each.identity for each in records}) == len(set(hashes(made).values())) == 12
    for each in records:
        info = soundfile.info(made / "flac-16000-mono" / each.file)
        assert (info.samplerate, info.channels, info.frames) == (16_000, 1, 465_600)
        assert each.style in each.labels and set(each.labels) <= set(TAGS)
        assert each.silent_share <= 0.3 and each.peak <= 0.98
    assert (made / "NOTICE.txt").read_text() == NOTICE + "\n"


def test_nothing_is_made_twice_and_what_is_lost_is_made_again(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashes(made)
    folder = made / "flac-16000-mono"
    gone = next(folder.glob("reel/*.flac"))
    short = next(folder.glob("chorale/*.flac"))
    gone.unlink()
    short.write_bytes(short.read_bytes()[:1000])
    with open(folder / "clips.jsonl", "a") as file:
        file.write('{"name": "torn')
    calls: list[str] = []
    make_work = build._make_work
    monkeypatch.setattr(
        build, "_make_work", lambda clips, *rest: calls.append(clips[0].name) or make_work(clips, *rest)
    )
    build_demo(made, **ONE)
    assert sorted(calls) == sorted([gone.stem, short.stem])
    assert hashes(made) == before
    build_demo(made, **ONE)
    assert len(calls) == 2


@pytest.mark.slow
def test_two_builds_in_two_orders_have_equal_bytes(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_work = build._make_work
    order: list[str] = []

    def last_first(missing: list[ClipChoice], settings: build.Settings, root: Path, jobs: int) -> Iterator[ClipRecord]:
        tasks = sorted(missing, key=lambda each: (each.entry.notes, each.name))  # _make takes the longest first
        order.extend(each.name for each in tasks)
        for each in tasks:
            yield from build._kept(make_work([each], settings, root), root / settings.folder)

    monkeypatch.setattr(build, "_make", last_first)
    build_demo(tmp_path, **ONE)
    assert len(order) == 12 and hashes(tmp_path) == hashes(made)


def test_silent_clips_make_room_for_the_next(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "STYLES", ("reel",))
    [first] = build_demo(tmp_path / "plain", **ONE)
    real = build.render

    def render(clip: Clip, **settings: int) -> tuple[np.ndarray, Loudness]:
        audio, loudness = real(clip, **settings)
        return audio, Loudness(-999.0, 0.0, 1.0) if clip.identity == first.identity else loudness

    monkeypatch.setattr(build, "render", render)
    [second] = build_demo(tmp_path / "silent", **ONE)
    assert second.name != first.name and second.split == first.split == "train"
    lines = [json.loads(line) for line in (tmp_path / "silent/flac-16000-mono/clips.jsonl").read_text().splitlines()]
    assert {line["name"]: bool(line["file"]) for line in lines} == {first.name: False, second.name: True}
    monkeypatch.setattr(build, "_make", lambda *rest: pytest.fail("made again"))
    assert build_demo(tmp_path / "silent", **ONE) == [second]


@pytest.mark.slow
def test_track_table(made: Path, tmp_path: Path) -> None:
    table = index("demo", made, **ONE)
    frame = table.frame
    assert table.info.task == "multi_label" and table.info.classes == TAGS and "GPL" in table.info.notes
    assert len(frame) == 12 and frame["split"].tolist() == ["train"] * 12
    assert frame["style"].tolist() == list(STYLES) and frame["group"].notna().all()
    assert all(os.path.isfile(path) for path in frame["path"])
    assert [each.kind for each in check_table(table) if each.severity == "error"] == []
    style = index("demo", made, **ONE, label_column="style")
    assert style.info.task == "single_label" and set(style.info.classes) == set(STYLES)


def test_command(made: Path, tmp_path: Path) -> None:
    options = [f"--set={name}={value}" for name, value in ONE.items() if name != "jobs"]
    arguments = ["index", "demo", str(made), "-o", str(tmp_path / "t.parquet"), "-j", "1", "--json", *options]
    result = CliRunner().invoke(datasets, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and NOTICE in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["tracks"], summary["classes"], summary["broken"]) == (12, 47, 0)
    frame = TrackTable.read(tmp_path / "t.parquet").frame
    assert frame["duration_s"].tolist() == [29.1] * 12 and frame["source_sample_rate"].tolist() == [16_000] * 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_rate": 8000}, "sample_rate=8000 is not offered.*Use 16000, 22050"),
        ({"channels": 3}, "channels=3 is not offered.*Use 1, 2"),
        ({"format": "wma"}, "format='wma' is not offered.*Use mp3, flac"),
        ({"size": "huge"}, "size 'huge' does not exist"),
    ],
)
def test_settings_that_are_not_offered(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_demo(tmp_path, **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_root() == Path("/cache/featstore/demo")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache/featstore/demo"


def test_forgotten_parts_are_removed(made: Path) -> None:
    [folder] = made.glob("flac-*")
    for name, age in (("old", 2 * 86400), ("new", 10)):
        path = folder / f"reel/.{name}.flac.1-ab.part"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    build_demo(made, **ONE)
    [left] = folder.rglob(".*.part")
    assert left.name == ".new.flac.1-ab.part"
    left.unlink()


SCRIPT = """
import sys
from featstore.datasets.demo import build_demo
if __name__ == "__main__":
    build_demo(sys.argv[1], size=1, format="flac", jobs=2)
"""


@pytest.mark.slow
def test_killed_and_run_again(made: Path, tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(SCRIPT)
    root = tmp_path / "set"
    for _ in range(2):
        process = subprocess.Popen([sys.executable, script, root], start_new_session=True)
        found = len(list(root.rglob("*.flac")))
        deadline = time.monotonic() + 60
        while len(list(root.rglob("*.flac"))) < found + 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)  # only the parent: its workers must end by themselves
        process.wait()
        for path in root.rglob("*.flac"):
            assert soundfile.info(path).frames == 465_600
    deadline = time.monotonic() + 20
    while _members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _members(process.pid)
    subprocess.run([sys.executable, script, root], check=True)
    assert hashes(root) == hashes(made)


def _members(group: int) -> list[str]:
    """Processes of a process group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(path.parent.name)
    return found


@pytest.mark.slow
def test_a_worker_that_dies_is_reported(tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, script, tmp_path / "set"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (children := _children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(int(children[-1]), signal.SIGKILL)
    _, text = process.communicate(timeout=60)
    assert DatasetError.__name__ in text and "a worker process died" in text and "Run again" in text


def _children(parent: int) -> list[str]:
    """Workers of a process: its children that were spawned to compute."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and "spawn_main" in command:
            found.append(path.parent.name)
    return found
