"""Plain values, as YAML and JSON have them, brought to the types of the fields that they are for."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from featstore.errors import ConfigError, check_keys, did_you_mean

__all__ = ["build", "converted", "typed_fields", "without_numpy"]

T = TypeVar("T")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def build(kind: type[T], given: Any, where: str) -> T:
    """Make a dataclass of plain values by the names of its fields; an empty one keeps its default.

    Raises
    ------
    ConfigError
        For anything but a mapping, an unknown key, a value of another type, or whatever the dataclass itself refuses.
    """
    found = typed_fields(kind, given, where)
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        if each.name not in found and each.default is each.default_factory is dataclasses.MISSING:
            raise ConfigError(f"the key {each.name} is missing", where, f"Write {each.name}: and its value")
    return kind(**found)


def typed_fields(kind: type, given: Any, where: str) -> dict[str, Any]:
    """Plain values by the names of a dataclass's fields, each of its type; an empty one is left out.

    Raises
    ------
    ConfigError
        For anything but a mapping, an unknown key, or a value of another type.
    """
    hints = typing.get_type_hints(kind)
    check_keys(given, [each.name for each in dataclasses.fields(kind)], where)
    kept = {key: value for key, value in given.items() if value is not None or _takes_none(hints[key])}
    return {key: converted(hints[key], value, key, where) for key, value in kept.items()}


def without_numpy(value: Any) -> Any:
    """A number of NumPy as Python's, an array as a list; all else as it is.

    Examples
    --------
    >>> import numpy as np
    >>> without_numpy(np.int64(3)), without_numpy(np.array([0.5, 1])), without_numpy("3")
    (3, [0.5, 1.0], '3')
    """
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def _takes_none(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


def converted(hint: Any, value: Any, name: str, where: str, *, commas: bool = False) -> Any:
    """Convert a plain value, or one of NumPy, to an annotated type: a list to a tuple, text that is a number to it.

    Parameters
    ----------
    hint : type
        ``int``, ``float``, ``bool``, ``str``, ``Literal``, a tuple, list or mapping of these, or one of these and None.
        Values of other types, and unions of several, are returned as they are: their reader checks them.
    value : Any
    name, where : str
        For messages.
    commas : bool
        A list may be written as text with commas.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> converted(tuple[float, ...], [1, "1e-3"], "rates", "model")
    (1.0, 0.001)
    >>> converted(int | None, None, "limit", "extract")
    """
    kinds = [each for each in _alternatives(hint) if each is not types.NoneType]
    if value is None and _takes_none(hint):
        return None
    if len(kinds) > 1:
        return value
    value = without_numpy(value)
    origin, parts = typing.get_origin(kinds[0]), typing.get_args(kinds[0])
    origin = origin or kinds[0]
    if origin is typing.Literal:
        return _literal(parts, value, name, where)
    if origin in (tuple, list):
        items = value.split(",") if commas and isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{name}={value!r} is not a list", where, "Write it in brackets, such as [a, b]")
        each, length = parts[0] if parts else Any, len(parts)
        if origin is tuple and Ellipsis not in parts and len(items) != length:
            raise ConfigError(f"{name}={value!r} has {len(items)} values", where, f"Give {length}")
        return origin(converted(each, item, name, where, commas=commas) for item in items)
    if origin in (dict, collections.abc.Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} is a section, not {value!r}", where, "Write it as {key: value}")
        of_keys, of_values = parts or (Any, Any)
        return {
            converted(of_keys, key, name, where): converted(of_values, each, f"{name}.{key}", where)
            for key, each in value.items()
        }
    return _scalar(origin, value, name, where) if origin in _WORDS else value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _literal(allowed: tuple[Any, ...], value: Any, name: str, where: str) -> Any:
    for one in allowed:
        if type(value) is type(one) and value == one:
            return one
        if type(value) is int and one == str(value):  # 32 without quotes
            return one
    raise ConfigError(f"{name}={value!r}", where, did_you_mean(str(value), map(str, allowed)))


def _scalar(kind: Any, value: Any, name: str, where: str) -> Any:
    given = value
    with contextlib.suppress(ValueError, OverflowError):
        if kind in (int, float) and isinstance(value, str):  # YAML takes 1e-3 for text
            digits = value.strip().lstrip("+-")
            value = int(value) if kind is int and digits.isdecimal() else float(value)  # a float has 53 bits
        if kind is float and type(value) is int:
            value = float(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind is str and isinstance(value, bool | int | float):
        truth = ": YAML reads on, off, yes, no, true and false as truth values" if isinstance(value, bool) else ""
        raise ConfigError(f"{name}={value!r} is not text{truth}", where, "Quote it, like ['on','off'] or '12'")
    if type(value) is not kind:
        raise ConfigError(f"{name}={given!r} is not {_WORDS[kind]}", where)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}={given!r} is not finite", where, "Give a number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(f"{name} is too large", where, "Give a number below 2**63")
    return value
