"""Frozen feature specs: every field resolved, one canonical name, and that name is the identity."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from featstore.errors import SpecError, check_known
from featstore.specs.clip import Clip
from featstore.specs.grammar import format_number, parse_bool, parse_float, parse_int
from featstore.specs.scale import Scale

__all__ = ["FeatureSpec", "choice", "clip", "integer", "optional", "pair", "real", "scale", "switch", "text"]

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


def pair(field: Any) -> Any:
    """Two values of a field as ``31+17``; equal ones are written, and kept, as one."""
    read = field.metadata["read"]

    def read_both(value: object, name: str) -> Any:
        parts = value if isinstance(value, tuple | list) else str(value).split("+") if "+" in str(value) else [value]
        if len(parts) > 2:
            raise SpecError(f"{name}={value!r} has {len(parts)} values", "", "Give one, or two as A+B")
        values = tuple(read(part, name) for part in parts)
        return values[0] if len(set(values)) == 1 else values

    return _field(field.default, read_both, f"{field.metadata['allowed']}; or two, as A+B")


def choice(default: str, *allowed: str) -> Any:
    """Field that is one of some words."""

    def read(value: object, name: str) -> str:
        check_known(str(value), allowed, f"{name}={value!r} is unknown", error=SpecError)
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
    if isinstance(value, tuple):
        return "+".join(map(_write, value))
    return repr(value) if isinstance(value, float) else str(value)


def write_short(value: Any) -> str:
    """Text of a value as names have it; a scale without the parameters that have their defaults."""
    return value.short() if isinstance(value, Scale) else _write(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """What all features share: the signal they start from. Fields may be given as text or as values.

    Attributes
    ----------
    sample_rate : int
        Analysis rate in Hz, after resampling.
    decoder : str
        What turns the file into samples.
    resampler : str
        Quality of soxr; ``fit_to_30s`` brings whole tracks to 30 s, whatever their length.
    clip : Clip
        Part of the track, cut after resampling.
    engine : str
        Code that computes the feature: ``native``, ``librosa`` or ``essentia``.

    See Also
    --------
    parse_spec : Makes one from its name.
    """

    kind: ClassVar[str] = ""
    revision: ClassVar[int] = 1  # raised whenever the numbers change, so that old arrays stop matching
    sample_rate: int = integer(16000, low=100, high=768000)
    decoder: str = choice("soundfile", "soundfile", "essentia", "av")
    resampler: str = choice("soxr_hq", "soxr_hq", "soxr_vhq", "soxr_mq", "soxr_lq", "soxr_qq", "fit_to_30s")
    clip: Clip = clip("whole")
    engine: str = choice("native", "native", "librosa", "essentia")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            read: Reader = field.metadata["read"]
            try:
                object.__setattr__(self, field.name, read(getattr(self, field.name), field.name))
            except SpecError as error:
                raise SpecError(error.what, error.where or f"{self.kind} spec", error.fix) from None
        if self.native_only and self.engine != "native":
            raise self._refuse(f"engine={self.engine} has no {self.native_only}", "Leave engine out")
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
            check_known(name, known, f"unknown field {name!r}", f"{cls.kind} spec", error=SpecError)
        return cls(**fields)  # type: ignore[arg-type]

    def canonical(self) -> str:
        """Return the name with every field written out: equal specs have equal names and no others do.

        Raises
        ------
        SpecError
            When the spec is not resolved.
        """
        if not self.is_resolved:
            raise SpecError(
                f"{self.short()} has no name yet: some of its fields follow from its weights",
                f"{self.kind} spec",
                "Resolve it with featstore.features.resolve, or give every field",
            )
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
            f"{field.name}={write_short(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if field.name == "sample_rate"
            or getattr(self, field.name) != getattr(plain, field.name)
            or (field.name == "n_fft" and getattr(self, "n_fft", 0) != getattr(type(self)(), "n_fft", 0))
        ]
        return f"{self.kind}({','.join(shown)})"

    # -- What a kind declares. Subclasses override what differs; `graph` has no default. ------------------------------

    sonifier: ClassVar[str] = ""  # "module:attribute" of a function (Passage) that yields sound; empty: none
    native_only: ClassVar[str] = ""  # what other engines lack, for messages; empty for kinds that they compute
    wants_device: ClassVar[bool] = False  # whether its computation is faster on a GPU
    takes_ranges: ClassVar[bool] = False  # whether integer encodings have a range for each place of an item
    usual_model: ClassVar[str] = "vgg-cnn"  # that commands suggest for it

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

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Axes before time."""
        return ()

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of ``item_shape``'s axes and of time, which is last."""
        return ("frame",)

    @property
    def band_centres(self) -> Any:
        """Hz of the centre of each place on the axis before time, float64; None where they are no frequencies."""
        return None

    @property
    def first_centre_s(self) -> float:
        """Seconds from the start of the signal to the centre of the first value on the last axis."""
        return 0.0

    @property
    def unit(self) -> str:
        """Unit of the values; ``1`` where they have none."""
        return "dB" if getattr(getattr(self, "scale", None), "name", "") == "db" else "1"

    @property
    def view_base(self) -> FeatureSpec:
        """The spec with everything fixed that a view can change: specs with equal ones may share a stored array."""
        return self

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Default range of integer encodings; None where values have no bound worth fixing."""
        return None

    @property
    def fixed_length(self) -> int | None:
        """Length of the last axis where it is the same for every track, whatever its clip; else None."""
        return None

    def frames(self, n_samples: int) -> int:
        """Length of the last axis for a track of ``n_samples`` at the analysis rate, before the clip policy cuts it.

        0 for a track that is shorter than the clip (and is not filled up). With ``every``, frames of each excerpt.
        """
        return self.clip.samples_left(self.sample_rate, n_samples) // self.frame_step

    def check(self) -> None:
        """Refuse what no audio could satisfy: here a clip without a sample, or shorter than a step of frames.

        Raises
        ------
        SpecError
        """
        if self.clip.policy == "whole":
            return
        length = self.clip.excerpt_samples(self.sample_rate)
        if length < 1:
            raise self._refuse(f"the clip {self.clip} holds no sample at {self.sample_rate} Hz", "Make it longer")
        if self.frame_step > length:
            raise self._refuse(
                f"hop_length={self.frame_step} is longer than the clip of {length} samples ({self.clip})",
                "Shorten the hop or lengthen the clip",
                "sample_rate",
            )
        if self.clip.policy == "every" and round(self.clip.step_s * self.sample_rate) < 1:
            raise self._refuse(
                f"the step of {self.clip} is shorter than a sample at {self.sample_rate} Hz", "Lengthen the step"
            )

    def graph(self) -> Any:
        """Last node of the computation: its values are what is stored, in float32 (``featstore.features.Node``)."""
        raise NotImplementedError(f"{type(self).__name__}.graph")

    # -- Kinds that need weights. A spec may name a file until it is resolved to the digest of what the file holds. ----

    @property
    def is_resolved(self) -> bool:
        """Whether every field is known. Where it is not, the spec has no name and no key."""
        return True

    def resolve(self) -> Self:
        """Return the spec with every field filled in, reading its weights where that is needed."""
        return self

    def completed_by(self, stored: FeatureSpec) -> Self | None:
        """Return this spec with what it leaves open taken from a stored one; None where the two contradict."""
        if not isinstance(self, type(stored)):
            return None
        theirs = {field.name: getattr(stored, field.name) for field in dataclasses.fields(stored)}
        for name, value in theirs.items():
            own = getattr(self, name)
            if own in (None, "", value) or (name == "weights" and len(own) >= 6 and value.startswith(own)):
                continue
            return None
        return self.replace(**theirs)

    @property
    def weights_digest(self) -> str | None:
        """Digest of the weights that compute the feature; None for kinds without weights."""
        return None

    @property
    def codebook_name(self) -> str | None:
        """Name of the table in a store that its values are looked up in; None where there is none."""
        return None

    def weights_facts(self) -> dict[str, Any]:
        """Licence and source of the weights, and what they have seen, where they are known; opens them."""
        return {}

    def codebook(self) -> tuple[Any, dict[str, Any]]:
        """Table of :attr:`codebook_name`, float32, and what is known of its weights; opens them."""
        raise NotImplementedError(f"{type(self).__name__}.codebook")

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions, besides those of every feature, whose versions may change the numbers."""
        return ()

    def mixes_with(self, other: FeatureSpec) -> tuple[str, ...]:
        """Fields whose difference makes the values of two features of a store look comparable when they are not."""
        return ()
