"""How values are kept: float32, float16, whole numbers on a fixed affine range; and tokens, which are codes themselves.

A token feature says how many codes it has (:attr:`FeatureSpec.vocabulary`). Its encodings have no scale and no offset,
nothing saturates, and the fill value is the largest number of the type, ``uint8`` or ``uint16``.

``mulaw8`` keeps a waveform in 8 bits with steps that grow with the level. Code ``c`` from 0 to 254 is the value
``sign(s) (256 ** |s| - 1) / 255`` with ``s = (c - 127) / 127``: the companding curve of mu-law for mu = 255, which
ITU-T G.711 approximates by straight lines. 255 is the fill value. Code 127 is exactly 0, codes 0 and 254 are exactly
-1 and 1. A value is rounded to the nearest of these, not on the companded scale, which bounds its error by
``0.02232 (|x| + 1 / 255)``, at most 0.02145.

Vectors of an encoder have no range worth fixing, and their dimensions differ in scale: their ``uint8`` and ``uint16``
have a range for each dimension, measured on what is stored, whose digest is in the name: ``uint8(ranges=0f3c…)``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import SpecError, check_known
from featstore.specs.base import FeatureSpec
from featstore.specs.grammar import Call, format_number, parse_call, parse_float
from featstore.specs.quantising import quantise
from featstore.specs.ranges import Ranges

__all__ = ["ENCODINGS", "MEASURED", "Encoding"]

ENCODINGS = ("float32", "float16", "int16", "uint16", "uint8", "mulaw8")
_TOKENS = {"uint8": 255, "uint16": 65535}  # codes that each holds besides its fill value
_TYPES = {"mulaw8": "uint8"}  # encodings that are not numpy types, and what they are kept in
MEASURED = "measured"  # ranges that are still to be measured, or whichever a store has
_MU = 255.0
_MULAW_ZERO = 127  # code of silence: as many codes above as below


@dataclass(frozen=True, slots=True)
class Encoding:
    """A stored number format with its affine range; the fill value is never a valid value.

    Attributes
    ----------
    name : str
        One of :data:`ENCODINGS`; it is the type on disk as well, but for ``mulaw8``.
    low, high : float
        Values of the first and last code of an integer type; what lies outside saturates. Unused for floats and tokens.
    vocabulary : int
        Number of codes where the values are tokens, 0 where they are numbers.
    ranges : str
        Digest of the ranges by dimension, or :data:`MEASURED`; empty for one range.
    table : Ranges or None
        The ranges themselves, where they are known: see :meth:`with_ranges`.

    See Also
    --------
    featstore.store.sizes : What an encoding saves, and its measured error.
    """

    name: str = "float32"
    low: float = 0.0
    high: float = 0.0
    vocabulary: int = 0
    ranges: str = ""
    table: Ranges | None = field(default=None, compare=False, repr=False)

    @classmethod
    def default(cls, spec: FeatureSpec) -> Encoding:
        """Encoding of a feature for which none is asked: float32, for tokens the smallest type that holds them."""
        spec = spec.stored_as
        if spec.vocabulary is None:
            return cls()
        return cls.parse("uint8" if spec.vocabulary <= _TOKENS["uint8"] else "uint16", spec)

    @classmethod
    def parse(cls, text: str | Encoding, spec: FeatureSpec) -> Encoding:
        """Read ``uint8`` or ``uint8(low=-100, high=40)``; without a range the kind's fixed default is taken.

        Raises
        ------
        SpecError
            For an unknown type, an empty range, or an integer type on values without bounds.
        """
        if isinstance(text, Encoding):
            return text
        spec = spec.stored_as
        call = parse_call(str(text))
        check_known(call.name, ENCODINGS, f"unknown encoding {call.name!r}", error=SpecError)
        given = dict(zip(("low", "high"), call.args, strict=False)) | call.kwargs
        if not spec.is_resolved:  # what the type must hold is not known yet: FeatureRequest.complete checks it
            low, high = (parse_float(given.get(name, 0.0), name) for name in ("low", "high"))
            return cls(call.name, low, high, ranges=given.get("ranges", ""))
        if spec.vocabulary is not None:
            return cls._of_tokens(call, spec, spec.vocabulary)
        if call.name == "mulaw8" and spec.value_range != (-1.0, 1.0):
            raise SpecError("mulaw8 is for waveforms", spec.short(), "Use uint16 or uint8")
        if call.name == "mulaw8" or not np.issubdtype(np.dtype(call.name), np.integer):
            if call.args or call.kwargs:
                raise SpecError(f"{call.name} takes no range", "", f"Write {call.name}")
            return cls(call.name, -1.0, 1.0) if call.name == "mulaw8" else cls(call.name)
        if spec.takes_ranges and call.name != "int16" and not set(given) - {"ranges"}:
            return cls(call.name, ranges=given.get("ranges", MEASURED))
        default = spec.value_range
        if call.name == "int16" and (default is None or default[0] != -default[1]):
            raise SpecError("int16 is for waveforms", spec.kind, "Use uint16 or uint8")
        if set(given) - {"low", "high"} or (default is None and set(given) != {"low", "high"}):
            raise SpecError(
                f"{call.name} needs a bounded scale, or low= and high=",
                spec.short(),
                "Use scale=db, or a float encoding",
            )
        low, high = default or (0.0, 0.0)
        low, high = parse_float(given.get("low", low), "low"), parse_float(given.get("high", high), "high")
        if low >= high:
            raise SpecError(
                f"low={format_number(low)} is not below high={format_number(high)}", call.name, "Widen the range"
            )
        return cls(call.name, low, high)

    @classmethod
    def _of_tokens(cls, call: Call, spec: FeatureSpec, vocabulary: int) -> Encoding:
        if call.args or call.kwargs:
            raise SpecError(f"{call.name} of tokens takes no range", spec.short(), f"Write {call.name}")
        room = _TOKENS.get(call.name)
        if room is None:
            raise SpecError(f"{call.name} is not for tokens", spec.short(), f"Use {', '.join(_TOKENS)}")
        if vocabulary > room:
            fits = [name for name, most in _TOKENS.items() if vocabulary <= most]
            raise SpecError(
                f"{call.name} holds {room} codes, not {vocabulary}", spec.short(), f"Use {' or '.join(fits) or 'less'}"
            )
        return cls(call.name, vocabulary=vocabulary)

    def with_ranges(self, table: Ranges) -> Encoding:
        """Return the encoding with ranges by dimension, which name it."""
        return replace(self, ranges=table.digest, table=table)

    def admits(self, stored: Encoding) -> bool:
        """Whether a stored encoding is what this one asks for."""
        return self == stored or (self.ranges == MEASURED and stored.name == self.name and stored.ranges != "")

    def __str__(self) -> str:
        if self.ranges:
            return f"{self.name}(ranges={self.ranges})"
        return (
            f"{self.name}(low={format_number(self.low)},high={format_number(self.high)})"
            if self.is_affine
            else self.name
        )

    @property
    def _type(self) -> str:
        return _TYPES.get(self.name, self.name)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the encoded values (little-endian)."""
        return np.dtype(self._type).newbyteorder("<")

    @property
    def is_integer(self) -> bool:
        """Whether values are kept as whole numbers: quantised, or tokens."""
        return np.issubdtype(np.dtype(self._type), np.integer)

    @property
    def is_affine(self) -> bool:
        """Whether values are whole numbers on an affine range: ``code * scale_factor + add_offset``."""
        return self.is_integer and not self.is_tokens and self.levels is None and not self.ranges

    @property
    def levels(self) -> FloatArray | None:
        """Value of every valid code, ascending float32, where no formula of CF says it (``mulaw8``); else None."""
        return _mulaw_levels() if self.name == "mulaw8" else None

    @property
    def is_tokens(self) -> bool:
        """Whether values are codes that stand for themselves."""
        return self.vocabulary > 0

    @property
    def value_dtype(self) -> np.dtype[Any]:
        """Type of decoded values: float32, for tokens int32."""
        return np.dtype(np.int32 if self.is_tokens else np.float32)

    @property
    def missing(self) -> float | int:
        """What stands for *missing* among decoded values: NaN, for tokens -1."""
        return -1 if self.is_tokens else float("nan")

    @property
    def fill_value(self) -> float | int:
        """Reserved value that stands for *missing*: NaN, the largest unsigned code, the smallest signed one."""
        if not self.is_integer:
            return float("nan")
        info = np.iinfo(self._type)
        return int(info.min if info.min < 0 else info.max)

    @property
    def _codes(self) -> tuple[int, int]:
        info = np.iinfo(self._type)
        return (int(info.min) + 1, int(info.max)) if info.min < 0 else (0, int(info.max) - 1)

    @property
    def scale_factor(self) -> float:
        """CF attribute: value = code * scale_factor + add_offset."""
        if not self.is_affine:
            return 1.0
        first, last = self._codes
        return (self.high - self.low) / (last - first)

    @property
    def add_offset(self) -> float:
        """CF attribute: value = code * scale_factor + add_offset."""
        return self.low - self._codes[0] * self.scale_factor if self.is_affine else 0.0

    @property
    def error_bound(self) -> float | None:
        """Largest absolute error of a value inside the range; None where it is relative (float16)."""
        if self.is_tokens:
            return 0.0
        if self.levels is not None:  # half the widest step
            return float(np.diff(self.levels.astype(np.float64)).max()) / 2
        if self.ranges:
            if self.table is None:
                return None
            low, high = self.table.low.astype(np.float64), self.table.high.astype(np.float64)
            return float(_affine_error(self.table.step(self._codes[1]), low, high).max(initial=0))
        if self.is_integer:
            return float(_affine_error(self.scale_factor, self.low, self.high))
        return 0.0 if self.name == "float32" else None

    def encode(self, x: FloatArray) -> tuple[AnyArray, int]:
        """Return ``x`` in the stored type, and how many values saturated.

        Raises
        ------
        SpecError
            When a value of a token feature is no code of its vocabulary: tokens never saturate.
        """
        if self.is_tokens:
            return self._encode_tokens(x), 0
        if not self.is_integer:
            if self.name == "float32":
                return np.ascontiguousarray(x, dtype=self.dtype), 0
            limit = np.float32(np.finfo(np.float16).max)
            outside = int(np.count_nonzero(np.abs(x) > limit))
            return (np.clip(x, -limit, limit) if outside else x).astype(self.dtype), outside
        if self.levels is not None:
            levels = np.searchsorted(_mulaw_midpoints(), x.astype(np.float64), side="right")
            return levels.astype(self.dtype), int(np.count_nonzero(np.abs(x) > self.high))
        first, last = self._codes
        if self.ranges:
            codes, outside = self._table().encode(x, last)
            return codes.astype(self.dtype), outside
        codes = np.rint((x.astype(np.float64) - self.add_offset) / self.scale_factor)
        outside = int(np.count_nonzero((codes < first) | (codes > last)))
        return np.clip(codes, first, last).astype(self.dtype), outside

    def encode_measured(self, x: FloatArray) -> tuple[AnyArray, int, float, float]:
        """Return ``x`` in the stored type, how many values saturated, and the largest and total absolute error."""
        affine = _affine_of(self)
        if affine is not None:
            return quantise(x, self.dtype, **affine)
        codes, saturated = self.encode(x)
        error = np.abs(self.decode(codes) - x)
        return codes, saturated, float(error.max(initial=0.0)), float(error.sum(dtype=np.float64))

    def _table(self) -> Ranges:
        if self.table is None:
            raise SpecError(f"the ranges of {self} are not known", "", "Read them from the store that has them")
        return self.table

    def _encode_tokens(self, x: AnyArray) -> AnyArray:
        codes = x.astype(np.int64)
        if codes.size and not (codes.min() >= 0 and codes.max() < self.vocabulary and np.array_equal(codes, x)):
            wrong = x[(codes < 0) | (codes >= self.vocabulary) | (codes != x)][0]
            raise SpecError(f"{wrong} is no token", f"a vocabulary of {self.vocabulary}", "Report this as a bug")
        return codes.astype(self.dtype)

    def decode(self, x: Any, xp: Any = np) -> Any:
        """Return stored values as :attr:`value_dtype` (numpy array or torch tensor); fill values become ``missing``."""
        if self.is_tokens:
            codes = np.asarray(x).astype(np.int32) if xp is np else x.to(xp.int32)
            return xp.where(codes == self.fill_value, xp.full_like(codes, -1), codes)
        if self.levels is not None:
            table = _mulaw_table()
            return table[x] if xp is np else xp.from_numpy(table).to(x.device)[x.to(xp.int32)]
        if self.ranges:
            values = self._table().decode(x, self._codes[1], xp)
            return xp.where(x == self.fill_value, xp.full_like(values, float("nan")), values)
        if xp is np:
            if not self.is_integer:
                return np.asarray(x, dtype=np.float32)
            values = x.astype(np.float32) * np.float32(self.scale_factor) + np.float32(self.add_offset)
            missing = x == self.fill_value
            if missing.any():
                values[missing] = np.nan
            return values
        if not self.is_integer:
            return x.to(xp.float32)
        codes = x.to(xp.float32)
        values = codes * self.scale_factor + self.add_offset
        return xp.where(codes == self.fill_value, xp.full_like(values, float("nan")), values)


def _affine_error(step: Any, low: Any, high: Any) -> Any:
    """Half a step, and what float32 rounds in decoding: the factor, the product, the offset and their sum."""
    return step / 2 + 2.0**-23 * (high - low + np.maximum(np.abs(low), np.abs(high)))


@functools.lru_cache(maxsize=256)
def _affine_of(encoding: Encoding) -> dict[str, Any] | None:
    """How values become codes, None where that is no affine range; asked for every chunk."""
    if not encoding.is_affine:
        return None
    first, last = encoding._codes
    return {"scale_factor": encoding.scale_factor, "add_offset": encoding.add_offset, "first": first, "last": last}


@functools.cache
def _mulaw_levels() -> FloatArray:
    place = (np.arange(2 * _MULAW_ZERO + 1) - _MULAW_ZERO) / _MULAW_ZERO
    levels: FloatArray = (np.sign(place) * ((1 + _MU) ** np.abs(place) - 1) / _MU).astype(np.float32)
    levels.flags.writeable = False
    return levels


@functools.cache
def _mulaw_midpoints() -> AnyArray:
    levels = _mulaw_levels().astype(np.float64)
    return (levels[1:] + levels[:-1]) / 2


@functools.cache
def _mulaw_table() -> FloatArray:
    """Value of each of the 256 codes: the levels, and NaN for the fill value."""
    return np.append(_mulaw_levels(), np.float32(np.nan))
