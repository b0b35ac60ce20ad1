from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import ConfigError
from featstore.models import create, setting_names
from featstore.models.cost import count_macs, count_parameters
from featstore.models.vgg_cnn import FREQUENCY_POOLS, TIME_POOLS, VggCnnConfig, choose_pools, map_sizes
from tests.models.macs_by_hand import layer_macs


def on_meta(**sizes) -> torch.nn.Module:
    with torch.device("meta"):
        return create("vgg-cnn", **sizes).eval()


def test_macs_of_one_geometry_exactly() -> None:
    model = on_meta(n_mels=96, n_frames=1366, n_classes=50)
    by_hand = layer_macs(model, (1, 1, 96, 1366))
    assert list(by_hand.values()) == [151_068_672, 7_240_679_424, 2_165_833_728, 452_984_832, 102_400]
    assert count_macs(model, (4, 1, 96, 1366)) == 4 * 10_010_669_056


def test_split_of_parameters_and_statistics() -> None:
    model = on_meta(n_mels=96, n_frames=1366, n_classes=50)
    convolutions = [sum(p.numel() for p in block[0].parameters()) for block in model.blocks]
    assert convolutions == [1_280, 442_752, 2_654_976, 14_157_824]
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert sum(p.numel() for m in norms for p in m.parameters()) == 6_658
    assert sum(b.numel() for m in norms for n, b in m.named_buffers() if n.startswith("running")) == 6_658
    assert all((m.eps, m.momentum) == (1e-3, 0.01) for m in norms)
    assert sum(p.numel() for p in model.output.parameters()) == 102_450


def test_pools_have_no_padding_and_no_ceiling() -> None:
    pools = [m for m in on_meta(n_mels=32, n_frames=137, n_classes=2).modules() if isinstance(m, torch.nn.MaxPool2d)]
    assert [(p.padding, p.ceil_mode) for p in pools] == [(0, False)] * 4
    assert [p.kernel_size for p in pools] == [(2, 4), (2, 5), (3, 4), (2, 1)]


def test_pooling_before_elu_gives_what_the_study_has_the_other_way_round() -> None:
    torch.manual_seed(0)
    model = create("vgg-cnn", n_mels=48, n_frames=137, n_classes=3, width=1 / 16).eval()
    x = published = torch.randn(2, 1, 48, 137)
    with torch.no_grad():
        published = model.norm(published)
        for convolution, norm, pool, elu in model.blocks:
            published = pool(elu(norm(convolution(published))))
        assert torch.equal(model(x), model.output(published.flatten(1)))


def test_initialisation_is_glorot_uniform_with_zero_bias() -> None:
    torch.manual_seed(0)
    weight = (model := create("vgg-cnn", n_mels=96, n_frames=137, n_classes=50, width=0.25)).blocks[1][0].weight
    bound = math.sqrt(6 / (9 * (weight.shape[0] + weight.shape[1])))
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not any(block[0].bias.any() for block in model.blocks)
    assert not model.output.bias.any()


@pytest.mark.parametrize(("frames", "widths"), [(1365, 8), (455, 2), (273, 1), (1819, 10)])
def test_librosa_framing_has_one_frame_less_and_still_ends_at_one(frames: int, widths: int) -> None:
    for n_mels in FREQUENCY_POOLS:
        pools = choose_pools(VggCnnConfig(n_mels=n_mels, n_frames=frames, n_classes=50))
        assert map_sizes(frames, [p[1] for p in pools])[2:] == [widths, 1]
        assert count_parameters(on_meta(n_mels=n_mels, n_frames=frames, n_classes=50))[0] == 17_365_940


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(n_mels=st.integers(1, 300), frames=st.integers(1, 4000))
def test_any_size_ends_at_one_by_one_or_is_refused(n_mels: int, frames: int) -> None:
    config = VggCnnConfig(n_mels=n_mels, n_frames=frames, n_classes=3, width=1 / 64)
    try:
        pools = choose_pools(config)
    except ConfigError as error:
        assert "is too few" in str(error)
        assert n_mels < 8 or frames < 80
        return
    assert map_sizes(n_mels, [p[0] for p in pools])[-1] == 1
    assert map_sizes(frames, [p[1] for p in pools])[-1] == 1
    near_bands = [row for row in FREQUENCY_POOLS.values() if row[:3] == tuple(p[0] for p in pools)[:3]]
    near_frames = [row for row in TIME_POOLS.values() if row[:3] == tuple(p[1] for p in pools)[:3]]
    assert near_bands, "the first three pools are those of a row of the table"
    assert near_frames
    model = on_meta(n_mels=n_mels, n_frames=frames, n_classes=3, width=1 / 64)
    assert model(torch.empty(2, 1, n_mels, frames, device="meta")).shape == (2, 3)


@settings(max_examples=40, deadline=None)
@given(n_mels=st.integers(1, 300), frames=st.integers(1, 4000))
def test_fitted_pools_take_every_size(n_mels: int, frames: int) -> None:
    pools = choose_pools(VggCnnConfig(n_mels=n_mels, n_frames=frames, n_classes=3, pools="fit"))
    assert map_sizes(n_mels, [p[0] for p in pools])[-1] == 1
    assert map_sizes(frames, [p[1] for p in pools])[-1] == 1


def test_own_pools_may_leave_a_larger_map() -> None:
    model = create("vgg-cnn", n_mels=16, n_frames=33, n_classes=4, width=1 / 64, pools=[(2, 2), (2, 2), (1, 2), (1, 1)])
    assert model.output.in_features == 32 * 4 * 4
    assert model(torch.zeros(2, 1, 16, 33)).shape == (2, 4)


def test_width_scales_the_channels() -> None:
    model = on_meta(n_mels=96, n_frames=187, n_classes=12, width=0.125)
    assert [block[0].out_channels for block in model.blocks] == [16, 48, 96, 256]
    assert model.pools == ((2, 4), (4, 5), (3, 9), (4, 1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_mels": 4}, "n_mels=4 is too few.*at least 8.*pools=fit"),
        ({"n_frames": 19}, "n_frames=19 is too few.*at least 80"),
        ({"n_frames": 0}, "n_frames=0 is not a positive whole number"),
        ({"width": 0.0}, "width=0.0 is not a positive number"),
        ({"norm_momentum": 0}, "norm_momentum=0 is not in"),
        ({"pools": "tabel"}, "pools='tabel' is none of table, released, fit"),
        ({"pools": [(2, 2)]}, r"pools=\[\(2, 2\)\] are not 4 pairs"),
        ({"pools": [(2, 4), (4, 5), (3, 8), (5, 8)]}, "leave nothing of 96 x 1366"),
        ({"pools": "released", "n_frames": 1000}, "the released pools are for the study's sizes, not for 96 x 1000"),
        ({"widht": 0.5}, "unknown setting 'widht' .*Did you mean width"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("vgg-cnn", **({"n_mels": 96, "n_frames": 1366, "n_classes": 5} | wrong))


def test_unknown_model_names_the_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'vgg_cnn'.*Did you mean vgg-cnn"):
        create("vgg_cnn", n_mels=96, n_frames=187, n_classes=2)
    assert setting_names("vgg-cnn") == ["width", "pools", "norm_momentum"]
