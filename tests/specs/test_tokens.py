"""Token specs without a checkpoint at hand: a full name is enough, a codec's facts cannot contradict each other."""

from __future__ import annotations

import pytest

from featstore.errors import SpecError
from featstore.specs import Encoding, parse_spec

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


def test_a_name_seen_before_can_be_shortened():
    spec = parse_spec(FULL)
    assert spec.short() == "vq_tokens(codec=encodec,n_codebooks=4,weights=0123456789ab)"
    assert parse_spec(spec.short()) == spec
    assert parse_spec(spec.replace(normalize="peak", clip="start(3 s)").short()).normalize == "peak"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("codec=encodec", "codec=encodek"), r"codec='encodek' is unknown.*encodec"),
        (("hop=320", "hop=0"), r"hop=0 is out of range"),
        (("hop=320", "hop=640"), r"hop=640 does not fit weights 0123"),
        (("normalize=none", "normalize=loud"), r"normalize='loud' is unknown"),
        (("n_codes=1024", "codes=1024"), r"unknown field 'codes'.*n_codes"),
    ],
)
def test_names_that_contradict(change, told):
    parse_spec(FULL)
    with pytest.raises(SpecError, match=told):
        parse_spec(FULL.replace(*change))
