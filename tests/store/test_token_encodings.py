"""Encodings of tokens: whole numbers without scale, in the smallest type."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from featstore.errors import SpecError
from featstore.specs import KINDS, Encoding, FeatureSpec, parse_spec
from featstore.specs.base import integer
from featstore.store.records import CommitRecord
from featstore.store.sizes import measured


@dataclass(frozen=True, slots=True, kw_only=True)
class ToySpec(FeatureSpec):
    kind: ClassVar[str] = "toy_tokens"
    sample_rate: int = integer(44100)
    codes: int = integer(2048)
    books: int = integer(1)

    @property
    def vocabulary(self) -> int:
        return self.codes

    @property
    def frame_step(self) -> int:
        return 128


@pytest.fixture(autouse=True)
def known(monkeypatch) -> None:
    monkeypatch.setitem(KINDS, "toy_tokens", f"{__name__}:ToySpec")


def test_what_does_not_fit_is_refused() -> None:
    spec = ToySpec(codes=300)
    with pytest.raises(SpecError, match=r"uint8 holds 255 codes, not 300.*Use uint16"):
        Encoding.parse("uint8", spec)
    with pytest.raises(SpecError, match="float32 is not for tokens"):
        Encoding.parse("float32", spec)
    with pytest.raises(SpecError, match="takes no range"):
        Encoding.parse("uint16(low=0,high=1)", spec)
    with pytest.raises(SpecError, match="unknown encoding 'packed11'"):
        Encoding.parse("packed11", spec)
    encoding = Encoding.parse("uint16", spec)
    for wrong in (-1.0, 300.0, 2.5):
        with pytest.raises(SpecError, match=f"{wrong} is no token"):
            encoding.encode(np.array([1.0, wrong], dtype=np.float32))


def test_defaults_and_attributes() -> None:
    assert str(Encoding.default(ToySpec(codes=255))) == "uint8"
    assert str(Encoding.default(ToySpec(codes=256))) == "uint16"
    assert str(Encoding.default(parse_spec("mel"))) == "float32"
    encoding = Encoding.parse("uint16", ToySpec())
    assert (encoding.dtype, encoding.fill_value, encoding.scale_factor, encoding.add_offset) == ("<u2", 65535, 1.0, 0.0)
    assert (str(encoding), encoding.error_bound, encoding.missing) == ("uint16", 0.0, -1)
    import torch

    codes = np.array([3, 65535, 2047], dtype=np.uint16)
    assert encoding.decode(codes).tolist() == [3, -1, 2047]
    assert encoding.decode(torch.from_numpy(codes), xp=torch).tolist() == [3, -1, 2047]


def test_near_ties_are_summed_only_where_every_shard_tells() -> None:
    def record(shard: int, **quality: float) -> CommitRecord:
        found = {"values": 10, "saturated": 0, "max_error": 0.0, "sum_error": 0.0} | quality
        return CommitRecord(
            key="k", name="n", shard=shard, generation=1, first_row=0, n_frames=[], sources=[], quality=found
        )

    counted, silent, empty = record(0, near_ties=3), record(1), record(2, values=0)
    assert measured([counted, record(1, near_ties=0), empty])["near_ties"] == 3
    assert "near_ties" not in measured([counted, silent]), "a sum that leaves a shard out would be too small"
    assert "near_ties" not in measured([silent]) and measured([silent])["measured_values"] == 10
