"""The benchmark of scale runs, and says what it must."""

import pytest

from tests.bench.bench_scale import measure


def test_a_point_of_the_curve_without_a_cluster() -> None:
    found = measure(40, 1, dispatched=False, shard_tracks=16)
    assert (found["tracks"], found["arrays"], found["shards"]) == (40, 14, 3)
    assert found["files_when_done"] == 6 + 14 * (3 + 3 * 3)
    assert 0 < found["peak_rss_bytes"]["table"] <= found["peak_rss_bytes"]["planned"]


@pytest.mark.slow
def test_a_scheduler_of_its_own_gets_every_shard() -> None:
    found = measure(40, 1, shard_tracks=16)
    assert found["workers"] == 1 and found["most_futures"] == 2
    memory = found["scheduler_peak_rss_bytes"]
    assert 0 < memory["idle"] <= memory["dispatched"] < 1 << 30
