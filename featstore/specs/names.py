"""From text to specs and back."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass

from featstore.errors import SpecError
from featstore.specs.base import FeatureSpec
from featstore.specs.encoding import Encoding
from featstore.specs.grammar import parse_call
from featstore.specs.kinds import KINDS

__all__ = ["FeatureRequest", "match_stored", "parse_feature", "parse_spec"]

_KIND = re.compile(r"([A-Za-z_]\w*?)(?:\.r(\d+))?")


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """A spec, and the encoding it was asked in (None: the most exact one there is, float32 when extracted).

    See Also
    --------
    parse_feature : Makes one from its name.
    """

    spec: FeatureSpec
    encoding: Encoding | None = None

    def __str__(self) -> str:
        return str(self.spec) if self.encoding is None else f"{self.spec}@{self.encoding}"

    def complete(self, spec: FeatureSpec) -> FeatureRequest:
        """Return the request for the resolved form of its spec: now the encoding can be checked, too."""
        if self.encoding is None or self.spec.is_resolved:
            return FeatureRequest(spec, self.encoding)
        name, low, high = self.encoding.name, self.encoding.low, self.encoding.high
        if self.encoding.ranges:
            return FeatureRequest(spec, Encoding.parse(str(self.encoding), spec))
        return FeatureRequest(spec, Encoding.parse(f"{name}({low},{high})" if low < high else name, spec))


def parse_spec(text: str | FeatureSpec) -> FeatureSpec:
    """Read a feature spec: any subset of its fields, in any order; the rest takes the documented defaults.

    Raises
    ------
    SpecError
        For text that is no spec, an unknown kind or field, a value out of range, another revision, or an encoding.

    See Also
    --------
    parse_feature : Takes an encoding and view fields as well.
    featstore.features.resolve : Opens the weights that a spec names.

    Examples
    --------
    >>> spec = parse_spec("mel(scale=db, sample_rate=12000)")
    >>> spec.n_mels, spec.fmax, str(spec.scale)
    (96, 6000.0, 'db(amin=1e-10,factor=10)')
    >>> parse_spec(str(spec)) == spec
    True
    """
    if isinstance(text, FeatureSpec):
        return text
    name, encoding = _parted(_checked(text))
    if encoding is not None:
        fix = "Leave it out, or read the name with featstore.specs.parse_feature"
        raise SpecError(f"'@{encoding}' is an encoding, and a spec has none", name, fix)
    call = parse_call(text)
    match = _KIND.fullmatch(call.name)
    kind, revision = (match[1], match[2]) if match else (call.name, None)
    cls: type[FeatureSpec] = KINDS.load(kind)
    if call.args:
        raise SpecError(f"{call.args[0]!r} names no field", f"{kind} spec", "Write key=value")
    if revision is not None and int(revision) != cls.revision:
        raise SpecError(
            f"{kind}.r{revision} is not what this version computes (r{cls.revision})",
            text,
            "Use the version that wrote it, or recompute",
        )
    return cls.from_text(call.kwargs)


def parse_feature(text: str | FeatureSpec | FeatureRequest) -> FeatureRequest:
    """Read ``spec`` or ``spec@encoding``.

    Raises
    ------
    SpecError
        For a text that is no spec, and for anything else.

    See Also
    --------
    parse_spec : The spec alone.
    expand_features : Presets and YAML files.

    Examples
    --------
    >>> str(parse_feature("mel(scale=db)@uint8").encoding)
    'uint8(low=-100,high=40)'
    """
    if isinstance(text, FeatureRequest):
        return text
    if isinstance(text, FeatureSpec):
        return FeatureRequest(text)
    name, encoding = _parted(_checked(text))
    if encoding is None:
        return FeatureRequest(parse_spec(text))
    spec = parse_spec(name)
    return FeatureRequest(spec, Encoding.parse(encoding, spec))


def _parted(text: str) -> tuple[str, str | None]:
    """Spec and encoding of a name; an ``@`` inside of brackets, as in a path of weights, belongs to the spec."""
    name, at, encoding = text.rpartition("@")
    return (name, encoding) if at and not (")" in encoding and "(" not in encoding) else (text, None)


def _checked(text: object) -> str:
    if not isinstance(text, str):
        raise SpecError(f"{reprlib.repr(text)} is no feature", "", "Give its name, such as 'mel(n_mels=96)', or a spec")
    return text


def match_stored(feature: str | FeatureSpec | FeatureRequest, stored: Iterable[FeatureSpec]) -> FeatureRequest:
    """Read a feature; one that is not resolved takes what it leaves open from the one stored spec that it fits.

    Fields that are given must be equal, ``weights`` may be the start of a digest; the rest takes its defaults or, where
    it follows from the weights, what is stored.

    Raises
    ------
    SpecError
        When an unresolved spec fits none of the stored ones, or several.

    See Also
    --------
    parse_spec : A name that leaves nothing open.
    """
    request = parse_feature(feature)
    if request.spec.is_resolved:
        return request
    named = [spec for spec in dict.fromkeys(stored) if isinstance(request.spec, type(spec))]
    found = [spec for each in named if (spec := request.spec.completed_by(each)) is not None]
    if len(found) != 1:
        listed = ", ".join(sorted(spec.short() for spec in found or named)) or "none of that kind"
        raise SpecError(
            f"{request.spec.short()} fits {len(found) or 'none'} of the stored features",
            "store",
            f"Name one of them: {listed}. A spec that names a file of weights has to be resolved first",
        )
    return request.complete(found[0])
