"""Frozen feature specs: every field resolved, one canonical name, and that name is the identity."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from featstore.errors import SpecError, did_you_mean
from featstore.specs.clip import Clip
from featstore.specs.grammar import format_number, parse_bool, parse_float, parse_int
from featstore.specs.scale import Scale

__all__ = ["FeatureSpec", "choice", "clip", "integer", "optional", "real", "scale", "switch", "text"]

Reader = Callable[[object, str], Any]


def _field(default: Any, read: Reader, allowed: str = "") -> Any:
    """Field with its reader; ``allowed`` says in words what it takes, for the documentation."""
    return dataclasses.field(default=default, metadata={"read": read, "allowed": allowed})


def integer(default: int, *, low: int = 1, high: int | None = None) -> Any:
    """Whole-number field with bounds, both included."""
    allowed = f"at least {low}" if high is None else f"{low} to {high}"

    def read(value: object, name: str) -> int:
        number = parse_int(value, name)
        if number < low or (high is not None and number > high):
            raise SpecError(f"{name}={number} is out of range", "", f"Allowed: {allowed}")
        return number

    return _field(default, read, allowed)


def real(default: float, *, low: float, exclusive: bool = False, infinite: bool = False) -> Any:
    """Float field with a lower bound; ``inf`` only where it means something."""
    allowed = f"{'above' if exclusive else 'at least'} {format_number(low)}" + (", inf" if infinite else "")

    def read(value: object, name: str) -> float:
        if infinite and str(value).strip().lower() == "inf":
            return float("inf")
        number = parse_float(value, name)
        if number < low or (exclusive and number == low):
            raise SpecError(f"{name}={format_number(number)} is out of range", "", f"Allowed: {allowed}")
        return number

    return _field(default, read, allowed)


def choice(default: str, *allowed: str) -> Any:
    """Field that is one of some words."""

    def read(value: object, name: str) -> str:
        if str(value) not in allowed:
            raise SpecError(f"{name}={value!r} is unknown", "", did_you_mean(str(value), allowed))
        return str(value)

    return _field(default, read, ", ".join(allowed))


def optional(field: Any) -> Any:
    """Give the field no default of its own: ``None`` is resolved from other fields on creation."""
    read = field.metadata["read"]
    return _field(
        None,
        lambda value, name: None if value in (None, "none", "None") else read(value, name),
        field.metadata["allowed"],
    )


def text(default: str) -> Any:
    """Field that is any word."""
    return _field(default, lambda value, name: str(value).strip())


def switch(default: bool) -> Any:
    """Yes/no field."""
    return _field(default, parse_bool, "yes, no")


def scale(default: str) -> Any:
    """Field that holds a :class:`Scale`."""
    return _field(Scale.parse(default), lambda value, name: Scale.parse(value), "a scale")  # type: ignore[arg-type]


def clip(default: str) -> Any:
    """Field that holds a :class:`Clip`."""
    return _field(Clip.parse(default), lambda value, name: Clip.parse(value), "a clip")  # type: ignore[arg-type]


def _write(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if isinstance(value, float) else str(value)


def _write_short(value: Any) -> str:
    return value.short() if isinstance(value, Scale) else _write(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """What all features share: the signal they start from. Fields may be given as text or as values.

    Attributes
    ----------
    sample_rate : int
        Analysis rate in Hz, after resampling.
    decoder, resampler : str
        Names of what made the samples (they move model outputs, so they are part of the identity).
    clip : Clip
        Part of the track, cut after resampling.
    engine : str
        Code that computes the feature: ``native``, ``librosa`` or ``essentia``.
    """

    kind: ClassVar[str] = ""
    revision: ClassVar[int] = 1  # raised whenever the numbers change, so that old arrays stop matching
    sample_rate: int = integer(16000, low=100, high=768000)
    decoder: str = choice("soundfile", "soundfile", "essentia", "av")
    resampler: str = choice("soxr_hq", "soxr_hq", "soxr_vhq", "soxr_mq", "soxr_lq", "soxr_qq")
    clip: Clip = clip("whole")
    engine: str = choice("native", "native", "librosa", "essentia")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            read: Reader = field.metadata["read"]
            try:
                object.__setattr__(self, field.name, read(getattr(self, field.name), field.name))
            except SpecError as error:
                raise SpecError(error.what, error.where or f"{self.kind} spec", error.fix) from None
        self._resolve()

    def _resolve(self) -> None:
        """Fill what follows from other fields and check what must hold between them."""

    def _refuse(self, what: str, fix: str, *about: str) -> SpecError:
        shown = ", ".join(f"{name}={_write(getattr(self, name))}" for name in about)
        return SpecError(what, f"{self.kind} spec, {shown}" if shown else f"{self.kind} spec", fix)

    @classmethod
    def from_text(cls, fields: dict[str, str]) -> Self:
        """Make a spec from field texts; an unknown field is refused with its near misses."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise SpecError(f"unknown field {name!r}", f"{cls.kind} spec", did_you_mean(name, known))
        return cls(**fields)  # type: ignore[arg-type]

    def canonical(self) -> str:
        """Return the name with every field written out: equal specs have equal names and no others do."""
        inner = ",".join(f"{field.name}={_write(getattr(self, field.name))}" for field in dataclasses.fields(self))
        return f"{self.kind}.r{self.revision}({inner})"

    __str__ = canonical

    def key(self, encoding: str = "float32") -> str:
        """Path-safe identity of the stored array: kind and digest of (canonical name, encoding)."""
        return f"{self.kind}-{hashlib.sha256(f'{self.canonical()}@{encoding}'.encode()).hexdigest()[:16]}"

    def replace(self, **changes: Any) -> Self:
        """Return the same spec with some fields changed."""
        return dataclasses.replace(self, **changes)

    def short(self) -> str:
        """Name with only the fields that differ from the defaults: for tables and figures, not an identity."""
        named = {name: getattr(self, name) for name in ("sample_rate", "n_fft") if hasattr(self, name)}
        plain = type(self)(**named)  # fields that follow from these two need no mention
        shown = [
            f"{field.name}={_write_short(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if field.name == "sample_rate"
            or getattr(self, field.name) != getattr(plain, field.name)
            or (field.name == "n_fft" and getattr(self, "n_fft", 0) != getattr(type(self)(), "n_fft", 0))
        ]
        return f"{self.kind}({','.join(shown)})"

    @property
    def vocabulary(self) -> int | None:
        """Number of codes where values are tokens, 0 to that many less one; None where they are numbers."""
        return None

    @property
    def stored_as(self) -> FeatureSpec:
        """What is stored of the feature: itself, unless it is always looked up from something smaller."""
        return self

    @property
    def frame_step(self) -> int:
        """Samples between neighbouring values of the last axis."""
        return 1
