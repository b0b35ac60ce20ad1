from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from featstore.errors import CheckpointError, ConfigError
from featstore.models import create
from featstore.models.cost import count_macs, count_parameters
from featstore.models.resnet import ResnetTrunk, from_torchvision, read_torchvision, spatial_pyramid

State = dict[str, torch.Tensor]


def torchvision_state() -> State:
    """Random weights of a ResNet-18 under torchvision's names."""
    rng = torch.Generator().manual_seed(0)
    state: State = {}

    def conv(name: str, n_in: int, n_out: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(n_out, n_in, kernel, kernel, generator=rng) / (n_in * kernel**2) ** 0.5

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "running_var"):
            state[f"{name}.{part}"] = torch.rand(channels, generator=rng) + 0.5
        for part in ("bias", "running_mean"):
            state[f"{name}.{part}"] = torch.randn(channels, generator=rng) / 10
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 3, 64, 7)
    norm("bn1", 64)
    for stage, (n_in, n_out) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], start=1):
        for block in (0, 1):
            place = f"layer{stage}.{block}"
            conv(f"{place}.conv1", n_out if block else n_in, n_out, 3)
            conv(f"{place}.conv2", n_out, n_out, 3)
            norm(f"{place}.bn1", n_out)
            norm(f"{place}.bn2", n_out)
        if n_in != n_out:
            conv(f"layer{stage}.0.downsample.0", n_in, n_out, 1)
            norm(f"layer{stage}.0.downsample.1", n_out)
    state["fc.weight"], state["fc.bias"] = torch.randn(1000, 512, generator=rng), torch.zeros(1000)
    return state


def plain_forward(state: State, x: torch.Tensor) -> torch.Tensor:
    """Trunk of ResNet-18 written out over torchvision's names."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts)

    x = functional.conv2d(x, state["conv1.weight"], stride=2, padding=3)
    x = functional.max_pool2d(functional.relu(norm(x, "bn1")), 3, 2, 1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            place, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = functional.conv2d(x, state[f"{place}.conv1.weight"], stride=stride, padding=1)
            y = functional.conv2d(functional.relu(norm(y, f"{place}.bn1")), state[f"{place}.conv2.weight"], padding=1)
            if f"{place}.downsample.0.weight" in state:
                x = functional.conv2d(x, state[f"{place}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{place}.downsample.1")
            x = functional.relu(norm(y, f"{place}.bn2") + x)
    return x


def test_trunk_equals_a_plain_forward_under_mapped_names() -> None:
    state = torchvision_state()
    trunk = ResnetTrunk().eval()
    trunk.load_state_dict(from_torchvision(state), strict=True)
    assert count_parameters(trunk)[0] == 11_176_512
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = trunk(x)
        assert found.shape == (2, 512, 2, 3)
        assert torch.equal(found, plain_forward(state, x))


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_from_a_file(ending: str, tmp_path: Path) -> None:
    state, path = torchvision_state(), tmp_path / f"resnet18.{ending}"
    (torch.save if ending == "pth" else save_file)(state, path)
    found, wanted = read_torchvision(path), from_torchvision(state)
    assert set(found) == set(wanted)
    counted = "num_batches_tracked"  # nothing reads it
    assert all(torch.equal(found[name], wanted[name]) for name in wanted if not name.endswith(counted))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = torchvision_state()
    lacking = {name: value for name, value in state.items() if name != "layer3.1.conv2.weight"}
    with pytest.raises(CheckpointError, match=r"the checkpoint lacks encoder.stages.2.layers.1.layer.1"):
        from_torchvision(lacking)
    with pytest.raises(CheckpointError, match=r"layer1\.2\.conv1\.weight has no place in a ResNet-18"):
        from_torchvision({**state, "layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)})
    with pytest.raises(CheckpointError, match=r"conv1.weight has shape \(64, 1, 7, 7\), not \(64, 3, 7, 7\)"):
        from_torchvision({**state, "conv1.weight": state["conv1.weight"][:, :1]})
    evil = tmp_path / "evil.pth"
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(print, protocol=2))
        archive.writestr("archive/version", "3")
    with pytest.raises(CheckpointError, match="would run code"):
        read_torchvision(evil)


def test_pyramid_has_global_then_local_means() -> None:
    x = torch.randn(2, 3, 5, 32, generator=torch.Generator().manual_seed(2))
    found = spatial_pyramid(x)
    assert found.shape == (2, 15)
    torch.testing.assert_close(found[:, :3], x.mean(dim=(2, 3)))
    quarters = [x[:, :, rows, columns].mean(dim=(2, 3)) for rows in (slice(0, 3), slice(2, 5))
                for columns in (slice(0, 16), slice(16, 32))]  # fmt: skip
    torch.testing.assert_close(found[:, 3:], torch.stack(quarters, dim=2).flatten(1))


@pytest.mark.parametrize(
    ("n_classes", "n_frames", "parameters", "gmacs"),
    [(10, 1024, 11_181_642, 5.922), (1000, 1024, 11_689_512, None), (10, 376, 11_181_642, 2.195)],
)
def test_sizes_of_the_table(n_classes: int, n_frames: int, parameters: int, gmacs: float | None) -> None:
    with torch.device("meta"):
        model = create("resnet18", n_mels=160, n_frames=n_frames, n_classes=n_classes)
    assert count_parameters(model)[0] == parameters
    if gmacs is not None:
        assert count_macs(model, (1, 1, 160, n_frames)) / 1e9 == pytest.approx(gmacs, abs=5.01e-4)


def test_one_spectrum_is_standardised_and_copied() -> None:
    model = create("resnet18", n_mels=32, n_frames=40, n_classes=3, width=0.125)
    x = torch.randn(2, 1, 32, 40, generator=torch.Generator().manual_seed(3)) * 10 - 30
    x[0, 0, 0, 0] = -1000
    picture = model.picture(x)
    assert picture.shape == (2, 3, 32, 40)
    assert torch.equal(picture[:, 0], picture[:, 2])
    torch.testing.assert_close(picture.mean(dim=(1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(picture.square().mean(dim=(1, 2, 3)), torch.ones(2), rtol=0, atol=1e-5)
    cut = x[0].clone()
    cut[0, 0, 0] = x[0].max() - 80
    torch.testing.assert_close(picture[0, :1], (cut - cut.mean()) / cut.std(correction=0))
    torch.testing.assert_close(model.picture(x + 40), picture, rtol=0, atol=1e-4)  # a change of level in dB


def test_a_silent_clip_stays_finite() -> None:
    model = create("resnet18", n_mels=32, n_frames=40, n_classes=3, width=0.125).train()
    x = torch.full((2, 1, 32, 40), -100.0)
    x[1] = torch.randn(32, 40, generator=torch.Generator().manual_seed(4))
    model(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.picture(x)[0].abs().max() == 0


def test_three_spectra_keep_their_levels() -> None:
    settings = {"n_mels": 32, "n_frames": 40, "n_classes": 3, "width": 0.125}
    model = create("resnet18", in_channels=3, **settings)
    x = torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(5))
    x[:, 1] -= 10
    gap = (model.picture(x)[:, 0] - model.picture(x)[:, 1]).mean()
    assert gap == pytest.approx(float(10 / x.std(correction=0)), rel=0.02)
    with pytest.raises(ConfigError, match="in_channels=2 is neither 1 nor 3"):
        create("resnet18", in_channels=2, **settings)
    with pytest.raises(ConfigError, match="top_db=0 is not positive"):
        create("resnet18", top_db=0, **settings)
