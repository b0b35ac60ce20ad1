"""What the commands tell of tokens: seconds for a minute of music, near ties."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore_cli.main import main
from tests.models.jukebox_files import random_level, small_config, write_container


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for name in "ab":
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, 40_000), 44100, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def feature(tmp_path_factory) -> str:
    levels = [random_level(small_config(level), level) for level in range(3)]
    levels[2].codebook[20:] = levels[2].codebook[:20]  # every token is a near tie
    weights = write_container("original", levels, tmp_path_factory.mktemp("weights"))
    return f"vq_tokens(codec=jukebox,level=2,weights={weights})"


def told(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    try:
        main([str(arg) for arg in args])
    except SystemExit as ended:
        assert not ended.code
    return capsys.readouterr().out


@pytest.mark.slow
def test_an_extraction_tells_the_seconds_of_a_minute(music, feature, tmp_path, capsys):
    words = ("--scheduler", "sync", "-s", tmp_path / "s.zarr")
    first = told(capsys, "extract", music, "-f", feature, *words).splitlines()[0]
    assert "s of a worker for a minute of music" in first
    again = json.loads(told(capsys, "extract", music, "-f", feature, "--json", *words))
    assert again["seconds_per_minute"] is None and again["shards_done"] == 0, "nothing was computed"
    other = json.loads(told(capsys, "extract", music, "-f", f"{feature}@uint16", "--json", *words))
    assert other["seconds_per_minute"] == pytest.approx(60 * other["worker_seconds"] / other["audio_s"], abs=0.2)
    assert "a minute of music" not in told(capsys, "extract", music, "-f", "mel(n_mels=20)", *words)


def test_near_ties_are_listed(music, feature, tmp_path, capsys):
    told(capsys, "extract", music, "-f", feature, "-f", "mel(n_mels=20)", "--scheduler", "sync", "-s", tmp_path / "s")
    rows = json.loads(told(capsys, "store", "info", tmp_path / "s", "--json"))["features"]
    found = {row["name"].partition(".")[0]: row["near_ties"] for row in rows}
    assert found == {"vq_tokens": 2 * (40_000 // 128), "mel": None}
    table = told(capsys, "store", "info", tmp_path / "s", "--wide").splitlines()
    assert [f"exact, {2 * (40_000 // 128)} near ties" in line for line in table if "vq_tokens" in line] == [True]
    assert not any("near ties" in line for line in table if "mel" in line)
