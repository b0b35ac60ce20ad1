from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from featstore.errors import CheckpointError, ConfigError
from featstore.models import create
from featstore.models.cost import count_macs, count_parameters
from featstore.models.gafx_a import sinusoids
from featstore.models.gafx_r import RowTrunk, from_imagenet, rows_of

SMALL = {"n_samples": 4000, "n_classes": 3, "size": "tiny", "width": 1 / 16, "depth": 1}

# of 30 s: parameters, those of the extractor, GMAC, shape of the picture
TABLE = {
    "gafx-r": (661_600, 34_301_258, 12_269_248, 367.7 + 60.3, 3308),
    "gafx-a": (661_600, 34_698_058, 12_666_048, None, 3308),
}


@pytest.mark.parametrize("name", TABLE)
def test_sizes_of_the_table(name: str) -> None:
    n_samples, parameters, extractor, gmacs, frames = TABLE[name]
    with torch.device("meta"):
        model = create(name, n_samples=n_samples, n_classes=10).eval()
    assert count_parameters(model)[0] == parameters
    assert count_parameters(model.extractor)[0] == extractor
    with torch.no_grad():
        assert model.extract(torch.empty(2, 1, n_samples, device="meta")).shape == (2, 128, frames)
    if gmacs is not None:
        assert count_macs(model, (1, 1, n_samples)) / 1e9 == pytest.approx(gmacs, abs=0.06)


def test_stages_of_the_table() -> None:
    with torch.device("meta"):
        trunk = RowTrunk().eval()
    x = torch.empty(1, 1, 3308, 200, device="meta")
    x = trunk.conv1(x)
    assert x.shape[1:] == (64, 3308, 100)
    x = functional.max_pool2d(x, 3, stride=(1, 2), padding=1)
    assert x.shape[1:] == (64, 3308, 50)
    found = {}
    for stage in range(1, 6):
        layer = trunk.get_submodule(f"layer{stage}")
        x = layer(x)
        found[stage] = (*x.shape[1:], count_parameters(layer)[0])
    assert found == {
        1: (64, 3308, 50, 147_968),
        2: (128, 3308, 25, 525_568),
        3: (256, 3308, 13, 2_099_712),
        4: (512, 3308, 7, 8_393_728),
        5: (128, 3308, 4, 1_099_008),
    }


def test_rows_are_the_nearest_whole_number() -> None:
    x = torch.arange(1.0, 1001.0)[None, None]
    assert torch.equal(rows_of(x)[0, 0].flatten(), x[0, 0])
    for n, rows in ((999, 5), (900, 5), (899, 4), (801, 4), (660, 3), (1, 1)):
        found = rows_of(x[..., :n])
        assert found.shape == (1, 1, rows, 200)
        kept = min(n, rows * 200)
        assert torch.equal(found.flatten()[:kept], x[0, 0, :kept])
        assert not found.flatten()[kept:].any()


@pytest.mark.parametrize("name", ["gafx-r", "gafx-a"])
def test_picture_is_standardised_and_silence_is_zeros(name: str) -> None:
    torch.manual_seed(0)
    model = create(name, **SMALL).eval()
    x = torch.randn(3, 1, 4000) / 10
    x[1] = 0
    with torch.no_grad():
        for n in (4000, 3999, 4001):
            picture = model.extract(functional.pad(x, (0, n - 4000)))
            assert picture.shape == (3, 128, 20)
            assert torch.isfinite(picture).all()
        picture = model.extract(x)
    for clip in (picture[0], picture[2]):
        assert float(clip.mean()) == pytest.approx(0, abs=1e-5)
        assert float(clip.std(correction=0)) == pytest.approx(0.5, rel=1e-4)
    assert (model.extractor(rows_of(x))[1].std() > 0) == (name == "gafx-a")  # positions are in the picture


def test_level_does_not_matter_to_the_attentive_variant() -> None:
    torch.manual_seed(0)
    model, x = create("gafx-a", **SMALL).eval(), torch.randn(1, 1, 4000)
    with torch.no_grad():
        torch.testing.assert_close(model.extract(32_768 * x), model.extract(x), rtol=1e-3, atol=1e-3)


def test_rows_attend_to_each_other() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 8000)  # 40 rows: convolutions reach over 25 of them
    other = x.clone()
    other[..., :200] = torch.randn(200)  # the first row
    for name, reaches in (("gafx-r", False), ("gafx-a", True)):
        model = create(name, **SMALL).eval()
        with torch.no_grad():
            one, two = (model.extractor(rows_of(signal)) for signal in (x, other))
        far = (one[..., 39] - two[..., 39]).abs().max()
        assert (far > 1e-6) == reaches


def test_sinusoids() -> None:
    found = sinusoids(50, 128)
    assert found.shape == (50, 128)
    assert float(found[7, 0]) == pytest.approx(0.6569866)  # sin 7
    assert float(found[7, 127]) == pytest.approx(float(torch.cos(torch.tensor(7 * 10_000 ** (-126 / 128)))))


def test_weights_of_imagenet() -> None:
    trunk = RowTrunk()
    rng = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(tensor.shape, generator=rng) if tensor.ndim else tensor
        for name, tensor in trunk.state_dict().items()
        if not name.startswith("layer5.")
    }
    rgb = torch.randn(64, 3, 7, 7, generator=rng)
    theirs = {**state, "conv1.weight": rgb, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    found = trunk.load_state_dict(from_imagenet(theirs), strict=False)
    assert found.unexpected_keys == [] and all(name.startswith("layer5.") for name in found.missing_keys)
    torch.testing.assert_close(trunk.conv1.weight.detach(), rgb.sum(dim=1, keepdim=True))
    assert torch.equal(trunk.layer4[1].conv2.weight.detach(), state["layer4.1.conv2.weight"])
    with pytest.raises(CheckpointError, match=r"the checkpoint lacks layer2\.0\.bn1\.bias"):
        from_imagenet({name: tensor for name, tensor in theirs.items() if name != "layer2.0.bn1.bias"})
    with pytest.raises(CheckpointError, match=r"layer3\.2\.conv1\.weight has no place in a ResNet-18"):
        from_imagenet({**theirs, "layer3.2.conv1.weight": torch.zeros(2)})


@pytest.mark.parametrize("name", ["gafx-r", "gafx-a"])
def test_checkpointing_changes_no_gradient(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = create(name, checkpointing=checkpointing, **SMALL).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        x = torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(1))
        model(x).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_input_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"15 frames are too few for one patch of 16 .*rows of 200 samples"):
        create("gafx-r", **SMALL | {"n_samples": 3000})
    model = create("gafx-r", **SMALL)
    with pytest.raises(ConfigError, match=r"not \(batch, 1, n_samples\)"):
        model(torch.zeros(1, 2, 4000))
    with pytest.raises(ConfigError, match="width=0"):
        create("gafx-a", **SMALL | {"width": 0})


def train(
    model: torch.nn.Module, steps: int, warm_up: int, batch: Callable[[int], tuple[torch.Tensor, ...]]
) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / warm_up)
        x, target = batch(step)
        loss = functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.slow
def test_attention_stays_finite_with_a_silent_clip_and_learns() -> None:
    torch.manual_seed(0)
    n_samples = 11_025  # 0.5 s at 22.05 kHz
    model = create("gafx-a", **SMALL | {"n_samples": n_samples}).train()
    seconds = torch.arange(n_samples) / 22_050
    rng = torch.Generator().manual_seed(1)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        target = torch.randint(3, (4,), generator=rng)
        pitch = torch.tensor([110.0, 880.0, 5000.0])[target] * (0.9 + 0.2 * torch.rand(4, generator=rng))
        x = torch.sin(2 * torch.pi * pitch[:, None] * seconds) * torch.rand(4, 1, generator=rng)
        x[0], target[0] = 0.0, 0  # one silent clip in every batch
        return x[:, None], target

    batches = [batch() for _ in range(4)]  # in turns: fresh ones of four clips would be mostly noise
    losses = torch.tensor(train(model, 100, 40, lambda step: batches[step % 4]))
    assert torch.isfinite(losses).all()
    assert losses[-20:].mean() < 0.5 * losses[:20].mean()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(torch.isfinite(b).all() for b in model.buffers())
