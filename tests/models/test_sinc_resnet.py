from __future__ import annotations

import pytest
import torch

from featstore.errors import ConfigError
from featstore.models import create
from featstore.models.cost import count_macs, count_parameters
from featstore.models.sinc_resnet import MsSincResnet

SMALL = {"n_classes": 3, "filters": 6, "lengths": (21, 41, 81), "columns": 64, "width": 0.125, "fc_hidden": 16}


def on_meta(name: str = "ms-sinc-resnet", **settings: object) -> torch.nn.Module:
    with torch.device("meta"):
        return create(name, **{"n_samples": 48_000, "n_classes": 10, **settings}).eval()


# settings: parameters, GMAC of a clip
TABLE = [
    ({}, 12_590_794, 19.176),
    ({"n_classes": 6}, 12_588_742, None),
    ({"signal_gain": False}, 12_494_794, None),
    ({"fc_hidden": None}, 11_300_042, None),
    ({"head": "gap"}, 11_279_562, 19.175),
    ({"head": "gap", "fc_hidden": None}, 11_279_562, None),
    ({"filters": 80}, 12_589_834, 9.723),
    ({"filters": 80, "head": "gap"}, 11_278_602, None),
]


@pytest.mark.parametrize(("settings", "parameters", "gmacs"), TABLE)
def test_sizes_of_the_table(settings: dict[str, object], parameters: int, gmacs: float | None) -> None:
    model = on_meta(**settings)
    assert count_parameters(model)[0] == parameters
    if gmacs is not None:
        assert count_macs(model, (1, 1, 48_000)) / 1e9 == pytest.approx(gmacs, abs=5.01e-4)


def test_equal_banks_have_as_many_parameters() -> None:
    for length in (251, 501, 1001):
        assert count_parameters(on_meta("sinc-resnet", lengths=(length,) * 3))[0] == 12_590_794
    assert on_meta("sinc-resnet").config.lengths == (251, 251, 251)


@pytest.mark.parametrize(("filters", "parameters", "gmacs"), [(160, 97_920, 13.25), (80, 96_960, 6.63)])
def test_front_end_is_most_of_the_arithmetic(filters: int, parameters: int, gmacs: float) -> None:
    model = on_meta(filters=filters)
    trunk = sum(p.numel() for name, p in model.named_parameters() if name.startswith(("signal_norm", "maps")))
    assert trunk == parameters
    fronts = count_macs(model, (1, 1, 48_000)) - count_macs(model.trunk, (1, 3, filters, 1024)) - 2560 * 512 - 5120
    assert fronts / 1e9 == pytest.approx(gmacs, abs=5.01e-3)


@pytest.mark.parametrize(("filters", "rows"), [(160, 5), (80, 3)])
def test_shapes_of_the_table(filters: int, rows: int) -> None:
    model, x = on_meta(filters=filters), torch.empty(2, 1, 48_000, device="meta")
    found = [layer.bank(x).shape for layer in model.maps]
    assert found == [(2, filters, n) for n in (47_750, 47_500, 47_000)]
    picture = model.front(x)
    assert picture.shape == (2, 3, filters, 1024)
    assert model.trunk.embedder.embedder(picture).shape == (2, 64, filters // 2, 512)
    y, sizes = model.trunk.embedder(picture), []
    for stage in model.trunk.encoder.stages:
        y = stage(y)
        sizes.append(tuple(y.shape[1:]))
    assert sizes[0] == (64, filters // 4, 256) and sizes[1] == (128, filters // 8, 128)
    assert sizes[2:] == [(256, filters // 16, 64), (512, rows, 32)]
    assert model.forward_features(x).shape == (2, 512)
    assert on_meta(fc_hidden=None).forward_features(x).shape == (2, 2560)


def test_front_keeps_the_order_of_the_banks_and_ignores_the_level() -> None:
    torch.manual_seed(0)
    model = create("ms-sinc-resnet", n_samples=4000, **SMALL).eval()
    x = torch.randn(2, 1, 4000)
    with torch.no_grad():
        picture = model.front(x)
        normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        for channel, layer in enumerate(model.maps):
            torch.testing.assert_close(picture[:, channel], layer(normed), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.front(1.1 * x), picture, rtol=1e-3, atol=1e-3)
    assert [layer.bank.length for layer in model.maps] == [21, 41, 81]
    names = ("low_hz", "band_hz")
    assert model.cutoff_names() == [f"maps.{k}.bank.{name}" for k in range(3) for name in names]


def test_silence_scores_and_trains() -> None:
    torch.manual_seed(0)
    model = create("ms-sinc-resnet", n_samples=4000, **SMALL).train()
    x = torch.randn(3, 1, 4000)
    x[1] = 0
    model(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.isfinite(model.eval()(x)).all()


def test_equal_banks_differ_after_a_step() -> None:
    torch.manual_seed(0)
    model = create("sinc-resnet", n_samples=4000, **SMALL | {"lengths": (41,) * 3}).train()
    with torch.no_grad():
        picture = model.front(torch.randn(2, 1, 4000))
    assert torch.equal(picture[:, 0], picture[:, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.randn(4, 1, 4000)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.maps[0].bank.low_hz, model.maps[1].bank.low_hz)


@pytest.mark.parametrize("shape", [(2, 2, 4000), (2, 4000), (2, 1, 3999)])
def test_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    model = create("ms-sinc-resnet", n_samples=4000, **SMALL)
    wanted = "clips of 3999 samples for a model of 4000" if shape[-1] == 3999 else r"not \(batch, 1, n_samples\)"
    with pytest.raises(ConfigError, match=wanted):
        model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lengths": (251, 501)}, "are not three"),
        ({"head": "mean"}, "head='mean' is none of spp, gap"),
        ({"n_samples": 800}, "filters of 1001 taps on 800 samples"),
        ({"lengths": (1, 2, 3)}, "length=1 is no number of taps"),
        ({"fc_hidden": 0}, "fc_hidden=0 is not a positive"),
        ({"width": -1}, "width=-1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        on_meta(**settings)


def test_frozen_trunk_keeps_its_statistics() -> None:
    torch.manual_seed(0)
    model = create("ms-sinc-resnet", n_samples=4000, **SMALL).train()
    model.trunk.requires_grad_(False).eval()
    before = {name: value.clone() for name, value in model.trunk.state_dict().items()}
    model(torch.randn(4, 1, 4000)).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in model.trunk.state_dict().items())
    assert model.maps[0].bank.low_hz.grad.abs().max() > 0
    assert isinstance(model, MsSincResnet)


# input samples, filters, taps: lengths after the pools, parameters with 10 classes, GMAC of a chunk
SINCNET = [
    (3200, 80, 251, (983, 326, 107), 21_846_450, 0.110),
    (3200, 80, 501, (900, 298, 98), 20_721_730, None),
    (3200, 80, 1001, (733, 243, 79), 18_349_130, None),
    (3200, 160, 251, (983, 326, 107), 22_027_890, None),
    (3200, 160, 501, (900, 298, 98), 20_889_890, None),
    (3200, 160, 1001, (733, 243, 79), 18_490_570, 0.410),
    (48_000, 80, 251, (15_916, 5304, 1766), 229_178_770, None),
]


@pytest.mark.parametrize(("n_samples", "filters", "length", "times", "parameters", "gmacs"), SINCNET)
def test_sincnet_of_the_table(
    n_samples: int, filters: int, length: int, times: tuple[int, ...], parameters: int, gmacs: float | None
) -> None:
    model = on_meta("sincnet", n_samples=n_samples, filters=filters, length=length)
    assert model.config.times == times
    assert count_parameters(model)[0] == parameters
    x = torch.empty(1, 1, n_samples, device="meta")
    assert model(x).shape == (1, 10)
    if gmacs is not None:
        assert count_macs(model, tuple(x.shape)) / 1e9 == pytest.approx(gmacs, abs=5.01e-4)


def test_sincnet_norms_use_the_unbiased_deviation() -> None:
    torch.manual_seed(0)
    model = create("sincnet", n_samples=800, n_classes=4, filters=4, length=51, dense=8).train()
    x = torch.randn(3, 1, 800)
    normed = model.input_layer_norm(x)
    torch.testing.assert_close(normed, (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6))
    x[1] = 0
    model(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    with pytest.raises(ConfigError, match="n_samples=100 leaves nothing after three pools"):
        create("sincnet", n_samples=100, n_classes=4, length=51)
