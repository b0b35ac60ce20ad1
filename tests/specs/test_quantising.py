"""One pass gives the codes and counts of the formula, at any length, on values that are ties and beyond the range."""

from __future__ import annotations

import numpy as np
import pytest

from featstore.specs import parse_feature

NAMES = ["mel(scale=db)@uint8", "mel(scale=db)@uint16", "waveform()@int16", "mel(scale=db)@uint8(low=-50,high=3.3)"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [0, 1, 7, 8, 96 * 70 + 3])
def test_equal_to_the_formula(name: str, n: int) -> None:
    encoding = parse_feature(name).encoding
    rng = np.random.default_rng(n)
    values = rng.uniform(encoding.low - 5, encoding.high + 5, n).astype(np.float32)
    steps = np.arange(len(values[: n // 2]))
    values[: n // 2] = encoding.low + (steps - 3.5) * np.float32(encoding.scale_factor)  # halves, and below the range
    codes, saturated, max_error, sum_error = encoding.encode_measured(values)
    wanted, outside = encoding.encode(values)
    error = np.abs(encoding.decode(wanted) - values)
    assert codes.dtype == wanted.dtype and np.array_equal(codes, wanted) and saturated == outside
    assert max_error == error.max(initial=0.0)
    assert sum_error == pytest.approx(float(error.sum(dtype=np.float64)), rel=1e-12)


def test_the_shape_is_kept_and_pieces_are_taken() -> None:
    encoding = parse_feature("mel(scale=db)@uint8").encoding
    values = np.linspace(-120, 60, 96 * 40, dtype=np.float32).reshape(96, 40)[:, 5:30:2]
    codes, saturated, _, _ = encoding.encode_measured(values)
    assert codes.shape == values.shape and np.array_equal(codes, encoding.encode(values)[0])
    assert saturated == np.count_nonzero((values < -100.27) | (values > 40.27))
