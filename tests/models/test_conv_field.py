"""Receptive fields read off layers, against the support of the gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from featstore.models.conv_field import conv_field
from featstore.models.window_cutters import ReceptiveField

transformers = pytest.importorskip("transformers")


def touched(encoder: nn.Module, n_samples: int, output: int) -> tuple[int, int]:
    generator = torch.Generator().manual_seed(0)
    signal = torch.rand((1, 1, n_samples), generator=generator, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(encoder.double()(signal)[0, :, output].sum(), signal)
    reached = torch.nonzero(gradient[0, 0])[:, 0]
    return int(reached[0]), int(reached[-1])


@pytest.mark.parametrize("strides", [[2, 4], [3, 5], [2, 4, 5], [1, 2, 2]])
def test_dac_encoders_reach_exactly_the_field(strides):
    config = transformers.DacConfig(
        encoder_hidden_size=2,
        downsampling_ratios=strides,
        upsampling_ratios=strides[::-1],
        decoder_hidden_size=16,
        n_codebooks=1,
        codebook_size=8,
        codebook_dim=2,
    )
    torch.manual_seed(0)
    encoder = transformers.DacModel(config).encoder
    found = conv_field(encoder)
    assert found is not None
    output = found.left // found.hop + 2
    first = found.hop * output
    n = first + found.right + 2 * found.hop
    assert touched(encoder, n, output) == (first - found.left, first + found.right)


def test_the_published_sizes():
    """-3733 … +4244 samples at 44.1 kHz, as measured by gradients."""
    config = transformers.DacConfig(
        encoder_hidden_size=1,
        downsampling_ratios=[2, 4, 8, 8],
        upsampling_ratios=[8, 8, 4, 2],
        decoder_hidden_size=16,
        n_codebooks=1,
        codebook_size=8,
        codebook_dim=2,
    )
    assert conv_field(transformers.DacModel(config).encoder) == ReceptiveField(512, 3733, 4244)


def test_what_is_no_chain_of_plain_convolutions_has_no_field():
    conv = nn.Conv1d(1, 2, 3, padding=1)
    assert conv_field(nn.Sequential(conv)) == ReceptiveField(1, 1, 1)
    assert conv_field(nn.Sequential(conv, nn.LSTM(2, 2))) is None
    assert conv_field(nn.Sequential(nn.Conv1d(1, 2, 3, padding="same"))) is None
    assert conv_field(nn.Sequential(nn.Conv1d(1, 2, 3, padding=1, padding_mode="reflect"))) is None
    assert conv_field(nn.Sequential(nn.ReLU())) is None
