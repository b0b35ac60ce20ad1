from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.sinc import (
    SincBank,
    SincMap,
    cutoff_movement,
    filter_by_fft,
    filter_valid,
    initial_bands,
    sinc_taps,
)

RATE = 16_000


def written_out(f1: float, f2: float, length: int, rate: int) -> list[float]:
    """One filter from the formula, value by value."""
    half = (length - 1) // 2
    left = []
    for k in range(half):
        n = k - half
        m = k * (length / 2 - 1) / (half - 1)
        window = 0.54 - 0.46 * math.cos(2 * math.pi * m / length)
        wave = math.sin(2 * math.pi * f2 * n / rate) - math.sin(2 * math.pi * f1 * n / rate)
        left.append(wave / (math.pi * n / rate) * window / (2 * (f2 - f1)))
    return [*left, 1.0, *reversed(left)]


def signal(n_samples: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 1, n_samples, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("length", [251, 501, 1001])
def test_taps_are_those_of_the_formula(length: int) -> None:
    f1, f2 = [80.0, 1000.0, 7818.444], [141.34, 1100.0, 8000.0]
    taps = sinc_taps(f1, np.array(f2), length, RATE)
    assert taps.dtype == torch.float32 and taps.shape == (3, length)
    wanted = np.array([written_out(a, b, length, RATE) for a, b in zip(f1, f2, strict=True)])
    np.testing.assert_allclose(taps.numpy(), wanted, rtol=0, atol=7e-8)
    assert torch.equal(taps, taps.flip(-1))
    assert taps[:, length // 2].tolist() == [1.0, 1.0, 1.0]


def test_an_even_length_is_raised() -> None:
    assert torch.equal(sinc_taps([80.0], [200.0], 250, RATE), sinc_taps([80.0], [200.0], 251, RATE))


def test_gain_in_the_pass_band() -> None:
    tone = torch.cos(2 * math.pi * 1000 * torch.arange(8000) / RATE)[None, None]
    for normalise, gain in (("peak", RATE / (2 * 400)), ("none", RATE)):
        found = functional.conv1d(tone, sinc_taps([800.0], [1200.0], 1001, RATE, normalise=normalise)[:, None])
        assert found.abs().max() == pytest.approx(gain, rel=0.01)


@pytest.mark.parametrize(
    ("f1", "f2", "message"),
    [
        ([100.0], [100.0], "filter 0, sample_rate=16000"),
        ([50.0, 9000.0], [90.0, 9050.0], "cut-offs 9000.0 and 9050.0 Hz are no band .*filter 1"),
        ([-1.0], [90.0], "-1.0 and 90.0"),
        ([float("nan")], [90.0], "nan"),
        ([1.0, 2.0], [90.0], r"shapes \(2,\) and \(1,\)"),
    ],
)
def test_cutoffs_that_are_no_band(f1: list[float], f2: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sinc_taps(f1, f2, 251, RATE)


# filters: f1[0], f2[0], f1[1], f1[-1], f2[-1], narrowest and widest band
BANKS = {
    80: (80.000, 152.857, 102.857, 7688.900, 8000.000, 72.86, 311.10),
    160: (80.000, 141.340, 91.340, 7818.444, 8000.000, 61.34, 181.56),
}


@pytest.mark.parametrize("filters", BANKS)
def test_bank_at_the_start(filters: int) -> None:
    low, band = initial_bands(filters, RATE)
    assert low.shape == band.shape == (filters,)
    assert (float(low[0]), float(low[-1] + band[-1])) == pytest.approx((30, 7900))
    f1, f2 = SincBank(filters, 251, RATE).cutoffs()
    found = (f1[0], f2[0], f1[1], f1[-1], f2[-1], (f2 - f1).min(), (f2 - f1).max())
    assert [float(value) for value in found] == pytest.approx(BANKS[filters], abs=6e-3)
    torch.testing.assert_close(f2[:-1], f1[1:] + 50, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("length", [251, 501, 1001])
def test_fourier_form_equals_the_convolution(length: int) -> None:
    x, taps = signal(12_007), SincBank(8, length, RATE).taps().detach()
    wanted = functional.conv1d(x.double(), taps.double()[:, None])
    assert wanted.shape[-1] == 12_007 - length + 1
    for found in (filter_by_fft(x, taps), filter_valid(x, taps)):
        assert found.shape == wanted.shape
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_gradients_of_both_forms_agree() -> None:
    gradients = []
    for filtered in (filter_by_fft, lambda x, taps: functional.conv1d(x, taps[:, None])):
        bank, x = SincBank(6, 501, RATE), signal(4000).requires_grad_()
        filtered(x, bank.taps()).square().mean().backward()
        gradients.append((bank.low_hz.grad, bank.band_hz.grad, x.grad))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


def test_gradients_are_finite_at_the_edges() -> None:
    low = torch.tensor([0.0, 0.0, 7950.0, 7000.0, 100.0], dtype=torch.float64, requires_grad=True)
    high = torch.tensor([1.0, 8000.0, 8000.0, 7000.001, 100.5], dtype=torch.float64, requires_grad=True)
    sinc_taps(low, high, 251, RATE).square().sum().backward()
    assert torch.isfinite(low.grad).all() and torch.isfinite(high.grad).all()
    bank = SincBank(6, 251, RATE)
    with torch.no_grad():
        bank.low_hz.copy_(torch.tensor([0.0, -0.0, 7900.0, 7950.0, 20_000.0, -9000.0]))
        bank.band_hz.copy_(torch.tensor([0.0, 8000.0, 0.0, 0.0, -300.0, 1e6]))
    found = bank(signal(2000))
    found.square().mean().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(bank.low_hz.grad).all() and torch.isfinite(bank.band_hz.grad).all()


def test_limit_of_the_lower_cutoff_changes_nothing_below_it() -> None:
    bank = SincBank(5, 251, RATE)
    with torch.no_grad():
        bank.low_hz.copy_(torch.tensor([0.0, 100.0, 7899.0, 7900.0, 7999.0]))
        bank.band_hz.copy_(torch.tensor([10.0, -10.0, 0.0, 5.0, 5.0]))
    f1, f2 = bank.cutoffs()
    unlimited = 50 + bank.low_hz.double().abs()
    assert torch.equal(f1[:4], unlimited[:4]) and float(unlimited[4]) == 8049
    assert f1[4] == 7950 and f2[4] == 8000
    start = SincBank(160, 251, RATE)
    assert torch.equal(start.cutoffs()[0], 50 + start.low_hz.double())


def test_taps_are_computed_once_in_eval_mode() -> None:
    bank = SincBank(4, 251, RATE).eval()
    with torch.no_grad():
        first = bank.taps()
        assert bank.taps() is first
        bank.low_hz += 25  # in place: noticed
        moved = bank.taps()
        assert not torch.equal(moved, first)
        bank.load_state_dict(SincBank(4, 251, RATE).state_dict())
        assert torch.equal(bank.taps(), first)
        assert torch.equal(copy.deepcopy(bank).taps(), first)
    assert bank.taps().requires_grad, "with gradients they are computed again"
    assert bank.train().taps() is not bank.taps()


def test_stays_in_float32_under_mixed_precision() -> None:
    bank, x = SincMap(4, 501, RATE, columns=16).eval(), signal(3000)
    with torch.no_grad():
        plain = bank(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = bank(x)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, plain)


def test_columns_are_means_of_the_rectified_output() -> None:
    layer, x = SincMap(3, 251, RATE, columns=7).eval(), signal(1250)
    with torch.no_grad():
        found, rectified = layer(x), layer.norm(layer.bank(x)).clamp(min=0)
    n = rectified.shape[-1]
    for i in range(7):
        wanted = rectified[..., i * n // 7 : -((i + 1) * n // -7)].mean(dim=-1)
        torch.testing.assert_close(found[..., i], wanted)


def test_many_clips_go_in_passes() -> None:
    layer, x = SincMap(3, 251, RATE, columns=7).eval(), signal(1250, batch=19)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer._map(x))


def test_movement_of_the_cutoffs() -> None:
    model = torch.nn.Sequential(SincBank(4, 251, RATE), SincBank(4, 501, RATE))
    assert set(cutoff_movement(model).values()) == {0.0}
    with torch.no_grad():
        model[1].band_hz[2] += 40  # moves one upper cut-off of eight cut-offs
    moved = cutoff_movement(model)
    assert moved["0.max_hz"] == 0
    assert (moved["1.mean_hz"], moved["1.max_hz"]) == pytest.approx((5, 40), rel=1e-4)
