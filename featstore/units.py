"""Numbers as people write them: sizes, durations, shares; read and printed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from featstore.errors import ConfigError

__all__ = [
    "counted",
    "format_bytes",
    "format_count",
    "format_rate",
    "format_seconds",
    "format_span",
    "parse_bytes",
    "parse_within",
]

_DECIMAL = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
_BINARY = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "PIB": 2**50}


def parse_bytes(text: str) -> int:
    """Read a size: decimal units as disks are sold (``50GB`` is 50·10⁹), binary ones with an i (``GiB``).

    Examples
    --------
    >>> parse_bytes("50GB"), parse_bytes("1.5 GiB"), parse_bytes("1200")
    (50000000000, 1610612736, 1200)
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    unit = match.group(2).upper() if match else ""
    factor = {**_DECIMAL, **_BINARY, **{name[0]: value for name, value in _DECIMAL.items() if name}}.get(unit)
    if match is None or factor is None or math.isinf(float(match.group(1))):
        raise ConfigError(f"{text!r} is not a size", "", "Write a number and a unit, such as 50GB or 1.5TiB")
    return round(float(match.group(1)) * factor)


def parse_within(text: str) -> tuple[float, bool]:
    """Read a tolerance: ``0.5%`` is relative (0.005, True), ``0.005`` is in the metric's own unit (0.005, False).

    Examples
    --------
    >>> parse_within("0.5%"), parse_within("0.01")
    ((0.005, True), (0.01, False))
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%?)\s*", text)
    if match is None:
        raise ConfigError(f"{text!r} is not a tolerance", "", "Write 0.5% of the best, or 0.005 in the metric's unit")
    relative = match.group(2) == "%"
    return float(match.group(1)) / (100 if relative else 1), relative


def format_span(counts: Iterable[int]) -> str:
    """Print the least and the greatest of some counts, once where they are equal.

    Examples
    --------
    >>> format_span([3, 3]), format_span([5, 2, 3])
    ('3', '2 to 5')
    """
    low, *others = sorted(set(counts))
    return f"{low} to {others[-1]}" if others else str(low)


def counted(count: int, noun: str) -> str:
    """Print a number of things.

    Examples
    --------
    >>> counted(1, "track"), counted(1200, "track")
    ('1 track', '1,200 tracks')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_bytes(value: float | None) -> str:
    """Print a size in decimal units, three digits.

    Examples
    --------
    >>> format_bytes(13_600_000_000), format_bytes(524), format_bytes(None)
    ('13.6 GB', '524 B', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    for unit, factor in reversed(_DECIMAL.items()):
        if unit and (abs(value) >= factor or unit == "B"):
            scaled = value / factor
            return f"{scaled:.0f} B" if unit == "B" else f"{_three_digits(scaled)} {unit.replace('K', 'k')}"
    return f"{value:.0f} B"


def format_rate(value: float | None) -> str:
    """Print bit per second of audio, as codecs state it.

    Examples
    --------
    >>> format_rate(6000), format_rate(192_000.0), format_rate(78.2), format_rate(None)
    ('6.00 kbit/s', '192 kbit/s', '0.0782 kbit/s', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{_three_digits(value / 1000)} kbit/s"


def format_seconds(value: float | None) -> str:
    """Print a duration: seconds, then minutes, then hours.

    Examples
    --------
    >>> format_seconds(3.21), format_seconds(75), format_seconds(9000), format_seconds(0.0123)
    ('3.21 s', '1.25 min', '2.50 h', '12.3 ms')
    """
    if value is None or math.isnan(value):
        return "–"
    if value and abs(value) < 1:
        return f"{_three_digits(value * 1000)} ms"
    for unit, factor in (("h", 3600), ("min", 60)):
        if abs(value) >= factor:
            return f"{_three_digits(value / factor)} {unit}"
    return f"{_three_digits(value)} s"


def format_count(value: float | None) -> str:
    """Print a count with a thin separator between thousands.

    Examples
    --------
    >>> format_count(17365940)
    '17,365,940'
    """
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}"


def _three_digits(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-12))
    return f"{value:,.{decimals}f}"
