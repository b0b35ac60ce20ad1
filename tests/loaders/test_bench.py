"""The loader benchmark on a tiny collection: every contender that is installed delivers the right crops."""

from __future__ import annotations

import json

import numpy as np

from tests.bench import bench_loaders
from tests.bench.bench_loaders_corpus import BANDS, Corpus


def test_contenders_deliver_true_crops(tmp_path):
    corpus = Corpus(tmp_path, n_tracks=12, frames=60, crop=20)
    clips = [corpus.clip(i) for i in range(12)]
    first_values = {clip[0, at].item(): (i, at) for i, clip in enumerate(clips) for at in range(41)}
    tried = 0
    for name, prepare in bench_loaders.contenders(corpus, 4).items():
        try:
            batches = list(prepare()(3))
        except ImportError:
            continue
        tried += 1
        assert sum(map(len, batches)) >= 8, name
        if "uint8" in name:
            continue
        for crop in np.concatenate([batch.numpy() for batch in batches]):
            track, start = first_values[crop[0, 0].item()]
            assert crop.shape == (BANDS, 20) and np.array_equal(crop, clips[track][:, start : start + 20]), name
    assert tried >= 13


def test_records(tmp_path):
    corpus = Corpus(tmp_path, n_tracks=8, frames=60, crop=20)
    names = ["featstore disk", "featstore ram", "zarr indexing"]
    rates, absent = bench_loaders.measure(corpus, rounds=2, seconds=0.01, batch_size=4, names=names)
    records = json.loads(json.dumps(bench_loaders.lines(corpus, rates, {**absent, "lhotse": "not installed"})))
    assert [record["contender"] for record in records] == [*names, "lhotse"]
    assert records[0]["crops_per_second"] > 0 and records[0]["times_faster_than"]["zarr indexing"] > 0
    assert records[0]["corpus_bytes"] == 8 * BANDS * 60 * 4 and records[0]["versions"]["torch"]


def test_waiting_share(tmp_path):
    corpus = Corpus(tmp_path, n_tracks=24, frames=140, crop=20)
    records = bench_loaders.waiting(corpus, steps=2, batch_size=4, width=0.02)
    assert [record["tier"] for record in records[:2]] == ["disk", "ram"]
    assert all(0 <= record["waiting_share"] < 1 for record in records)
