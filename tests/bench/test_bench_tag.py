"""The benchmark of tagging runs, with tiny inputs."""

import torch

from tests.bench import bench_tag
from tests.bench.bench_audio_common import lines, make_clips, take_turns


def test_bench_tag(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATSTORE_PROGRESS", "0")
    torch.set_num_threads(1)
    clips = make_clips(tmp_path / "clips", bench_tag.FORM, 1, seconds=3.3)
    found = bench_tag.contenders(clips, tmp_path, ("mtt-vgg",))
    records = lines("tag", take_turns(found, 1), 3.3, (bench_tag.FEATURE,))
    assert [record["contender"] for record in records] == [bench_tag.FEATURE, "mtt-vgg"]
    assert records[1]["times_as_long_as"][bench_tag.FEATURE] > 1
