"""The small language of specs: ``kind.r1(key=value, key=name(1, b=2))@encoding``.

Reading and writing are inverse: numbers, words and calls have one canonical spelling each, so that a name can be an
identity. Nothing is evaluated; text that is not of this form is refused with its position.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from featstore.errors import SpecError

__all__ = [
    "Call",
    "format_number",
    "parse_bool",
    "parse_call",
    "parse_float",
    "parse_int",
    "parse_seconds",
    "split_top",
]

_CALL = re.compile(r"\s*([A-Za-z_][\w.\-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_PAIR = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Call:
    """A name with its arguments as raw text: ``db(amin=1e-10)`` is ``Call("db", (), {"amin": "1e-10"})``."""

    name: str
    args: tuple[str, ...] = ()
    kwargs: dict[str, str] = field(default_factory=dict)


def split_top(text: str, separator: str = ",") -> list[str]:
    """Split at separators outside brackets and quotes; empty text has no parts.

    Examples
    --------
    >>> split_top("a=1, b=f(2, 3), c='x,y'")
    ['a=1', ' b=f(2, 3)', " c='x,y'"]
    """
    parts, depth, quote, start = [], 0, "", 0
    for position, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
            if depth < 0:
                raise SpecError(f"unexpected {letter!r} at position {position} of {text!r}", "", "Check the brackets")
        elif letter == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    if depth or quote:
        missing = "closing bracket" if depth else "closing quote"
        raise SpecError(f"{missing} missing in {text!r}", "", "Check the brackets and quotes")
    parts.append(text[start:])
    return parts if any(part.strip() for part in parts) else []


def parse_call(text: str) -> Call:
    """Read ``name`` or ``name(arguments)``; keyword values stay raw text, quotes around them are removed.

    Raises
    ------
    SpecError
        When the text has another form, or names one argument twice.
    """
    match = _CALL.fullmatch(text)
    if match is None:
        raise SpecError(f"cannot read {text!r}", "", "Write name or name(key=value, …)")
    args: list[str] = []
    kwargs: dict[str, str] = {}
    for part in split_top(match[2] or ""):
        pair = _PAIR.fullmatch(part)
        if pair is None:
            if not part.strip():
                raise SpecError(f"empty argument in {text!r}", "", "Remove the extra comma")
            args.append(_unquote(part))
        elif pair[1] in kwargs:
            raise SpecError(f"{pair[1]} is given twice in {text!r}", "", "Keep one of them")
        else:
            kwargs[pair[1]] = _unquote(pair[2])
    return Call(match[1], tuple(args), kwargs)


def _unquote(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def format_number(value: float) -> str:
    """Shortest spelling that reads back to the same number, without a trailing ``.0``.

    Examples
    --------
    >>> format_number(10.0), format_number(29.1), format_number(1e-10)
    ('10', '29.1', '1e-10')
    """
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def parse_int(value: object, name: str) -> int:
    """Whole number from text or a number; ``16000.0`` is accepted, ``16000.5`` is not."""
    number = parse_float(value, name)
    if not number.is_integer():
        raise SpecError(f"{name}={value} is not a whole number", "", "Give a whole number")
    return int(number)


def parse_float(value: object, name: str) -> float:
    """Finite number from text or a number."""
    try:
        if isinstance(value, bool) or (not isinstance(value, (str, int, float)) and not hasattr(value, "__float__")):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise SpecError(f"{name}={value!r} is not a number", "", "Give a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise SpecError(f"{name}={value} is not finite", "", "Give a finite number")
    return number


def parse_bool(value: object, name: str) -> bool:
    """Truth from ``yes``/``no``, ``true``/``false`` or a bool."""
    if isinstance(value, bool):
        return value
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    try:
        return known[str(value).strip().lower()]
    except KeyError:
        raise SpecError(f"{name}={value!r} is neither yes nor no", "", "Write yes or no") from None


def parse_seconds(value: object, name: str) -> float:
    """Seconds from ``29.1``, ``"29.1 s"`` or ``"250 ms"``."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\S+?)\s*(ms|s)?\s*", value)
        if match is None:
            raise SpecError(f"{name}={value!r} is not a duration", "", "Write it like 29.1 s")
        number = parse_float(match[1], name)
        return number / 1000 if match[2] == "ms" else number
    return parse_float(value, name)
