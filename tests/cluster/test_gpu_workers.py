"""Shards with tokens go to workers that announce a GPU, where there are any; GPUs are made up here."""

from __future__ import annotations

import logging
import time
from collections import Counter

import numpy as np
import pytest
import soundfile
from dask.distributed import Client, Scheduler, SpecCluster, Worker

import featstore.extract.dispatch as module
from featstore.cluster import gpu_count
from featstore.extract import ExtractOptions
from featstore.extract.dispatch import Dispatch
from featstore.extract.failures import FailurePolicy
from featstore.extract.plan import Graph, make_plan
from featstore.extract.run import make_tasks, prepare
from featstore.extract.worker import ShardReport, ShardTask
from featstore.specs import expand_features
from featstore.store.location import open_location
from featstore.workflows.indexing import index_tracks
from tests.models.jukebox_files import random_level, small_config, write_container


def named(task: ShardTask) -> ShardReport:
    """Stands for the work on a shard; tells where it was done."""
    from distributed import get_worker

    time.sleep(0.02)
    return ShardReport(task.shard, statuses=Counter([str(get_worker().name)]))


@pytest.fixture
def cluster():
    def start(*names: str) -> SpecCluster:
        workers = {
            name: {"cls": Worker, "options": {"nthreads": 1, "resources": {"GPU": 1} if "gpu" in name else {}}}
            for name in names
        }
        made = SpecCluster(workers, {"cls": Scheduler, "options": {"dashboard_address": None, "port": 0}})
        started.append(made)
        return made

    started: list[SpecCluster] = []
    yield start
    for made in started:
        made.close()


def dispatch(cluster, tmp_path, tasks) -> Dispatch:
    policy = FailurePolicy(open_location(tmp_path), "run")
    return Dispatch(tasks, ExtractOptions(scheduler=cluster.scheduler_address), policy, run_shard=named)


def tasks(tmp_path, count: int) -> list[ShardTask]:
    """Every other shard has work for a GPU."""
    nothing = Graph((), {}, {})
    return [ShardTask(str(tmp_path), shard, ("key",), nothing, device=shard % 2 == 0) for shard in range(count)]


def test_shards_that_lack_tokens_are_for_a_gpu(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, 20_000), 44100, subtype="FLOAT")
    levels = [random_level(small_config(level), level) for level in range(3)]
    weights = write_container("original", levels, tmp_path / "weights")
    table = index_tracks("folder", tmp_path)
    plan = make_plan(expand_features(["mel(n_mels=20)", f"vq_tokens(codec=jukebox,level=2,weights={weights})"]))
    options = ExtractOptions(shard_tracks=1, token_batches=True)
    store = prepare(table, plan, tmp_path / "s", options)
    mel, tokens = sorted(plan.keys)
    todo = [(0, [mel]), (1, [mel, tokens]), (2, [tokens])]
    made = make_tasks(store, table, todo, options, "run")
    assert [task.device for task in made] == [False, True, True] and all(task.batches is True for task in made)


def test_only_workers_with_a_gpu_get_shards_with_tokens(cluster, tmp_path):
    made = cluster("plain", "gpu-0", "gpu-1")
    with Client(made) as client:
        assert gpu_count(client) == 2
    reports = list(dispatch(made, tmp_path, tasks(tmp_path, 24)).reports())
    assert sorted(report.shard for report in reports) == list(range(24))
    where = {report.shard: next(iter(report.statuses)) for report in reports}
    assert {where[shard] for shard in range(0, 24, 2)} == {"gpu-0", "gpu-1"}
    assert "plain" in {where[shard] for shard in range(1, 24, 2)}


def test_where_no_worker_has_one_any_worker_does(cluster, tmp_path):
    made = cluster("plain-0", "plain-1")
    reports = list(dispatch(made, tmp_path, tasks(tmp_path, 10)).reports())
    assert {name for report in reports for name in report.statuses} == {"plain-0", "plain-1"}
    assert len(reports) == 10


@pytest.mark.slow
def test_when_the_last_gpu_goes_the_others_go_on(cluster, tmp_path, monkeypatch, caplog):
    for name, value in (("LOOK_S", 0.1), ("TICK_S", 0.1), ("GPU_PATIENCE_S", 0.2)):
        monkeypatch.setattr(module, name, value)
    made = cluster("plain", "gpu-0")
    seen: list[ShardReport] = []
    with caplog.at_level(logging.WARNING):
        for report in dispatch(made, tmp_path, tasks(tmp_path, 30)).reports():
            seen.append(report)
            if len(seen) == 1:
                made.sync(made.workers["gpu-0"].close)
    assert sorted(report.shard for report in seen) == list(range(30))
    assert "no worker announces a GPU any more" in caplog.text


def does_not_answer(task: ShardTask) -> ShardReport:
    raise TimeoutError(110, "Connection timed out", task.store)


def test_a_file_system_that_does_not_answer_is_no_lost_report(cluster, tmp_path):
    made = cluster("plain")
    policy = FailurePolicy(open_location(tmp_path), "run")
    options = ExtractOptions(scheduler=made.scheduler_address)
    with pytest.raises(TimeoutError, match="Connection timed out"):
        list(Dispatch(tasks(tmp_path, 2), options, policy, run_shard=does_not_answer).reports())


@pytest.mark.slow
def test_a_report_that_is_lost_with_the_last_gpu_is_made_again(cluster, tmp_path, monkeypatch, caplog):
    for name, value in (("LOOK_S", 0.1), ("TICK_S", 0.1), ("GPU_PATIENCE_S", 0.2), ("REPORT_S", 0.5)):
        monkeypatch.setattr(module, name, value)
    made = cluster("plain", "gpu-0")
    lost: list[int] = []

    class LosesTheWorker(Dispatch):
        def _result(self, future, task):
            if task.device and not lost:
                lost.append(task.shard)
                made.sync(made.workers["gpu-0"].close)
            return super()._result(future, task)

    policy = FailurePolicy(open_location(tmp_path), "run")
    options = ExtractOptions(scheduler=made.scheduler_address)
    work = LosesTheWorker(tasks(tmp_path, 12), options, policy, run_shard=named)
    with caplog.at_level(logging.WARNING):
        where = {report.shard: next(iter(report.statuses)) for report in work.reports()}
    assert sorted(where) == list(range(12)) and where[lost[0]] == "plain"
