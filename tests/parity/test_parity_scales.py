"""Decibels and log10(1 + 10000 x) into each other: the errors of float32."""

import numpy as np
import pytest

from featstore.specs import Scale

X = np.logspace(-10, 4, 20001).astype(np.float32)
DB, LOG = Scale.parse("db"), Scale.parse("log10_1p")


def test_decibels_to_log_keep_everything():
    log = LOG.apply(DB.invert(DB.apply(X)))
    assert log.dtype == np.float32
    # the bound of the study's clips, whose power stays below 100
    music = X <= 100
    exact = np.log10(1 + 10000 * X.astype(np.float64))
    assert np.abs(log - exact)[music].max() <= 1.2e-6


@pytest.mark.parametrize(("x", "error"), [(1e-9, 0.03), (1e-8, 0.003)])
def test_log_to_decibels_loses_the_quiet(x, error):
    near = X[(x <= X) & (X <= 100)]
    decibels = DB.apply(np.maximum(LOG.invert(LOG.apply(near)), np.float32(1e-10)))
    assert np.abs(decibels - 10 * np.log10(near.astype(np.float64))).max() <= error * 1.2


def test_released_decibels_are_twice_ours():
    """The study's released code takes 20 log10 of a power; its text, and we, take 10."""
    assert np.allclose(Scale.parse("db(factor=20)").apply(X), 2 * DB.apply(X), atol=1e-4)
    assert DB.apply(np.zeros(3, np.float32)).tolist() == pytest.approx([-100.0] * 3)


def test_finite_far_beyond_music():
    for scale in (DB, LOG):
        assert np.isfinite(scale.apply(np.array([0, 6.56, 1e4, 1e30], np.float32))).all()
