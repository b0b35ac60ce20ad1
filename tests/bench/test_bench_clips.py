"""The benchmark of clips runs, and both ways give clips of the same audio."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench.bench_audio_common import make_clips
from tests.bench.bench_clips import WAVEFORMS, by_decoding, from_store, main, make_store


@pytest.mark.slow
def test_both_ways_cut_the_same_clips(tmp_path: Path) -> None:
    paths = make_clips(tmp_path, "16 kHz mono mp3", 8, seconds=3.4)
    store = make_store(paths, tmp_path / "store.zarr", WAVEFORMS[2:3])
    whole = [store[WAVEFORMS[2]][str(track)] for track in store.tracks.index]
    for way in (from_store(store, 24_000), by_decoding(paths, 24_000)):
        [clips] = list(way(0))
        assert clips.shape == (32, 1, 24_000)
        for clip in clips[:, 0].numpy()[::9]:
            parts = (each[start : start + 24_000] for each in whole for start in range(0, 32_000, 8000))
            gaps = [np.abs(clip - part).max() for part in parts if len(part) == len(clip)]
            assert min(gaps) < 1e-4


@pytest.mark.slow
def test_prints_ratios_and_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tracks", "8", "--turns", "1", "--clip-s", "0.5", "--filters", "2", "--columns", "32", "--width", "0.125"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    clips = [line for line in lines if line["bench"] == "clips"]
    assert [line["source_rate"] for line in clips] == [16_000, 22_050]
    assert all(line["training_steps_per_s"]["by_clock"]["ratio"] > 0 for line in clips)
    sizes = {line["feature"]: line["bytes_an_hour"] for line in lines if line["bench"] == "bytes"}
    assert len(sizes) == 8 and max(sizes.values()) / min(sizes.values()) > 4
