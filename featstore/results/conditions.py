"""Conditions on runs in plain words: ``model=vgg-cnn``, ``n_mels>=48``, ``bytes_alone<50MB``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError, did_you_mean
from featstore.plain import is_missing
from featstore.results.run_set import RunSet, frame_of
from featstore.units import parse_bytes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["parse_bounds", "parse_conditions", "selected", "where"]

_CONDITION = re.compile(r"\s*([A-Za-z_][\w.\-]*)\s*(!=|<=|>=|==|=|<|>|~)\s*(.*?)\s*")
_QUOTED, _BRACKETS = re.compile("'[^']*'|\"[^\"]*\""), re.compile(r"[(\[][^()\[\]]*[)\]]")
_JOINT = re.compile(r",|\s+and\s+", re.IGNORECASE)
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def where(runs: RunSet | pd.DataFrame, conditions: str | Iterable[str], *, split: str = "test") -> pd.DataFrame:
    """Rows that meet all conditions.

    Parameters
    ----------
    runs : RunSet or DataFrame
        Runs, or a table of them.
    conditions : str or iterable of str
        ``column operator value``, several joined by `` and `` or commas. Operators: ``= != < <= > >=`` and ``~`` (the
        text contains). Alternatives are separated by ``|``: ``encoding=uint8|float16``. A column is one of
        ``runs_frame``, ``config.<setting>``, or the name of a metric, which means that of ``split``. Sizes may have
        units. An empty value means missing: ``fold=``.

    Raises
    ------
    ConfigError
        For text that is no condition, an unknown column, or a value that cannot be compared.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"model": ["a", "b"], "n_mels": [96, 48], "bytes_alone": [5e9, 4e9]})
    >>> where(frame, "n_mels<=96 and bytes_alone<4.5GB")["model"].tolist()
    ['b']
    """
    parsed = parse_conditions(conditions)
    frame = frame_of(runs, [name for name, _, _ in parsed])
    keep = np.ones(len(frame), dtype=bool)
    for name, sign, value in parsed:
        column = f"{split}.{name}" if name not in frame and f"{split}.{name}" in frame else name
        if column not in frame:
            raise ConfigError(f"runs have no column {name!r}", "--where", did_you_mean(name, _known(frame)))
        keep &= _matches(frame[column], name, sign, value)
    return frame[keep]


def selected(runs: RunSet, conditions: str | Iterable[str], *, split: str = "test") -> RunSet:
    """The runs that meet all conditions."""
    return runs.of(where(runs, conditions, split=split)["run_id"])


def parse_conditions(conditions: str | Iterable[str]) -> list[tuple[str, str, str]]:
    """Every single condition as column, operator and value; several may be joined by `` and `` or commas."""
    return [parse_condition(text) for text in _split(conditions)]


def parse_condition(text: str) -> tuple[str, str, str]:
    """Take a condition apart into column, operator and value.

    Examples
    --------
    >>> parse_condition("model = 'vgg-cnn'")
    ('model', '=', 'vgg-cnn')
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{text!r} is no condition", "--where", "Write column=value, for example model=vgg-cnn or n_mels>=48"
        )
    name, sign, value = match.groups()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return name, "=" if sign == "==" else sign, value


def parse_bounds(texts: Iterable[str], option: str) -> dict[str, float]:
    """Read ``roc_auc=0.90`` and the like, several in one text separated by commas.

    Examples
    --------
    >>> parse_bounds(["roc_auc=0.90,pr_auc=0.3"], "--min")
    {'roc_auc': 0.9, 'pr_auc': 0.3}
    """
    found: dict[str, float] = {}
    for text in (part for whole in texts for part in whole.split(",")):
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"{text!r} is not NAME=NUMBER", option, f"Write {option} roc_auc=0.90") from None
    return found


def _split(conditions: str | Iterable[str]) -> list[str]:
    """Single conditions; commas inside brackets or quotes belong to a value, such as a feature's name."""
    parts: list[str] = []
    for text in [conditions] if isinstance(conditions, str) else conditions:
        shown, masked = "", _QUOTED.sub(_mask, text)
        while shown != masked:  # brackets from the inside out
            shown, masked = masked, _BRACKETS.sub(_mask, masked)
        ends = [0, *(end for found in _JOINT.finditer(masked) for end in found.span()), len(text)]
        parts += [text[start:stop] for start, stop in zip(ends[::2], ends[1::2], strict=True)]
    return [part for part in parts if part.strip()]


def _mask(found: re.Match[str]) -> str:
    return "x" * len(found[0])


def _matches(column: pd.Series, name: str, sign: str, value: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows meet one condition; a missing value meets only ``=`` nothing and ``!=`` something."""
    missing = column.isna().to_numpy()
    if value == "" and sign in ("=", "!="):
        return missing if sign == "=" else ~missing
    meets = _test(name, sign, value)
    try:
        found = np.asarray([not gone and meets(v) for v, gone in zip(column, missing, strict=True)], dtype=bool)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name} holds words and has no order", f"--where {name}{sign}{value}", "Use = or ~"
        ) from None
    return ~found if sign == "!=" else found


def _test(name: str, sign: str, value: str) -> Callable[[Any], bool]:
    """What a value that is not missing is asked; ``!=`` is asked as ``=``."""
    if sign == "~":
        return lambda found: value.lower() in str(found).lower()
    if sign in ("=", "!="):
        return lambda found: any(_same(found, option) for option in value.split("|"))
    number, compare = _number(name, value), _ORDER[sign]
    return lambda found: bool(compare(float(found), number))


def _same(value: Any, text: str) -> bool:
    if isinstance(value, str) or is_missing(value):
        return str(value) == text
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return str(value).lower() == text.lower()


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        if name.startswith("bytes"):
            return float(parse_bytes(text))
        raise ConfigError(f"{text!r} is not a number", f"--where {name}", "Write a number after < and >") from None


def _known(frame: pd.DataFrame) -> list[str]:
    names = [str(name) for name in frame]
    return names + [name.removeprefix("test.") for name in names if name.startswith("test.")]
