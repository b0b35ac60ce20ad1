"""What a stored array answers for without computing a spectrum again: every k-th frame, and elementwise functions.

A filterbank, a resampling or a transform is never a view.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from featstore.specs.base import FeatureSpec
from featstore.specs.code_table import CodeTable
from featstore.specs.encoding import Encoding
from featstore.specs.scale import Scale

__all__ = ["View", "base_of", "view_of"]


@dataclass(frozen=True, slots=True)
class View:
    """How a feature is read from a stored base.

    Attributes
    ----------
    stride : int
        Frame t is the base's frame ``t * stride``.
    before, after : Scale or None
        Scale of the base and of the feature; None on both where nothing changes.
    bound : float
        Largest absolute difference to the feature computed directly in float32, on the feature's own scale; 0 is exact.
    codes : str
        Where the base holds tokens and the feature their code vectors: how several codebooks combine; else empty.
    table : CodeTable or None
        The code vectors themselves, set with :meth:`with_table`.

    See Also
    --------
    view_of : Finds the view that gives a spec from a base.
    """

    stride: int = 1
    before: Scale | None = None
    after: Scale | None = None
    bound: float = 0.0
    codes: str = ""
    table: CodeTable | None = field(default=None, compare=False, repr=False)

    @property
    def exact(self) -> bool:
        """Whether every value equals the directly computed one, bit for bit."""
        return self.bound == 0.0

    @property
    def is_identity(self) -> bool:
        """Whether the base is the feature."""
        return self.stride == 1 and self.after is None and not self.codes

    def apply(self, x: Any, xp: Any = np) -> Any:
        """Take decoded base values (numpy or torch, any shape) to the feature's scale; striding is the reader's."""
        if self.table is not None:
            return self.table.look_up(x, self.codes, xp)
        if self.before is None or self.after is None:
            return x
        return self.after.apply(self.before.invert(x, xp), xp)

    def with_table(self, vectors: Any) -> View:
        """Return the view with the code vectors float32 (codebooks, codes, width) to look up in."""
        return replace(self, table=CodeTable(vectors))

    def n_frames(self, base_frames: Any) -> Any:
        """Length of the view over a base of that many frames (scalar or array)."""
        return -(-base_frames // self.stride)


@functools.lru_cache(maxsize=4096)
def base_of(spec: FeatureSpec) -> FeatureSpec:
    """Return :attr:`FeatureSpec.view_base`: equal for all specs that may share a stored array."""
    return spec.view_base


def view_of(want: FeatureSpec, base: FeatureSpec, encoding: Encoding | None = None) -> View | None:
    """How ``want`` is read from ``base`` stored in ``encoding`` (its default when None), or None where it cannot be.

    See Also
    --------
    View : What it returns.

    Examples
    --------
    >>> from featstore.specs import parse_spec
    >>> view_of(parse_spec("mel(hop_length=1024, scale=db)"), parse_spec("mel(hop_length=256)")).stride
    4
    """
    encoding = encoding or Encoding.default(base)
    if want == base:
        return View(bound=_storage_error(_scale_of(base), encoding))
    if want.stored_as is not want:
        return View(codes=getattr(want, "combine", "")) if want.stored_as == base else None
    ratio, rest = divmod(want.frame_step, base.frame_step)
    if rest or base_of(want) != base_of(base):
        return None
    before, after = _scale_of(base), _scale_of(want)
    if before == after:
        return View(stride=ratio, bound=_storage_error(before, encoding))
    bound = _conversion_error(before, after, encoding)
    return None if bound is None else View(ratio, before, after, bound)


def _scale_of(spec: FeatureSpec) -> Scale:
    scale: Scale = getattr(spec, "scale", Scale("power"))
    return scale


def _storage_error(scale: Scale, encoding: Encoding) -> float:
    """Largest absolute error that the encoding alone puts on a stored value (music within the encoding's range)."""
    if encoding.error_bound is not None:
        return encoding.error_bound
    largest = {"db": 128.0 * dict(scale.params).get("factor", 10.0) / 10, "log10_1p": 8.0, "ln": 16.0}.get(scale.name)
    return 2.0**-11 * (largest if largest is not None else float(np.finfo(np.float16).max))


def _conversion_error(before: Scale, after: Scale, encoding: Encoding) -> float | None:
    """Bound of ``after(before^-1(stored))`` against ``after`` of the true value; None where it has no useful bound."""
    params = dict(after.params)
    if before.name == "power":
        if encoding.name == "float32":
            return 0.0
        return _from_half_power(after, params) if encoding.name == "float16" else None
    if before.name == "db" and after.name in ("log10_1p", "db"):
        old = dict(before.params)
        stored = max(
            _storage_error(before, encoding), 2.0**-17
        )  # float32 itself: half a unit in the last place below 128 dB
        if after.name == "db":
            if params["amin"] < old["amin"]:
                return None
            return stored * params["factor"] / old["factor"] + 2.0**-16 * params["factor"] / 10
        slope = 1 / old["factor"]  # of log10(1 + gain * 10^(d / factor)): at most 1 / factor per decibel
        below_floor = math.log10(1 + params["gain"] * old["amin"])
        return stored * slope + below_floor + 1e-6
    return None


def _from_half_power(after: Scale, params: dict[str, float]) -> float | None:
    """Half precision keeps 11 bits above 6.1e-5 and steps of 6e-8 below: the worst case of each logarithm over both."""
    step, normal, relative = 2.0**-25, 2.0**-14, 2.0**-11
    if after.name == "log10_1p":
        return max(params["gain"] * step / math.log(10), relative / math.log(10)) + 1e-6
    if after.name == "db":
        low = params["factor"] * math.log10(max(2 * step, params["amin"]) / params["amin"])
        return low + params["factor"] * relative / math.log(10)
    if after.name == "ln":
        return max(step / params["eps"], relative) + 1e-6
    if after.name == "magnitude":
        return max(math.sqrt(step), math.sqrt(normal) * relative, 256.0 * relative / 2)
    return None
