"""Waveforms in 8 bits by mu-law: levels, error bound, fill value, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import SpecError
from featstore.specs import Encoding, parse_feature, parse_spec

WAVEFORM = parse_spec("waveform()")
MULAW = Encoding.parse("mulaw8", WAVEFORM)
STEP = 256 ** (1 / 127) - 1


def test_levels() -> None:
    levels = MULAW.levels
    assert levels is not None and levels.dtype == np.float32 and len(levels) == 255
    assert levels[0] == -1 and levels[127] == 0 and levels[254] == 1
    assert (np.diff(levels) > 0).all() and np.array_equal(levels, -levels[::-1])
    assert levels[128] == np.float32(STEP / 255)  # the quietest: -75.1 dB of full scale
    assert levels[190] == np.float32((256 ** (63 / 127) - 1) / 255)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40))
def test_error_is_bounded_and_the_fill_value_is_never_written(values: list[float]) -> None:
    x = np.array(values, dtype=np.float32)
    codes, saturated = MULAW.encode(x)
    assert codes.dtype == np.uint8 and codes.max() < MULAW.fill_value == 255 and saturated == 0
    decoded = MULAW.decode(codes)
    error = np.abs(decoded.astype(np.float64) - x)
    assert decoded.dtype == np.float32 and error.max() <= MULAW.error_bound
    assert (error <= STEP / 2 * (np.abs(x) + 1 / 255) + 1e-7).all()
    again, _ = MULAW.encode(decoded)
    assert np.array_equal(again, codes)


def test_bound_is_met_between_the_two_loudest_levels() -> None:
    assert MULAW.error_bound == pytest.approx(0.021446, abs=2e-6)
    middle = MULAW.levels[-2:].mean(keepdims=True)
    assert np.abs(MULAW.decode(MULAW.encode(middle)[0]) - middle) == pytest.approx(MULAW.error_bound, abs=1e-6)


def test_silence_is_exact_and_what_is_louder_than_full_scale_saturates() -> None:
    codes, saturated = MULAW.encode(np.array([0.0, -0.0, 5e-5, 1.0, 1.5, -3.0, -1.0], dtype=np.float32))
    assert codes.tolist() == [127, 127, 127, 254, 254, 0, 0] and saturated == 2
    assert MULAW.decode(codes).tolist() == [0, 0, 0, 1, 1, -1, -1]


def test_missing_decodes_to_nan_in_numpy_and_torch() -> None:
    codes = np.arange(256, dtype=np.uint8)
    decoded = MULAW.decode(codes)
    assert np.isnan(decoded[255]) and not np.isnan(decoded[:255]).any()
    assert np.array_equal(MULAW.decode(torch.from_numpy(codes), xp=torch).numpy(), decoded, equal_nan=True)


def test_name() -> None:
    assert str(MULAW) == "mulaw8" and str(parse_feature("waveform()@mulaw8").encoding) == "mulaw8"
    assert MULAW.is_integer and not MULAW.is_affine and (MULAW.scale_factor, MULAW.add_offset) == (1.0, 0.0)
    with pytest.raises(SpecError, match=r"mulaw8 takes no range.*Write mulaw8"):
        Encoding.parse("mulaw8(low=-2,high=2)", WAVEFORM)
    with pytest.raises(SpecError, match=r"mulaw8 is for waveforms.*Use uint16 or uint8"):
        Encoding.parse("mulaw8", parse_spec("mel(scale=db)"))
