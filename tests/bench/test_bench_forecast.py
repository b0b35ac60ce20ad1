"""The benchmark of the forecast runs, with tiny inputs."""

import pytest

from featstore.workflows.indexing import index_tracks
from tests.bench.bench_audio_common import make_clips
from tests.bench.bench_forecast import measure


@pytest.mark.slow
def test_bench_forecast(tmp_path):
    make_clips(tmp_path / "music", "16 kHz mono mp3", 3, seconds=1.2)
    tracks = index_tracks("folder", tmp_path / "music")
    found = measure(tracks, ["mel(n_mels=16)"], 1, 1, tmp_path)
    assert found["files_ratio"] == 1 and abs(found["bytes_ratio"] - 1) < 0.2 and found["seconds_ratio"] > 0
    assert not (tmp_path / "s.zarr").exists()
