"""The kinds of features and the presets as cards: fields, defaults, what they take, what is derived from what."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from featstore.docstrings import field_meanings, summary_of
from featstore.errors import SpecError, check_known
from featstore.features import dims_of, steps_of
from featstore.specs import ENCODINGS, KINDS, PRESETS, Encoding, FeatureSpec, expand_features
from featstore.specs.base import write_short

__all__ = ["KindCard", "PresetCard", "card_of", "kind_card", "preset_card"]

_SECONDS = 30  # of the track whose shape is shown


@dataclass(frozen=True, slots=True)
class KindCard:
    """A kind of feature.

    Attributes
    ----------
    name, summary : str
    example : str
        A spec of it.
    fields : list of dict
        ``name``, ``default``, ``takes`` and ``meaning`` of each field.
    encodings : list of str
        Number formats that it may be kept in.
    derived : list of str
        What a stored array of it answers for besides itself.
    """

    name: str
    summary: str
    example: str
    fields: list[dict[str, str]] = field(default_factory=list)
    encodings: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PresetCard:
    """A named set of features.

    Attributes
    ----------
    name : str
    features : list of str
        Their specs, with the fields that differ from the defaults.
    arrays : int
        Arrays that are stored for them; the others are derived.
    shape : list of int
        What 30 s become in the first one.
    """

    name: str
    features: list[str]
    arrays: int
    shape: list[int]


def card_of(name: str) -> KindCard | PresetCard:
    """Card of a kind or a preset.

    Raises
    ------
    ConfigError
        When it is neither, with near misses.
    """
    check_known(name, [*KINDS, *PRESETS], f"{name!r} is neither a kind nor a preset")
    return kind_card(name) if name in KINDS else preset_card(name)


def kind_card(name: str) -> KindCard:
    """Describe one kind; its class is imported."""
    kind: type[FeatureSpec] = KINDS.load(name)
    meanings = field_meanings(kind)
    fields = [
        {
            "name": each.name,
            "default": _text(each.default),
            "takes": str(each.metadata["allowed"]),
            "meaning": meanings.get(each.name, ""),
        }
        for each in dataclasses.fields(kind)
    ]
    spec = kind()
    return KindCard(name, summary_of(kind), f"{name}({_example(spec)})", fields, _encodings(spec), _derived(spec))


def _text(value: Any) -> str:
    return "" if value is None else write_short(value)


def _example(spec: FeatureSpec) -> str:
    names = ("model", "codec", "level", "component", "n_mels", "scale")
    shown = [name for name in names if getattr(spec, name, None) not in (None, "", 0)][:2] or ["sample_rate"]
    return ", ".join(f"{name}={_text(getattr(spec, name))}" for name in shown)


def _encodings(spec: FeatureSpec) -> list[str]:
    """Encodings that the kind takes, some with a bounded scale only."""
    if hasattr(spec, "n_codes"):
        return ["uint16", "uint8"] if spec.stored_as == spec else []
    bounded = spec.replace(scale="db") if hasattr(spec, "scale") else spec
    found = []
    for name in ENCODINGS:
        try:
            Encoding.parse(name, bounded.stored_as)
        except SpecError:
            continue
        found.append(name)
    return found


def _derived(spec: FeatureSpec) -> list[str]:
    """What follows from a stored array by slice, stride and elementwise functions."""
    if spec.stored_as.kind != spec.kind:
        return [f"never stored: looked up from {spec.stored_as.kind}"]
    changed = {name: value for name, value in (("hop_length", 768), ("scale", "db")) if hasattr(spec, name)}
    varied = spec.replace(**changed) if changed else spec
    free = [name for name in changed if getattr(varied.view_base, name) != getattr(varied, name)]
    texts = {
        "hop_length": "hop_length times 2, 3, …: every second, third, … frame, exactly",
        "scale": "the other scales: functions of what is stored, exact or within a bound that is stated",
    }
    return [texts[name] for name in free]


def preset_card(name: str) -> PresetCard:
    """Describe one preset."""
    specs = [request.spec for request in expand_features([name])]
    n_samples = _SECONDS * specs[0].sample_rate
    shape = [*specs[0].item_shape, specs[0].frames(n_samples)]
    if dims_of(specs[0])[0] == "clip":
        shape = [steps_of(specs[0], n_samples), *shape]
    finest: dict[FeatureSpec, int] = {}
    for spec in specs:
        finest[spec.view_base] = min(spec.frame_step, finest.get(spec.view_base, spec.frame_step))
    return PresetCard(name, [spec.short() for spec in specs], len(finest), shape)
