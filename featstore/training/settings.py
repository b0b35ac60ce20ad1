"""Nested settings as frozen dataclasses: read from YAML and ``section.key=value``, checked, written back whole."""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from featstore.errors import ConfigError, did_you_mean
from featstore.plain_yaml import parse_yaml
from featstore.plain_yaml import read_yaml as parse_file
from featstore.typed_values import converted

__all__ = [
    "Range",
    "Section",
    "as_mapping",
    "from_mapping",
    "merge",
    "parse_assignments",
    "read_yaml",
    "require",
]

T = TypeVar("T")
Settings = dict[str, Any]


def require(valid: bool, what: str, section: str, fix: str = "") -> None:
    """Raise ``ConfigError`` unless ``valid``."""
    if not valid:
        raise ConfigError(what, section, fix)


class Range(enum.Enum):
    """Numbers that a setting may have; it stands beside the type of a field: ``Annotated[int, Range.POSITIVE]``.

    Attributes
    ----------
    wrong : str
        What is wrong with all other numbers, for messages.
    allows : callable
        Whether a number is one of these.
    """

    POSITIVE = ("is not positive", lambda value: value > 0)
    NOT_NEGATIVE = ("is negative", lambda value: value >= 0)
    PROPER_SHARE = ("is not in (0, 1)", lambda value: 0 < value < 1)
    BELOW_ONE = ("is not in [0, 1)", lambda value: 0 <= value < 1)
    SHARE = ("is not in (0, 1]", lambda value: 0 < value <= 1)

    def __init__(self, wrong: str, allows: Callable[[Any], bool]) -> None:
        self.wrong, self.allows = wrong, allows


class Section:
    """Settings of one section; they are refused where a number lies outside of its field's range.

    Attributes
    ----------
    section : str
        Its name, for messages.
    """

    __slots__ = ()
    section: ClassVar[str]

    def __post_init__(self) -> None:
        kind: Any = type(self)  # mypy does not see that classes are hashable
        for name, allowed in _ranges_of(kind).items():
            value = getattr(self, name)
            require(value is None or allowed.allows(value), f"{name}={value} {allowed.wrong}", self.section)
        self.check()

    def check(self) -> None:
        """Refuse settings that contradict each other; ranges are checked before."""


@functools.cache
def _ranges_of(kind: type) -> dict[str, Range]:
    """Ranges of the fields that have one; found once, because reading the types of a class takes a millisecond."""
    found: dict[str, Range] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        for part in (hint, *typing.get_args(hint)):  # of Annotated[…] | None it is a part that is annotated
            for mark in getattr(part, "__metadata__", ()):
                found[name] = mark
    return found


def read_yaml(path: str | Path) -> Settings:
    """Read a mapping of settings from a YAML file (plain values only, nothing is executed).

    Raises
    ------
    ConfigError
        When there is no such file, it is not YAML, or holds no mapping.
    """
    return parse_file(path, "holds no settings", "Write sections and keys, like loop: {epochs: 20}")


def parse_assignments(texts: Iterable[str]) -> Settings:
    """Read ``section.key=value`` texts, values as YAML.

    Examples
    --------
    >>> parse_assignments(["loop.epochs=20", "model.width=0.125", "data.crop_s=null"])
    {'loop': {'epochs': 20}, 'model': {'width': 0.125}, 'data': {'crop_s': None}}
    """
    settings: Settings = {}
    for text in texts:
        path, equals, value = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"{text!r} is not section.key=value", "--set", "Write it like loop.epochs=20")
        inner: Settings = {keys[-1]: parse_yaml(value, f"--set {text}", "Quote the value")}
        for key in reversed(keys[:-1]):
            inner = {key: inner}
        settings = merge(settings, inner)
    return settings


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """Settings of ``base`` with those of ``over`` put over them, section by section."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def as_mapping(config: Any) -> Settings:
    """Return every setting as plain values: what is written beside a run; ``from_mapping`` reads it back."""
    return dataclasses.asdict(
        config, dict_factory=lambda items: {k: list(v) if isinstance(v, tuple) else v for k, v in items}
    )


def from_mapping(kind: type[T], settings: Mapping[str, Any], section: str = "") -> T:
    """Build a settings dataclass from plain values; what is not given keeps its default.

    Raises
    ------
    ConfigError
        Unknown key (with near misses), a value of the wrong type, or whatever the dataclass itself refuses.
    """
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    values = {}
    for key, value in settings.items():
        place = f"{section}.{key}" if section else str(key)
        if key not in known:
            raise ConfigError(f"unknown setting {place!r}", "training settings", _near_setting(kind, place, known))
        values[key] = _converted(hints[key], value, place)
    return kind(**values)


def _near_setting(kind: type, place: str, known: list[str]) -> str:
    """Advice for an unknown setting: the section that has its key, or near misses in its own."""
    section, dot, key = place.rpartition(".")
    sections = {name: hint for name, hint in typing.get_type_hints(kind).items() if dataclasses.is_dataclass(hint)}
    homes = [
        f"{name}.{key}"
        for name, hint in sections.items()
        if key in {field.name for field in dataclasses.fields(typing.cast(type, hint))}
    ]
    return f"Did you mean {' or '.join(homes)}?" if homes else did_you_mean(key, known, prefix=section + dot)


def _converted(hint: Any, value: Any, place: str) -> Any:
    """Convert a plain value to the annotated type, or raise ``ConfigError``."""
    if dataclasses.is_dataclass(hint):
        require(isinstance(value, Mapping), f"{place} is a section, not {value!r}", "training settings")
        kind = hint.kind_for(value) if hasattr(hint, "kind_for") else hint  # settings that depend on one of them
        return from_mapping(typing.cast(type, kind), value, place)
    return converted(hint, value, place, "training settings", commas=True)
