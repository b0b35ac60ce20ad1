"""Codes to values, and the search for holes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featstore.loaders.codes import Decoder, first_hole
from featstore.specs import Encoding, parse_spec
from featstore.specs.views import View, view_of

DB = parse_spec("mel(scale=db)")
LOG = parse_spec("mel(hop_length=512,scale=log10_1p)")


@pytest.mark.parametrize("name", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("want", [DB, LOG])
def test_values_are_those_of_encoding_and_view(name, want):
    encoding = Encoding.parse(name, DB)
    decoder = Decoder(encoding, view_of(want, DB, encoding))
    codes, _ = encoding.encode(np.random.default_rng(0).uniform(-100, 40, (4, 5, 30)).astype(np.float32))
    expected = decoder.view.apply(encoding.decode(codes))
    np.testing.assert_allclose(decoder.values(torch.from_numpy(codes)).numpy(), expected, rtol=1e-5, atol=1e-6)
    out = np.empty(codes.shape, dtype=np.float32 if decoder.has_table else codes.dtype)
    decoder.put(out, codes)
    assert np.array_equal(out, expected if decoder.has_table else codes)
    assert torch.equal(
        pickle.loads(pickle.dumps(decoder)).values(torch.from_numpy(codes)), decoder.values(torch.from_numpy(codes))
    )


def test_signed_codes():
    encoding = Encoding.parse("int16", parse_spec("waveform()"))
    decoder = Decoder(encoding, View())
    codes, _ = encoding.encode(np.linspace(-1, 1, 1000, dtype=np.float32))
    assert np.array_equal(decoder.values(torch.from_numpy(codes)).numpy(), encoding.decode(codes))
    assert np.isnan(decoder.table[np.array([encoding.fill_value], dtype=np.int16).view(np.uint16)[0]])


@given(
    st.sampled_from(["uint8", "uint16", "int16", "float16", "float32"]),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=3),
    st.booleans(),
)
def test_holes_are_found(name, holes, strided):
    encoding = Encoding(name, -1, 1)
    whole = np.zeros((3, 20), dtype=encoding.dtype)
    codes = whole[:, ::2] if strided else np.ascontiguousarray(whole[:, ::2])
    for band, frame in holes:
        codes[band, frame] = encoding.fill_value
    assert first_hole(codes, encoding.fill_value) == (min(frame for _, frame in holes) if holes else None)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_infinities_are_no_holes(dtype):
    codes = np.array([[np.inf, -np.inf, np.finfo(dtype).max, -np.finfo(dtype).max, -0.0]], dtype=dtype)
    assert first_hole(codes, np.nan) is None
    assert first_hole(np.append(codes, [[-np.nan]], axis=1).astype(dtype), np.nan) == 5
    assert first_hole(codes[:, :0], np.nan) is None
