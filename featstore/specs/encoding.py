"""How values are kept: float32, float16, or whole numbers on a fixed affine range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import SpecError, did_you_mean
from featstore.specs.base import FeatureSpec
from featstore.specs.grammar import format_number, parse_call, parse_float

__all__ = ["ENCODINGS", "Encoding"]

ENCODINGS = ("float32", "float16", "int16", "uint16", "uint8")


def _default_range(spec: FeatureSpec) -> tuple[float, float] | None:
    """Range of an integer encoding for this feature, or None where values have no bound worth fixing."""
    if spec.kind == "waveform":
        return -1.0, 1.0
    scale = getattr(spec, "scale", None)
    if scale is None:
        return None
    params = dict(scale.params)
    banked = getattr(spec, "n_mels", 0) > 0
    if scale.name == "db":
        step = params["factor"] / 10
        return -100.0 * step, (40.0 if banked else 70.0) * step
    if scale.name == "log10_1p":
        return 0.0, float(np.log10(1 + params["gain"])) + (4.0 if banked else 7.0)
    if scale.name == "ln":
        return float(np.log(params["eps"])), (10.0 if banked else 17.0)
    return None


@dataclass(frozen=True, slots=True)
class Encoding:
    """A stored number format with its affine range; the fill value is never a valid value.

    Attributes
    ----------
    name : str
        One of :data:`ENCODINGS`; it is the type on disk as well.
    low, high : float
        Values of the first and last code of an integer type; what lies outside saturates. Unused for floats.
    """

    name: str = "float32"
    low: float = 0.0
    high: float = 0.0

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
        call = parse_call(str(text))
        if call.name not in ENCODINGS:
            raise SpecError(f"unknown encoding {call.name!r}", "", did_you_mean(call.name, ENCODINGS))
        if not np.issubdtype(np.dtype(call.name), np.integer):
            if call.args or call.kwargs:
                raise SpecError(f"{call.name} takes no range", "", f"Write {call.name}")
            return cls(call.name)
        if call.name == "int16" and spec.kind != "waveform":
            raise SpecError("int16 is for waveforms", spec.kind, "Use uint16 or uint8")
        default = _default_range(spec)
        given = dict(zip(("low", "high"), call.args, strict=False)) | call.kwargs
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

    def __str__(self) -> str:
        return (
            f"{self.name}(low={format_number(self.low)},high={format_number(self.high)})"
            if self.is_integer
            else self.name
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type on disk (little-endian)."""
        return np.dtype(self.name).newbyteorder("<")

    @property
    def is_integer(self) -> bool:
        """Whether values are quantised on an affine range."""
        return np.issubdtype(np.dtype(self.name), np.integer)

    @property
    def fill_value(self) -> float | int:
        """Reserved value that stands for *missing*: NaN, the largest unsigned code, the smallest signed one."""
        if not self.is_integer:
            return float("nan")
        info = np.iinfo(self.name)
        return int(info.min if info.min < 0 else info.max)

    @property
    def _codes(self) -> tuple[int, int]:
        info = np.iinfo(self.name)
        return (int(info.min) + 1, int(info.max)) if info.min < 0 else (0, int(info.max) - 1)

    @property
    def scale_factor(self) -> float:
        """CF attribute: value = code * scale_factor + add_offset."""
        if not self.is_integer:
            return 1.0
        first, last = self._codes
        return (self.high - self.low) / (last - first)

    @property
    def add_offset(self) -> float:
        """CF attribute: value = code * scale_factor + add_offset."""
        return self.low - self._codes[0] * self.scale_factor if self.is_integer else 0.0

    @property
    def error_bound(self) -> float | None:
        """Largest absolute error of a value inside the range; None where it is relative (float16)."""
        return self.scale_factor / 2 if self.is_integer else (0.0 if self.name == "float32" else None)

    def encode(self, x: FloatArray) -> tuple[AnyArray, int]:
        """Return ``x`` in the stored type, and how many values saturated."""
        if not self.is_integer:
            if self.name == "float32":
                return np.ascontiguousarray(x, dtype=self.dtype), 0
            limit = np.float32(np.finfo(np.float16).max)
            outside = int(np.count_nonzero(np.abs(x) > limit))
            return (np.clip(x, -limit, limit) if outside else x).astype(self.dtype), outside
        first, last = self._codes
        codes = np.rint((x.astype(np.float64) - self.add_offset) / self.scale_factor)
        outside = int(np.count_nonzero((codes < first) | (codes > last)))
        return np.clip(codes, first, last).astype(self.dtype), outside

    def decode(self, x: Any, xp: Any = np) -> Any:
        """Return stored values as float32 (numpy array or torch tensor); fill values become NaN."""
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
