"""The elementwise end of every spectral feature: power, magnitude, or one of three named logarithms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from featstore.errors import SpecError, check_known
from featstore.specs.grammar import format_number, parse_call, parse_float
from featstore.specs.logarithm import log10

__all__ = ["SCALES", "Scale"]

# name -> parameters with defaults, in canonical order
SCALES: dict[str, dict[str, float]] = {
    "power": {},
    "magnitude": {},
    "db": {"amin": 1e-10, "factor": 10.0},
    "log10_1p": {"gain": 10000.0},
    "ln": {"eps": 1e-5},
}


@dataclass(frozen=True, slots=True)
class Scale:
    """A named elementwise function of a non-negative linear value (power, unless the feature says otherwise).

    ====================  =====================================================
    ``power``             x
    ``magnitude``         sqrt(x)
    ``db(amin, factor)``  factor * log10(max(x, amin)); no reference, no top_db
    ``log10_1p(gain)``    log10(1 + gain * x)
    ``ln(eps)``           ln(eps + x)
    ====================  =====================================================

    See Also
    --------
    FeatureSpec : Has one where values are spectra.
    """

    name: str
    params: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, text: str | Scale) -> Scale:
        """Read ``db`` or ``db(amin=1e-10, factor=10)``; parameters left out take their defaults."""
        if isinstance(text, Scale):
            return text
        call = parse_call(str(text))
        check_known(call.name, SCALES, f"unknown scale {call.name!r}", error=SpecError)
        defaults = SCALES[call.name]
        if len(call.args) > len(defaults):
            raise SpecError(f"too many parameters in scale {text!r}", "", f"It takes {', '.join(defaults) or 'none'}")
        given = dict(zip(defaults, call.args, strict=False)) | call.kwargs
        for key in given:
            check_known(key, defaults, f"unknown parameter {key!r} of scale {call.name}", error=SpecError)
        values = {key: parse_float(given.get(key, default), f"scale {key}") for key, default in defaults.items()}
        for key, value in values.items():
            if value <= 0:
                raise SpecError(
                    f"{key}={format_number(value)} of scale {call.name} is not positive", "", "Raise it above 0"
                )
        return cls(call.name, tuple(values.items()))

    def __str__(self) -> str:
        inner = ",".join(f"{key}={format_number(value)}" for key, value in self.params)
        return f"{self.name}({inner})" if inner else self.name

    def short(self) -> str:
        """Name alone where all parameters have their defaults."""
        return self.name if dict(self.params) == SCALES[self.name] else str(self)

    def apply(self, x: Any, xp: Any = np) -> Any:
        """Scale linear, non-negative ``x`` of any shape; ``xp`` is numpy or torch, float32 stays float32."""
        return _FORWARD[self.name](x, xp, **dict(self.params))

    def invert(self, y: Any, xp: Any = np) -> Any:
        """Return the linear value that :meth:`apply` takes to ``y``; the dB floor comes back as ``amin``."""
        return _BACKWARD[self.name](y, xp, **dict(self.params))


def _at_least(x: Any, floor: float, xp: Any) -> Any:
    return xp.maximum(x, x.dtype.type(floor)) if xp is np else xp.clamp(x, min=floor)


def _db(x: Any, xp: Any, *, amin: float, factor: float) -> Any:
    if xp is np and x.dtype == np.float32:
        return log10(x, floor=amin, factor=factor)
    return xp.log10(_at_least(x, amin, xp)) * factor


def _log10_1p(x: Any, xp: Any, *, gain: float) -> Any:
    if xp is np and x.dtype == np.float32:
        return log10(x, gain=gain, offset=1)
    return xp.log10(x * gain + 1)


def _ln(x: Any, xp: Any, *, eps: float) -> Any:
    return xp.log(x + eps)


_FORWARD: dict[str, Callable[..., Any]] = {
    "power": lambda x, xp: x,
    "magnitude": lambda x, xp: xp.sqrt(x),
    "db": _db,
    "log10_1p": _log10_1p,
    "ln": _ln,
}

_BACKWARD: dict[str, Callable[..., Any]] = {
    "power": lambda y, xp: y,
    "magnitude": lambda y, xp: y * y,
    "db": lambda y, xp, *, amin, factor: 10.0 ** (y / factor),
    "log10_1p": lambda y, xp, *, gain: (10.0**y - 1) / gain,
    "ln": lambda y, xp, *, eps: _at_least(xp.exp(y) - eps, 0.0, xp),
}
