"""On a CUDA device: every tier gives the batches of the CPU; host tiers send codes through pinned memory."""

from __future__ import annotations

import pytest
import torch

from featstore.loaders import BatchLoader
from featstore.loaders import passes as passes_module
from featstore.store import open_store
from tests.loaders.fakes import make_arrays
from tests.loaders.stores import write_store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device was found"),
]

WANT = "mel(n_mels=8,hop_length=512,scale=log10_1p)"


@pytest.fixture(scope="module", params=["float32", "float16", "uint8", "uint16"])
def reader(request, tmp_path_factory):
    arrays = make_arrays([300 + 17 * i for i in range(12)], bands=8)
    scale = "mel(n_mels=8)" if request.param.startswith("float") else "mel(n_mels=8,scale=db)"
    path = tmp_path_factory.mktemp("gpu") / "store.zarr"
    write_store(path, arrays, [(scale, request.param)])
    want = WANT if request.param.startswith("float") else "mel(n_mels=8,scale=db,hop_length=512)"
    return open_store(path)[want]


@pytest.mark.parametrize("tier", ["disk", "ram", "gpu", "auto"])
def test_batches_are_those_of_the_cpu(reader, tier, monkeypatch):
    pinned = []
    allocate = passes_module.allocate
    monkeypatch.setattr(passes_module, "allocate", lambda *a: pinned.append(a[-1]) or allocate(*a))
    options = {"batch_size": 5, "crop_frames": 40, "seed": 3, "shuffle": "global"}
    here = BatchLoader({"x": reader}, reader.track_ids, tier="ram", **options)
    there = BatchLoader({"x": reader}, reader.track_ids, tier=tier, device="cuda", **options)
    assert there.tier == ("gpu" if tier == "auto" else tier)
    for epoch in range(2):
        here.set_epoch(epoch)
        there.set_epoch(epoch)
        for one, two in zip(here, there, strict=True):
            assert two["x"].device.type == "cuda"
            assert torch.equal(one["index"], two["index"])
            torch.testing.assert_close(two["x"].cpu(), one["x"], rtol=3e-6, atol=3e-6)
    assert True in pinned or tier in ("gpu", "auto")


def test_the_gpu_tier_resumes(reader):
    options = {"batch_size": 5, "crop_frames": 40, "tier": "gpu", "device": "cuda"}
    loader = BatchLoader({"x": reader}, reader.track_ids, **options)
    whole = [batch["x"].cpu() for batch in loader]
    stream = iter(loader)
    next(stream)
    state = loader.state_dict()
    other = BatchLoader({"x": reader}, reader.track_ids, **options)
    other.load_state_dict(state)
    rest = [batch["x"].cpu() for batch in other]
    assert all(torch.equal(one, two) for one, two in zip(rest, whole[1:], strict=True))
