"""torch_dataset in torch's own DataLoader: start methods, epochs, sharding and resuming."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from featstore.errors import CheckpointError, ConfigError, DatasetError
from featstore.loaders import EpochBatchSampler, torch_dataset
from tests.loaders.fakes import make_arrays
from tests.loaders.stores import write_store

FEATURE = "mel(n_mels=8,hop_length=512,scale=log10_1p)"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    arrays = make_arrays([500 + 31 * i for i in range(13)], bands=8)
    splits = ["valid" if i in (3, 8) else "train" for i in range(13)]
    where = tmp_path_factory.mktemp("glue") / "store.zarr"
    write_store(where, arrays, [("mel(n_mels=8)", "float32")], splits=splits, failed=("t05",))
    return where


def pairs(loader):
    return [pair for b in loader for pair in zip(b["index"].tolist(), b["start"].tolist(), strict=True)]


@pytest.mark.parametrize("tier", ["auto", "disk", "ram", "gpu"])
def test_items(path, tier, caplog):
    from featstore.store import open_store

    dataset = torch_dataset(path, FEATURE, crop_frames=40, tier=tier)
    assert "1 of 11 tracks are not stored: t05" in caplog.text
    assert len(dataset) == 10 and dataset.classes == ("jazz", "pop", "rock")
    reader = open_store(path)[FEATURE]
    dataset.set_epoch(0)
    for i, item in enumerate(dataset.__getitems__(range(10))):
        start = item["start"]
        expected = reader.read([dataset.track_ids[i]], start, start + 40)[0]
        np.testing.assert_allclose(item["mel"].numpy(), expected, rtol=3e-6)
        wanted = ["jazz"] if int(dataset.track_ids[i][1:]) % 2 else ["pop", "rock"]
        assert [name for name, hot in zip(dataset.classes, item["target"], strict=True) if hot] == wanted
        assert torch.equal(dataset[i]["mel"], item["mel"])
    with pytest.raises(IndexError):
        dataset[10]
    assert dataset[-1]["index"] == 9


def test_crops_move_with_the_epoch_and_the_seed(path):
    dataset = torch_dataset(path, FEATURE, crop_frames=40)
    dataset.set_epoch(0)
    first = [dataset[i]["start"] for i in range(10)]
    dataset.set_epoch(1)
    second = [dataset[i]["start"] for i in range(10)]
    dataset.set_epoch(0)
    assert first == [dataset[i]["start"] for i in range(10)] and first != second
    other = torch_dataset(path, FEATURE, crop_frames=40, seed=1)
    other.set_epoch(0)
    assert first != [other[i]["start"] for i in range(10)]


def test_data_sets_of_one_seed_agree_without_an_epoch(path):
    one, two, other = (torch_dataset(path, FEATURE, crop_frames=40, seed=seed) for seed in (3, 3, 4))
    found = [[dataset[i]["start"] for _ in range(3) for i in range(10)] for dataset in (one, two, other)]
    assert found[0] == found[1] != found[2]
    assert found[0][:10] != found[0][10:20] != found[0][20:]


@pytest.mark.slow
@pytest.mark.parametrize("workers, persistent", [(0, False), (1, False), (2, False), (2, True)])
def test_plain_use_gives_fresh_crops_every_epoch(path, workers, persistent):
    context = "fork" if workers else None

    def epochs(seed, own=0):
        dataset = torch_dataset(path, FEATURE, crop_frames=40, tier="disk", seed=own)
        torch.manual_seed(seed)
        loader = DataLoader(
            dataset,
            batch_size=5,
            shuffle=True,
            num_workers=workers,
            persistent_workers=persistent,
            multiprocessing_context=context,
        )
        return [dict(pairs(loader)) for _ in range(3)]

    first, second, third = found = epochs(0)
    assert all(sorted(one) == list(range(10)) for one in found)
    for one, two in ((first, second), (second, third), (first, third)):
        assert sum(one[track] != two[track] for track in one) >= 8  # starts among 461 to 830 rarely meet
    assert epochs(0) == found  # torch's seed and the data set's repeat them
    (other, *_) = epochs(0, own=1)
    assert sum(first[track] != other[track] for track in first) >= 8
    assert all(start < 900 for one in found for start in one.values())


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_a_trainer_that_sets_the_epoch_of_the_data_set(path, persistent):
    """Hugging Face trainers call ``set_epoch`` of a data set that has it before every epoch."""
    dataset = torch_dataset(path, FEATURE, crop_frames=40, tier="disk")
    loader = DataLoader(
        dataset, batch_size=5, num_workers=2, persistent_workers=persistent, multiprocessing_context="fork"
    )

    def epoch(number):
        dataset.set_epoch(number)
        return dict(pairs(loader))

    found = [epoch(number) for number in (0, 1, 2, 1)]
    assert found[0] != found[1] != found[2] and found[1] == found[3]


def test_a_trainer_that_sets_the_epoch_of_the_sampler(path):
    """Lightning calls ``set_epoch`` of a distributed sampler, and not of the data set."""
    from torch.utils.data.distributed import DistributedSampler

    dataset = torch_dataset(path, FEATURE, crop_frames=40, tier="disk")
    sampler = DistributedSampler(dataset, num_replicas=1, rank=0)
    loader = DataLoader(dataset, batch_size=5, sampler=sampler, num_workers=2, multiprocessing_context="fork")
    found = []
    for number in range(3):
        sampler.set_epoch(number)
        found.append(dict(pairs(loader)))
    assert found[0] != found[1] != found[2] != found[0]


def test_it_pickles_small_and_opens_by_itself(path):
    dataset = torch_dataset(path, FEATURE, crop_frames=40, tier="ram")
    dataset.set_epoch(0)
    expected = dataset[4]["mel"]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy._opened is None and torch.equal(copy[4]["mel"], expected)
    assert len(pickle.dumps(dataset)) < 50_000


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_start_methods_with_persistent_workers(path, method):
    dataset = torch_dataset(path, FEATURE, crop_frames=40, tier="disk")
    sampler = EpochBatchSampler(dataset, batch_size=3)
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=1, multiprocessing_context=method, persistent_workers=True
    )
    alone = DataLoader(dataset, batch_sampler=sampler)
    for epoch in range(2):  # workers live on: the new epoch must reach them
        sampler.set_epoch(epoch)
        assert pairs(loader) == pairs(alone)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
@pytest.mark.parametrize("workers", range(5))
def test_resume_at_every_step_with_worker_processes(path, workers):
    dataset = torch_dataset(path, FEATURE, crop_frames=40, seed=4)
    context = "fork" if workers else None

    def resumed(state, **share):
        sampler = EpochBatchSampler(dataset, batch_size=4, **share)
        sampler.set_epoch(0)
        if state is not None:
            sampler.load_state_dict(json.loads(json.dumps(state)))
        sampler.set_epoch(2)
        loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, multiprocessing_context=context)
        return sampler, loader

    for world_size in (1, 2, 3, 4) if workers == 0 else (1, 4):
        seen = []
        for rank in range(world_size):
            share = {"rank": rank, "world_size": world_size}
            sampler, loader = resumed(None, **share)
            batches = [pairs([batch]) for batch in loader]
            seen += [track for batch in batches for track, _ in batch]
            for taken in range(len(batches) + 1):
                _, rest = resumed(sampler.state_dict(taken), **share)
                assert [pairs([batch]) for batch in rest] == batches[taken:]
        assert sorted(seen) == list(range(10))


def test_a_resumed_pass_can_be_stopped_again(path):
    dataset = torch_dataset(path, FEATURE, crop_frames=40)
    sampler = EpochBatchSampler(dataset, batch_size=2)
    whole = list(sampler)
    sampler.load_state_dict(sampler.state_dict(1))
    stream = iter(sampler)
    next(stream)
    sampler.load_state_dict(sampler.state_dict(1))
    assert list(sampler) == whole[2:] and list(sampler) == whole


def test_foreign_states_are_refused(path):
    sampler = EpochBatchSampler(torch_dataset(path, FEATURE, crop_frames=40), batch_size=4)
    state = sampler.state_dict(1)
    with pytest.raises(CheckpointError, match="other tracks, crops or batches"):
        EpochBatchSampler(sampler.dataset, batch_size=5).load_state_dict(state)
    with pytest.raises(CheckpointError, match="seed 0, this loader 1"):
        other = torch_dataset(path, FEATURE, crop_frames=40, seed=1)
        EpochBatchSampler(other, batch_size=4).load_state_dict(state)


def test_padding_and_whole_tracks(path):
    dataset = torch_dataset(path, FEATURE, crop_frames=400, ragged="pad")
    batch = next(iter(DataLoader(dataset, batch_size=10)))
    lengths = dataset.source.lengths
    assert batch["mel_mask"].sum(dim=1).tolist() == np.minimum(lengths, 400).tolist()
    assert not batch["mel"].permute(0, 2, 1)[~batch["mel_mask"]].any()
    whole = torch_dataset(path, FEATURE, crop_frames=None, ragged="pad")
    assert whole[0]["mel"].shape == (8, lengths.max())


def test_wrong_use(path):
    with pytest.raises(DatasetError, match=r"no track in split 'test' .*Splits here: train, valid"):
        torch_dataset(path, FEATURE, split="test")
    with pytest.raises(DatasetError, match="the crop needs 999"):
        torch_dataset(path, FEATURE, crop_frames=999)
    with pytest.raises(ConfigError, match="needs batches"):
        torch_dataset(path, FEATURE, crop_frames=40, ragged="bucket")
    dataset = torch_dataset(path, FEATURE, crop_frames=40, tier="gpu")
    with pytest.raises(ConfigError, match="gpu tier cannot be read from a worker"):
        list(DataLoader(dataset, num_workers=1, multiprocessing_context="fork"))


def test_a_reader_is_a_feature(path):
    from featstore.store import open_store

    store = open_store(path)
    named, read = (torch_dataset(store, each, crop_frames=40) for each in (FEATURE, store[FEATURE]))
    assert torch.equal(named[3]["mel"], read[3]["mel"]) and named.track_ids == read.track_ids
