"""All values of a track come from one version of its file."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner

from featstore.datasets import TrackTable
from featstore.datasets.table import TableInfo
from featstore.errors import ConfigError, MissingDependency, PlanError
from featstore.extract import ExtractOptions, extract
from featstore.extract.report import ExtractReport
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.ledger import read_status
from featstore.store.mixed_versions import mixed_sources
from featstore.store.verify import verify
from featstore.testing.audio import tone
from featstore.workflows.repair import repair

RATE = 16000
OLD, NEW = "mel(n_mels=8)", "mel(n_mels=4)"


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    for k in range(4):
        soundfile.write(folder / f"{k}.wav", tone(0.5, RATE, seed=k), RATE)
    return folder


def run(music: Path, *features: str, **options: object) -> ExtractReport:
    names = sorted(path.name for path in music.glob("*.wav"))
    frame = pd.DataFrame({"track_id": names, "path": [str(music / name) for name in names]})
    settings = ExtractOptions(scheduler="sync", shard_tracks=2, **options)
    return extract(TrackTable(frame, TableInfo(name="m")), expand_features(features), music.parent / "s.zarr", settings)


def replace(path: Path, seconds: float = 0.5) -> None:
    soundfile.write(path, tone(seconds, RATE, seed=99), RATE)


@pytest.mark.parametrize("seconds", [0.5, 0.75], ids=["same size", "other size"])
@pytest.mark.parametrize("features", [(OLD,), (OLD, NEW), (NEW,)])
def test_a_changed_file_is_refused_and_named(music: Path, seconds: float, features: tuple[str, ...]) -> None:
    run(music, OLD)
    replace(music / "2.wav", seconds)
    with pytest.raises(
        PlanError, match=r"1 audio file changed since values were stored: .*2\.wav .*--changed recompute"
    ):
        run(music, *features)
    assert len(open_store(music.parent / "s.zarr").arrays) == 1, "nothing was begun"


def test_recompute_makes_all_features_from_the_new_file(music: Path) -> None:
    run(music, OLD)
    before = open_store(music.parent / "s.zarr")[OLD]["2.wav"]
    replace(music / "2.wav")
    run(music, NEW, changed="recompute")
    store = open_store(music.parent / "s.zarr")
    assert not np.array_equal(store[OLD]["2.wav"], before)
    assert read_status(store)["ok"] == 4
    assert mixed_sources(store) == {}
    assert run(music, OLD, NEW).shards == 0, "nothing has changed since"


def test_keep_leaves_two_versions_and_status_says_so(music: Path) -> None:
    from featstore_cli.main import cli

    run(music, OLD)
    before = open_store(music.parent / "s.zarr")[OLD]["2.wav"]
    replace(music / "2.wav")
    run(music, NEW, changed="keep")
    store = open_store(music.parent / "s.zarr")
    assert np.array_equal(store[OLD]["2.wav"], before) and "2.wav" in store[NEW].track_ids
    told = CliRunner().invoke(cli, ["status", str(music.parent / "s.zarr")]).output
    assert "1 track holds features of two versions of the audio file" in told and "2.wav" in told
    (problem,) = verify(music.parent / "s.zarr")
    assert "1 track holds features of two versions of the audio file" in str(problem) and problem.tracks == ("2.wav",)
    with pytest.raises(PlanError, match=r"2\.wav"):
        run(music, OLD, NEW)
    run(music, NEW, changed="recompute")
    assert verify(music.parent / "s.zarr") == []
    assert "two versions" not in CliRunner().invoke(cli, ["status", str(music.parent / "s.zarr")]).output


def test_repair_brings_all_features_to_the_present_file(music: Path) -> None:
    run(music, OLD)
    replace(music / "2.wav")
    run(music, NEW, changed="keep")
    report = repair(music.parent / "s.zarr", options=ExtractOptions(scheduler="sync"), audio=True)
    assert len(report.found) == 1 and report.left == [] and verify(music.parent / "s.zarr") == []


@pytest.mark.parametrize(
    ("package", "asked", "fields"),
    [("av", "decoder=av", ""), ("essentia", "engine=essentia", ",framing=essentia,window_symmetric=yes")],
)
def test_no_store_is_made_for_a_package_that_is_not_installed(
    package: str, asked: str, fields: str, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=f"{asked} needs the package '{package}'"):
        run(music, f"mel(n_mels=8,{asked}{fields})")
    assert not (music.parent / "s.zarr").exists()


def test_a_copied_collection_is_the_same(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New times alone are no change; files are read once to find out, and not again."""
    from featstore.extract import sources

    run(music, OLD)
    shutil.copytree(music, music.parent / "copy")
    for path in (music.parent / "copy").iterdir():
        os.utime(path)
    read = []
    monkeypatch.setattr(sources, "_now", lambda path, real=sources._now: read.append(path) or real(path))
    shutil.rmtree(music)
    (music.parent / "copy").rename(music)
    assert run(music, OLD).shards == 0 and len(read) == 4
    assert run(music, OLD, NEW).shards == 2 and len(read) == 4


def test_unchanged_files_are_not_read(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.extract import sources

    run(music, OLD)
    monkeypatch.setattr(sources, "_now", lambda path: pytest.fail(f"{path} was read"))
    assert run(music, OLD, NEW).shards == 2


def test_a_missing_file_of_a_finished_track_is_no_change(music: Path) -> None:
    run(music, OLD)
    names = ["0.wav", "1.wav", "2.wav", "3.wav"]
    frame = pd.DataFrame({"track_id": names, "path": [str(music / name) for name in names]})
    shutil.rmtree(music)
    options = ExtractOptions(scheduler="sync")
    report = extract(TrackTable(frame, TableInfo(name="m")), expand_features([OLD]), music.parent / "s.zarr", options)
    assert report.shards == 0


def test_unknown_choice() -> None:
    with pytest.raises(ConfigError, match="changed='no' is unknown"):
        ExtractOptions(changed="no")
