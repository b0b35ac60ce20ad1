"""Codes to values, and the search for holes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featstore.loaders.codes import Decoder, first_hole
from featstore.loaders.gather import Rooms, gather
from featstore.specs import Encoding, parse_spec
from featstore.specs.views import View, view_of
from featstore.store.chunks import crc32c

DB = parse_spec("mel(scale=db)")
LOG = parse_spec("mel(hop_length=512,scale=log10_1p)")


def gathered(decoder, codes):
    """Codes ``(crops, *lead, frames)`` through compiled code."""
    out = np.empty(codes.shape, dtype=np.float32 if decoder.has_table else codes.dtype)
    rooms = Rooms.of(out, decoder)
    pieces = rooms.pieces(np.arange(len(codes)), 0)
    pieces["chunk"] = Rooms.of(codes, decoder).addresses
    pieces["pitch"], pieces["step"], pieces["frames"] = codes.shape[-1], 1, codes.shape[-1]
    gather(pieces, decoder, rows=int(np.prod(codes.shape[1:-1], dtype=int)), decoded=rooms.decoded)
    assert not pieces["verdict"].any()
    return out


@pytest.mark.parametrize("name", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("want", [DB, LOG])
def test_values_are_those_of_encoding_and_view(name, want):
    encoding = Encoding.parse(name, DB)
    decoder = Decoder(encoding, view_of(want, DB, encoding))
    codes, _ = encoding.encode(np.random.default_rng(0).uniform(-100, 40, (4, 5, 30)).astype(np.float32))
    expected = decoder.view.apply(encoding.decode(codes))
    np.testing.assert_allclose(decoder.values(torch.from_numpy(codes)).numpy(), expected, rtol=1e-5, atol=1e-6)
    out = gathered(decoder, codes)
    assert np.array_equal(out, expected if decoder.has_table else codes)
    assert torch.equal(
        pickle.loads(pickle.dumps(decoder)).values(torch.from_numpy(codes)), decoder.values(torch.from_numpy(codes))
    )


def test_signed_codes():
    encoding = Encoding.parse("int16", parse_spec("waveform()"))
    decoder = Decoder(encoding, View())
    codes, _ = encoding.encode(np.linspace(-1, 1, 1000, dtype=np.float32))
    assert np.array_equal(decoder.values(torch.from_numpy(codes)).numpy(), encoding.decode(codes))
    assert np.array_equal(gathered(decoder, codes[None, None])[0, 0], encoding.decode(codes))
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
    decoder, out = Decoder(encoding, View()), np.empty((1, 3, 10), dtype=np.float32)
    for decoded in (True, False) if decoder.has_table else (False,):
        rooms = Rooms.of(out if decoded else out.astype(encoding.dtype), decoder)
        pieces = rooms.pieces(np.array([0]), 0)
        pieces["chunk"], pieces["pitch"], pieces["frames"] = codes.__array_interface__["data"][0], codes.strides[0], 10
        pieces["pitch"] //= codes.itemsize
        pieces["step"] = codes.strides[1] // codes.itemsize
        gather(pieces, decoder, rows=3, decoded=decoded)
        assert pieces["verdict"].tolist() == [bool(holes)]


@pytest.mark.parametrize("name", ["uint8", "int16", "float16", "float32"])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_pieces_are_checked_and_cut(name, step):
    encoding = Encoding(name, -1, 1)
    decoder = Decoder(encoding, View())
    codes, _ = encoding.encode(np.random.default_rng(1).uniform(-1, 1, (2, 3, 50)).astype(np.float32))
    stored = [bytearray(chunk.tobytes() + crc32c(chunk.tobytes())) for chunk in codes]
    stored[1][70] ^= 1
    out = np.zeros((2, 3, 8), dtype=np.float32 if decoder.has_table else codes.dtype)
    rooms = Rooms.of(out, decoder)
    pieces = rooms.pieces(np.arange(2), 1)
    pieces["chunk"] = [np.frombuffer(data, np.uint8).__array_interface__["data"][0] for data in stored]
    pieces["begin"], pieces["pitch"], pieces["step"], pieces["frames"] = 7, 50, step, 6
    pieces["size"] = codes[0].nbytes
    gather(pieces, decoder, rows=3, decoded=rooms.decoded)
    assert pieces["verdict"].tolist() == [0, 1]
    cut = codes[0][:, 7::step][:, :6]
    assert np.array_equal(out[0, :, 1:7], encoding.decode(cut) if decoder.has_table else cut)
    assert not out[:, :, 0].any() and not out[:, :, 7].any()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_infinities_are_no_holes(dtype):
    codes = np.array([[np.inf, -np.inf, np.finfo(dtype).max, -np.finfo(dtype).max, -0.0]], dtype=dtype)
    assert first_hole(codes, np.nan) is None
    assert first_hole(np.append(codes, [[-np.nan]], axis=1).astype(dtype), np.nan) == 5
    assert first_hole(codes[:, :0], np.nan) is None
