"""What every model promises; a new entry of the registry meets these tests unasked."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from featstore.errors import ConfigError
from featstore.models import MODELS, create
from featstore.models.cost import count_macs, count_parameters
from featstore.models.input_kinds import INPUT_KINDS, InputSize
from featstore.models.interface import Model, SequenceModel
from tests.models.macs_by_hand import layer_macs

SMALL = {
    "vgg-cnn": {"width": 1 / 32},
    "spectroformer": {"size": "tiny"},
    "tokenformer": {"size": "tiny"},
    "codebookformer": {"size": "tiny"},
    "musicnn": {"width": 1 / 8},
    "musicnn-f16": {"width": 1 / 8},
    "musicnn-at-scale": {"width": 1 / 8},
    "musicnn-released": {"width": 1 / 8},
    "sincnet": {"filters": 4, "length": 51, "dense": 8},
    "sinc-resnet": {"filters": 6, "lengths": (41, 41, 41), "columns": 64, "width": 1 / 8, "fc_hidden": 16},
    "ms-sinc-resnet": {"filters": 6, "lengths": (21, 41, 301), "columns": 64, "width": 1 / 8, "fc_hidden": 16},
    "resnet18": {"width": 1 / 8},
    "ast": {"depth": 1},
    "ast-audioset": {"depth": 1},
    "ast-gafx": {"depth": 1},
    "gafx-r": {"width": 1 / 16, "size": "tiny", "depth": 1},
    "gafx-a": {"width": 1 / 16, "size": "tiny", "depth": 1},
    "gafx-u": {"hdemucs": {"channels": 4, "nfft": 1024, "depth": 5}, "depth": 1},
}
SIZES = {
    "spectrum": {"n_mels": 48, "n_frames": 137},
    "waveform": {"n_samples": 8000},
    "tokens": {"n_codebooks": 2, "n_frames": 60, "n_codes": 16},
    "vectors": {"n_dims": 8, "n_frames": 60},
    "embedding": {"n_layers": 3, "n_dims": 8, "n_windows": 60},
}
N_CLASSES = 5
# products of queries and keys, and of their weights with values: 2 x layers x width x positions^2
ATTENTION = {"spectroformer": 256 * 34**2, "tokenformer": 256 * 15**2, "codebookformer": 256 * 15**2}
ATTENTION |= dict.fromkeys(("ast", "ast-audioset", "ast-gafx"), 384 * 26**2) | {"gafx-r": 384 * 18**2}
ATTENTION["gafx-a"] = 384 * 18**2 + 2 * 40 * 4 * 128**2 + 512 * 40**2  # projections that are no layers of their own
RECURRENT = {"gafx-u"}  # its cells and transposed convolutions are not counted by layer


def build(name: str, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return create(name, n_classes=N_CLASSES, **SIZES[MODELS.load(name).takes], **SMALL.get(name, {}))


def size_of(name: str) -> InputSize:
    kind = MODELS.load(name).takes
    return InputSize.of(kind, SIZES[kind])


def batch(name: str, n: int, seed: int = 1) -> torch.Tensor:
    size, rng = size_of(name), torch.Generator().manual_seed(seed)
    zeros = size.batch(n, device="cpu")
    if size.n_codes is not None:
        return torch.randint(size.n_codes, zeros.shape, generator=rng)
    return torch.randn(zeros.shape, generator=rng)


pytestmark = pytest.mark.parametrize("name", list(MODELS))


@pytest.mark.slow
def test_returns_logits_of_the_right_shape(name: str) -> None:
    logits = build(name)(batch(name, 3))
    assert logits.shape == (3, N_CLASSES)
    assert logits.dtype == torch.float32
    assert logits.min() < 0, "logits, not probabilities"


@pytest.mark.slow
def test_every_parameter_receives_a_gradient(name: str) -> None:
    model = build(name).train()
    model(batch(name, 4)).square().mean().backward()
    if getattr(model, "takes_hidden", False):
        x = batch(name, 4)
        hidden = torch.rand(4, x.shape[-1] // model.frames_per_position) < 0.5
        model.encode(x, None, hidden).square().mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    assert [n for n, p in model.named_parameters() if n.endswith("weight") and not p.grad.any()] == []


def test_one_clip_alone_scores_as_in_a_batch(name: str) -> None:
    model = build(name).eval()
    clips = batch(name, 4)
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
    model(batch(name, 4))  # moves the running statistics
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = build(name, seed=5)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(model.eval()(batch(name, 2)), again.eval()(batch(name, 2)))


def test_config_rebuilds_the_model_and_pickles(name: str) -> None:
    model = build(name)
    config = pickle.loads(pickle.dumps(model.config))
    assert config == model.config
    assert count_parameters(type(model)(config)) == count_parameters(model)


def test_costs_count_without_touching_the_model(name: str) -> None:
    model = build(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    one = size_of(name).batch()
    counted, by_layer = count_macs(model, one), sum(layer_macs(model, one).values())
    assert counted > by_layer > 0 if name in RECURRENT else counted - by_layer == ATTENTION.get(name, 0)
    assert counted > 0
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    total, trainable = count_parameters(model)
    assert total == trainable == sum(p.numel() for p in model.parameters())
    next(model.parameters()).requires_grad_(False)
    assert count_parameters(model)[1] < total


def test_declares_what_it_offers(name: str) -> None:
    model = build(name)
    assert isinstance(model, Model)
    kind, fields = INPUT_KINDS[model.takes], {field.name for field in dataclasses.fields(model.Config)}
    assert {*kind.example, "n_classes"} <= fields
    assert model.paper_input is None or set(model.paper_input) == set(kind.example)
    assert model.input_norm in (("none",) if kind.vocabulary else ("band", "global", "none"))
    assert any(parameter.startswith(f"{model.head}.") for parameter, _ in model.named_parameters())
    assert ("lengths" in inspect.signature(model.forward_features).parameters) == model.takes_lengths


def test_features_are_what_the_head_reads(name: str) -> None:
    model, x = build(name).eval(), batch(name, 3)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.ndim == 2 and len(features) == 3
        assert torch.equal(model.get_submodule(model.head)(features), model(x))


def test_a_head_for_other_classes(name: str) -> None:
    model, x = build(name).eval(), batch(name, 3)
    with torch.no_grad():
        before = model.forward_features(x)
        model.reset_head(7)
        assert torch.equal(model.forward_features(x), before)
        assert model(x).shape == (3, 7)
    assert model.config.n_classes == 7
    assert count_parameters(type(model)(model.config)) == count_parameters(model)


def test_vectors_of_positions(name: str) -> None:
    model = build(name).eval()
    if not isinstance(model, SequenceModel):
        assert not hasattr(model, "encode")
        return
    x = batch(name, 2)
    with torch.no_grad():
        assert model.encode(x).shape == (2, model.width, x.shape[-1] // model.frames_per_position)


def test_padding_changes_nothing_where_lengths_are_given(name: str) -> None:
    model = build(name).eval()
    if not model.takes_lengths:
        return
    short = batch(name, 2)[..., :40]
    padded = torch.cat([short, batch(name, 2, seed=2)[..., 40:]], dim=-1)
    lengths = torch.tensor([40, 40])
    with torch.no_grad():
        torch.testing.assert_close(model(padded, lengths), model(short, lengths), rtol=0, atol=1e-5)
        assert not torch.equal(model(padded), model(short))


def test_sizes_of_another_kind_are_refused(name: str) -> None:
    kind = MODELS.load(name).takes
    for other, sizes in SIZES.items():
        if other != kind:
            wrong = f"{INPUT_KINDS[other].article} for a model that takes {INPUT_KINDS[kind].title}"
            with pytest.raises(ConfigError, match=wrong):
                create(name, n_classes=N_CLASSES, **sizes)
