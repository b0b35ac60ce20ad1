"""Token specs without a checkpoint: a full name is enough, a short one is completed from those of a store."""

from __future__ import annotations

import numpy as np
import pytest

from featstore.errors import SpecError
from featstore.specs import Encoding, match_stored, parse_spec

FULL = (
    "vq_tokens.r1(sample_rate=24000,decoder=soundfile,resampler=soxr_hq,clip=whole,engine=native,codec=encodec,level=0,"
    "weights=0123456789abcdef0123456789abcdef,normalize=none,n_codebooks=4,hop=320,n_codes=1024,code_width=128)"
)


def test_a_full_name_needs_no_weights():
    spec = parse_spec(FULL)
    assert str(spec) == FULL and spec.frame_step == 320 and spec.vocabulary == 1024
    assert spec.codebook_name == "encodec-0123456789abcdef-4"
    assert str(Encoding.default(spec)) == "uint16"
    codes = parse_spec(FULL.replace("vq_tokens", "vq_codes"))
    assert codes.combine == "sum" and codes.width == 128 and codes.vocabulary is None and codes.stored_as == spec
    assert codes.replace(combine="concat").width == 512
    assert parse_spec(str(codes)) == codes


def test_a_short_name_is_completed_from_those_that_are_stored():
    spec = parse_spec(FULL)
    peak = spec.replace(normalize="peak", clip="start(3 s)")
    assert spec.short() == "vq_tokens(codec=encodec,n_codebooks=4,weights=0123456789ab)"
    assert not parse_spec(spec.short()).is_resolved
    for each in (spec, peak):
        assert (
            match_stored(each.short(), [parse_spec("mel()"), spec, peak, spec.replace(weights="f" * 32)]).spec == each
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("codec=encodec", "codec=encodek"), r"codec='encodek' is unknown.*encodec"),
        (("hop=320", "hop=0"), r"hop=0 is out of range"),
        (("normalize=none", "normalize=loud"), r"normalize='loud' is unknown"),
        (("n_codes=1024", "codes=1024"), r"unknown field 'codes'.*n_codes"),
    ],
)
def test_names_that_contradict(change, told):
    parse_spec(FULL)
    with pytest.raises(SpecError, match=told):
        parse_spec(FULL.replace(*change))


def test_what_fits_nothing_or_too_much_is_counted() -> None:
    spec = parse_spec(FULL)
    with pytest.raises(SpecError, match=r"n_codebooks=4.* fits none of the stored features .* Name one of them: none"):
        match_stored(spec.short(), [parse_spec("mel()")])
    two = [spec, spec.replace(weights="0123456789ab" + "f" * 20)]
    with pytest.raises(SpecError, match=r"fits 2 of the stored features"):
        match_stored("vq_tokens(codec=encodec,n_codebooks=4,weights=0123456789ab)", two)


@pytest.mark.parametrize("wrong", [3.5, -1.0, 1024.0])
def test_a_value_that_is_no_code_is_named(wrong: float) -> None:
    encoding = Encoding.default(parse_spec(FULL))
    codes, saturated = encoding.encode(np.array([0, 1023, 7], dtype=np.float32))
    assert codes.tolist() == [0, 1023, 7] and saturated == 0
    with pytest.raises(SpecError, match=rf"^{wrong} is no token"):
        encoding.encode(np.array([0, wrong, 7], dtype=np.float32))
