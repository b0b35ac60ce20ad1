"""The benchmark of memory runs, with a short file."""

import pytest

from tests.bench.bench_memory import long_file, measure


@pytest.mark.slow
def test_bench_memory(tmp_path):
    long_file(tmp_path / "m" / "a.wav", 0.1)
    found = measure(tmp_path / "m", ["mel(n_mels=16)"])
    assert found["audio_s"] == pytest.approx(6) and 0 < found["peak_rss_bytes"] < 2e9
