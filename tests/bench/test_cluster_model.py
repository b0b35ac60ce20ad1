"""The model of a shared file system: its closed form against its simulation, and what is counted of an extraction."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.bench_audio_common import make_clips
from tests.bench.cluster_model import Cost, FileSystem, bound, measure, report, saturation, simulate

SYSTEMS = {
    "bandwidth": FileSystem(bandwidth=1e9, metadata_rate=1e5),
    "metadata": FileSystem(bandwidth=1e12, metadata_rate=1000),
}
COST = Cost(tracks=64, cpu_s=1.0, size_bytes=50e6, operations=60)


@pytest.mark.parametrize("limit", SYSTEMS)
def test_saturation_is_where_the_two_bounds_meet(limit: str) -> None:
    system = SYSTEMS[limit]
    workers = saturation(COST, system)
    metadata, data = system.demands(COST)
    assert workers == pytest.approx((1.0 + metadata + data) / max(metadata, data))
    assert bound(COST, system, round(2 * workers)) == bound(COST, system, round(4 * workers))
    assert report(COST, system)["limit"] == limit


@pytest.mark.parametrize("limit", SYSTEMS)
def test_the_simulation_keeps_below_the_bounds_and_reaches_them(limit: str) -> None:
    system = SYSTEMS[limit]
    workers = saturation(COST, system)
    for share, reached in ((0.25, 0.95), (1.0, 0.8), (3.0, 0.99)):
        number = max(1, round(share * workers))
        found, most = simulate(COST, system, number, shards=60), bound(COST, system, number)
        assert reached * most < found < 1.02 * most, (limit, number)


def test_one_worker_waits_for_nobody() -> None:
    system = SYSTEMS["bandwidth"]
    alone = COST.tracks / (COST.cpu_s + sum(system.demands(COST)))
    assert simulate(COST, system, 1) == pytest.approx(alone, rel=0.02)


def test_a_shard_is_counted(tmp_path: Path) -> None:
    clips = make_clips(tmp_path / "clips", "16 kHz mono mp3", 2, 1.5)
    cost, calls = measure(tmp_path, "mel(n_mels=8,scale=db)@uint8", clips, shard_tracks=16)
    written = cost.size_bytes / 16 - sum(clip.stat().st_size for clip in clips) / 2
    assert 8 * 90 < written < 1 << 14  # bands times frames and what fills their chunk up, with a share of the index
    # data, frame counts and record: each is flushed, gets its name, and its folder is flushed; then notes of the run
    assert 3 <= calls["replace"] <= 6
    assert 6 <= calls["fsync"] <= 12
    assert cost.cpu_s > 0
