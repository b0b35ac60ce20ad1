"""What every model promises; a new entry of the registry meets these tests unasked."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from featstore.models import MODELS, create
from featstore.models.cost import count_macs, count_parameters, layer_macs

SMALL = {
    "vgg-cnn": {"width": 1 / 32},
    "musicnn": {"width": 1 / 8},
    "musicnn-f16": {"width": 1 / 8},
    "musicnn-at-scale": {"width": 1 / 8},
    "musicnn-released": {"width": 1 / 8},
}
SIZES = {"n_mels": 48, "n_frames": 137, "n_classes": 5}


def build(name: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create(name, **SIZES, **SMALL.get(name, {}))


def batch(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 1, SIZES["n_mels"], SIZES["n_frames"], generator=torch.Generator().manual_seed(seed))


pytestmark = pytest.mark.parametrize("name", list(MODELS))


def test_returns_logits_of_the_right_shape(name: str) -> None:
    logits = build(name)(batch(3))
    assert logits.shape == (3, SIZES["n_classes"])
    assert logits.dtype == torch.float32
    assert logits.min() < 0, "logits, not probabilities"


def test_every_parameter_receives_a_gradient(name: str) -> None:
    model = build(name).train()
    model(batch(4)).square().mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    assert [n for n, p in model.named_parameters() if n.endswith("weight") and not p.grad.any()] == []


def test_one_clip_alone_scores_as_in_a_batch(name: str) -> None:
    model = build(name).eval()
    clips = batch(4)
    with torch.no_grad():
        alone = torch.cat([model(clip[None]) for clip in clips])
        together = model(clips)
    # a convolution may sum in another order at another batch size
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_same_seed_same_weights(name: str) -> None:
    one, two, other = build(name), build(name), build(name, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_weights_survive_a_file(name: str, tmp_path: Path) -> None:
    model = build(name).train()
    model(batch(4))  # moves the running statistics
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = build(name, seed=5)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(model.eval()(batch(2)), again.eval()(batch(2)))


def test_config_rebuilds_the_model_and_pickles(name: str) -> None:
    model = build(name)
    config = pickle.loads(pickle.dumps(model.config))
    assert config == model.config
    assert count_parameters(type(model)(config)) == count_parameters(model)


def test_costs_count_without_touching_the_model(name: str) -> None:
    model = build(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    shape = (1, 1, SIZES["n_mels"], SIZES["n_frames"])
    assert count_macs(model, shape) == sum(layer_macs(model, shape).values()) > 0
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    total, trainable = count_parameters(model)
    assert total == trainable == sum(p.numel() for p in model.parameters())
    next(model.parameters()).requires_grad_(False)
    assert count_parameters(model)[1] < total
