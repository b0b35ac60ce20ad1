"""Two runs at one shard: what one has committed the other does not compute again, however close they are."""

from pathlib import Path

import pytest

from featstore.extract import ExtractOptions, extract, worker
from featstore.extract.plan import make_plan
from featstore.extract.run import make_tasks, prepare
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.missing import find_missing
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks


def test_a_shard_that_was_committed_on_the_way_to_its_lease_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = index_tracks("folder", make_collection(tmp_path / "music", n_tracks=4, seconds=(0.5, 1.0)))
    features = expand_features(["mel(n_mels=8)", "mel(n_mels=16)"])
    options = ExtractOptions(scheduler="sync", shard_tracks=2)
    plan = make_plan(features)
    store = prepare(table, plan, tmp_path / "s.zarr", options)
    task = make_tasks(store, table, find_missing(store, plan.keys), options, "late")[1]
    real, others = worker._opened, []

    def opened(*args):
        if not others:  # between the look at the records and the lease
            others.append(0)
            others[0] = extract(table, features, tmp_path / "s.zarr", options).shards
        return real(*args)

    monkeypatch.setattr(worker, "_opened", opened)
    report = worker.run_shard(task)
    assert others == [2] and report.tracks == 2 and report.statuses["ok"] == 2
    found = open_store(tmp_path / "s.zarr")
    assert [record.generation for key in plan.keys for record in found.records(key).values()] == [1] * 4
