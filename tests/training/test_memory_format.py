"""Channels last, and the narrow networks that torch cannot train with it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from featstore.models import create
from featstore.training.normed_model import NormedModel

STEPS = """
import torch
from featstore.models import create
from featstore.training.normed_model import NormedModel

torch.set_num_threads(1)
model = create("resnet18", n_mels=64, n_frames=96, n_classes=5, width=0.0625)
normed = NormedModel(model, channels_last=True).train()
for _ in range(3):
    normed(torch.randn(4, 64, 96)).sum().backward()
print(all(bool(torch.isfinite(p.grad).all()) for p in normed.parameters()))
"""


@pytest.mark.slow
def test_a_very_narrow_resnet_trains() -> None:
    """In a process of its own, which damaged memory would kill."""
    found = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=120, check=False)
    assert (found.returncode, found.stdout.strip()) == (0, "True"), found.stderr[-500:]


@pytest.mark.parametrize(("width", "last"), [(0.125, True), (0.0625, False)])
def test_only_narrow_shortcuts_give_channels_last_up(width: float, last: bool) -> None:
    model = create("resnet18", n_mels=64, n_frames=96, n_classes=5, width=width)
    NormedModel(model, channels_last=True)
    weight = next(each for each in model.parameters() if each.ndim == 4 and each.shape[1] > 1 and each.shape[2] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last) is last
