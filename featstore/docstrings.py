"""What the docstring of a record says of its fields, for listings."""

from __future__ import annotations

import inspect
import re
from typing import Any

__all__ = ["field_meanings", "summary_of"]

_SECTION = re.compile(r"^(Parameters|Attributes)\n-+\n(.*?)(?=^\w[^\n]*\n-{3,}\n|\Z)", re.MULTILINE | re.DOTALL)
_ROLE = re.compile(r":\w+:`~?([^`]*)`")
_ENTRY = re.compile(r"^(\w[\w, ]*?) : ([^\n]*)\n?((?:^(?: {4}[^\n]*)?\n?)*)", re.MULTILINE)


def summary_of(thing: Any) -> str:
    """First line of a docstring, without the marks of code."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "")


def field_meanings(record: type) -> dict[str, str]:
    """What each field means, from the sections Parameters and Attributes of a class and of those it extends.

    A field whose entry has no text of its own is described by its type there.

    Examples
    --------
    >>> class Size:
    ...     '''A size.
    ...
    ...     Attributes
    ...     ----------
    ...     width, height : int
    ...         In pixels.
    ...     '''
    >>> field_meanings(Size)
    {'width': 'In pixels.', 'height': 'In pixels.'}
    """
    found: dict[str, str] = {}
    for cls in reversed(record.__mro__):
        text = cls.__dict__.get("__doc__") or ""
        for section in _SECTION.finditer(inspect.cleandoc(text) + "\n"):
            for names, kind, lines in _ENTRY.findall(_ROLE.sub(r"\1", section[2])):
                meaning = " ".join(lines.split()) or kind
                found |= {name.strip(): meaning.replace("``", "") for name in names.split(",")}
    return found
