"""Copies without phases: magnitudes stay, samples do not; the same copies for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featstore.datasets import TableInfo, TrackTable
from featstore.workflows.scramble import scramble_phases, scramble_tracks
from featstore_cli.main import main

RATE = 22050


def sound(seconds: float = 1.5) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    chirp = 0.4 * np.sin(2 * np.pi * (200 + 300 * time) * time) * np.exp(-2 * (time % 0.5))
    return chirp.astype(np.float32)


def magnitudes(signal: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(signal, 1024)[::256] * np.hanning(1024)
    return np.abs(np.fft.rfft(frames, axis=-1))


def test_magnitudes_stay_and_samples_do_not() -> None:
    signal = sound()
    found = scramble_phases(signal, rng=np.random.default_rng(0))
    assert found.shape == signal.shape and found.dtype == np.float32
    before, after = magnitudes(signal), magnitudes(found)
    assert np.linalg.norm(after - before) < 0.15 * np.linalg.norm(before)
    assert abs(np.corrcoef(signal, found)[0, 1]) < 0.5
    other = scramble_phases(signal, rng=np.random.default_rng(1))
    assert abs(np.corrcoef(other, found)[0, 1]) < 0.5
    assert not scramble_phases(np.zeros(3000, np.float32), rng=np.random.default_rng(0)).any()
    assert len(scramble_phases(np.ones(5, np.float32), rng=np.random.default_rng(0))) == 5


@pytest.fixture
def table(tmp_path: Path) -> TrackTable:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([sound(0.4)] * 2, axis=1), RATE)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    names = ["a", "b", "broken"]
    paths = [str(tmp_path / f"{name}.wav") for name in names]
    frame = pd.DataFrame({"track_id": [f"x/{name}" for name in names], "path": paths, "labels": [["l"]] * 3})
    return TrackTable(frame, TableInfo(name="test"))


def test_a_table_of_copies(table: TrackTable, tmp_path: Path) -> None:
    found = scramble_tracks(table, tmp_path / "out", jobs=1, iterations=4)
    assert list(found.failed) == ["x/broken"] and list(found.table.frame["track_id"]) == ["x/a", "x/b"]
    first, second = (soundfile.read(path)[0] for path in found.table.frame["path"])
    assert first.shape == sound(0.4).shape and not np.allclose(first, second, atol=1e-3)  # phases go by the track
    times = [Path(path).stat().st_mtime_ns for path in found.table.frame["path"]]
    again = scramble_tracks(table, tmp_path / "out", jobs=1, iterations=4)
    assert [Path(path).stat().st_mtime_ns for path in again.table.frame["path"]] == times
    same = scramble_tracks(table, tmp_path / "same", jobs=1, iterations=4)
    assert np.array_equal(soundfile.read(same.table.frame["path"][0])[0], first)


def test_the_command_says_what_failed(table: TrackTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.write(tmp_path / "tracks.parquet")
    with pytest.raises(SystemExit) as ended:
        main(["datasets", "scramble", str(tmp_path / "tracks.parquet"), "-o", str(tmp_path / "copies"), "-j", "2"])
    said = capsys.readouterr()
    assert ended.value.code == 2 and "2 copies" in said.out and "x/broken" in said.err
    assert len(TrackTable.read(tmp_path / "copies" / "tracks.parquet").frame) == 2
