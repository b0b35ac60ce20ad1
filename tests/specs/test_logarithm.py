"""The decimal logarithm: bits of the C library's, and what happens outside positive numbers."""

from __future__ import annotations

import numpy as np
import pytest

from featstore.specs import Scale
from featstore.specs.logarithm import log10

rng = np.random.default_rng(21)
# float32 and their decimal logarithms as the GNU C library 2.36 has them, both as bits
KNOWN = {
    0x00800000: 0xC217B818,  # 2 ** -126
    0x2EDBE6FF: 0xC1200000,  # 1e-10
    0x3DCCCCCD: 0xBF800000,  # 0.1
    0x3F7FFFFF: 0xB2DE5BD9,  # the last below 1
    0x3F800000: 0x00000000,  # 1
    0x3F800001: 0x335E5BD8,  # the first above 1
    0x40000000: 0x3E9A209B,  # 2
    0x402DF854: 0x3EDE5BD8,  # e
    0x7F7FFFFF: 0x421A209B,  # the largest
}


def test_bits_of_known_values() -> None:
    values = np.array(list(KNOWN), np.uint32).view(np.float32)
    assert log10(values).view(np.uint32).tolist() == list(KNOWN.values())


def test_error_stays_below_two_units_in_the_last_place() -> None:
    bits = rng.integers(0x00800000, 0x7F800000, 200_000, dtype=np.uint32)
    values = bits.view(np.float32)
    exact = np.log10(values.astype(np.float64))
    assert np.max(np.abs(log10(values) - exact) / np.spacing(np.abs(exact).astype(np.float32))) < 2


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 31])
def test_a_value_does_not_depend_on_its_neighbours(count: int) -> None:
    values = rng.random(count).astype(np.float32) + np.float32(0.01)
    alone = [float(log10(values[k : k + 1])[0]) for k in range(count)]
    assert log10(values).tolist() == alone


@pytest.mark.parametrize("odd", [0.0, -1.0, np.nan, np.inf, 1e-40])
def test_nor_on_odd_neighbours_where_numpys_last_bits_are_others(odd: float, monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng.random(40).astype(np.float32) + np.float32(0.01)
    alone = log10(values, factor=10)
    numpys = np.log10
    monkeypatch.setattr(np, "log10", lambda x: np.nextafter(numpys(x), np.float32(np.inf)))  # as with AVX-512
    with np.errstate(all="ignore"):
        beside = log10(np.insert(values, 17, odd).astype(np.float32), factor=10)
    assert np.array_equal(np.delete(beside, 17), alone)


def test_the_steps_around_it_are_rounded_one_by_one() -> None:
    x = rng.random((5, 33)).astype(np.float32)
    linear = np.maximum(x * np.float32(3) + np.float32(0.5), np.float32(1))
    assert np.array_equal(log10(x, gain=3, offset=0.5, floor=1, factor=20), log10(linear) * np.float32(20))


@pytest.mark.parametrize("scale", ["db", "db(amin=1e-5,factor=20)", "db(amin=1e-40)", "log10_1p", "log10_1p(gain=3)"])
def test_scales_of_odd_numbers_are_numpys(scale: str) -> None:
    x = np.array([[0, np.inf, np.nan, 1e-39, 1e-42], [0.5, 1, 2, 1e-10, 3e38]], np.float32).T
    made = Scale.parse(scale)
    settings = dict(made.params)
    linear = np.maximum(x, np.float32(settings["amin"])) if made.name == "db" else x * settings["gain"] + 1
    with np.errstate(all="ignore"):
        expected = np.log10(linear.astype(np.float64)) * settings.get("factor", 1)
        found = made.apply(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
