"""Plain values: what JSON knows, from whatever NumPy, pandas and databases return."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featstore.errors import ConfigError

__all__ = ["inert_cell", "is_missing", "plain", "whole"]


def inert_cell(cell: str) -> str:
    """Return a cell of CSV that no spreadsheet takes for a formula: what begins like one, and is no number, is quoted.

    Examples
    --------
    >>> inert_cell("=1+1"), inert_cell("-0.5"), inert_cell("-a.wav"), inert_cell("rock")
    ("'=1+1", '-0.5', "'-a.wav", 'rock')
    """
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def is_missing(value: Any) -> bool:
    """Whether ``value`` stands for nothing: None, NaN, or NA and NaT of pandas.

    Examples
    --------
    >>> is_missing(None), is_missing(float("nan")), is_missing("nan"), is_missing([float("nan")])
    (True, True, False, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return not hasattr(value, "__len__") and bool(value != value)


def whole(value: Any) -> Any:
    """A float without a fraction as an integer: a column of integers holds floats where some are missing.

    Examples
    --------
    >>> whole(96.0), whole(0.5), whole("96.0")
    (96, 0.5, '96.0')
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(value: Any, *, strict: bool = False) -> Any:
    """Turn NumPy values, tuples, sets, dataclasses and dates into plain ones; what is missing or not finite is None.

    Raises
    ------
    ConfigError
        With ``strict``, for an object of another type; without, it becomes text.

    Examples
    --------
    >>> plain({"a": (1, float("inf")), 2: Path("x")})
    {'a': [1, None], '2': 'x'}
    """
    if isinstance(value, str | bool | int) and not hasattr(value, "tolist"):
        return value
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner, strict=strict) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        ordered = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(inner, strict=strict) for inner in ordered]
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, torch tensors
        return plain(value.tolist(), strict=strict)
    if is_missing(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, float):
        return value
    if strict and not isinstance(value, Path | datetime.date):
        raise ConfigError(
            f"a {type(value).__name__} cannot be written as JSON", "", "Give numbers, text, lists, mappings"
        )
    return str(value)
