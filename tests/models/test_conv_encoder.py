"""The small encoder: sizes, one vector a frame, several spectra at once."""

from __future__ import annotations

import pytest
import torch

from featstore.errors import ConfigError
from featstore.models import create
from featstore.models.cost import count_macs, count_parameters


def test_sizes_and_cost_by_arithmetic() -> None:
    model = create("conv-encoder", n_mels=96, n_frames=100, n_classes=10)
    block = 2 * 64 + (64 * 64 * 5 + 64) + (64 * 64 + 64)
    assert count_parameters(model)[0] == (96 * 64 + 64) + 4 * block + (64 * 10 + 10) == 106_186
    assert count_macs(model, (1, 1, 96, 100)) == 100 * (96 * 64 + 4 * (5 * 64 * 64 + 64 * 64)) + 640


def test_a_frame_is_seen_by_its_neighbours_alone() -> None:
    model = create("conv-encoder", n_mels=8, n_frames=200, n_classes=2, width=16, blocks=3, kernel=3).eval()
    x = torch.randn(1, 1, 8, 200)
    moved = x.clone()
    moved[..., 100] += 1
    with torch.no_grad():
        changed = (model.encode(x) - model.encode(moved)).abs().amax(dim=(0, 1)) > 1e-6
    reach = 1 + 2 + 4
    assert changed.nonzero().flatten().tolist() == list(range(100 - reach, 101 + reach))


def test_any_length_and_several_spectra() -> None:
    model = create("conv-encoder", n_mels=8, n_frames=50, n_classes=3, in_channels=2, width=8)
    assert model(torch.randn(4, 2, 8, 50)).shape == model(torch.randn(4, 2, 8, 73)).shape == (4, 3)
    assert model.encode(torch.randn(4, 2, 8, 50)).shape == (4, 8, 50)
    assert create("vgg-cnn", n_mels=96, n_frames=683, n_classes=5, in_channels=3, width=0.05)(
        torch.randn(2, 3, 96, 683)
    ).shape == (2, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width=0 is not a positive whole number"),
        ({"kernel": 4}, "kernel=4 is even"),
        ({"dropout": 1}, r"dropout=1 is not in \[0, 1\)"),
        ({"depth": 3}, "unknown setting 'depth'"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("conv-encoder", n_mels=8, n_frames=50, n_classes=3, **settings)


def test_inputs_of_another_kind() -> None:
    with pytest.raises(ConfigError, match="a waveform for a model that takes spectra: n_frames, n_mels not given"):
        create("conv-encoder", n_samples=16000, n_classes=3)
    with pytest.raises(ConfigError, match=r"2 inputs for a model that takes one .*musicnn"):
        create("musicnn", n_mels=96, n_frames=187, n_classes=3, in_channels=2)
