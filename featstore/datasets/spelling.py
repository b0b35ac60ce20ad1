"""Names that print alike are one name: labels, groups and splits as lists and folders spell them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

__all__ = ["clean_name", "clean_names", "near_equal", "printable"]

# Format characters that print nothing. Joiners (U+200C, U+200D) stay: they change how some scripts are written.
_INVISIBLE = re.compile("[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)\W+(?=\d)")
_SHORTEST_TYPO = 6  # letters; in shorter names one letter makes another word


def clean_name(text: str) -> str:
    r"""``text`` in Unicode's composed form, without invisible characters, with single plain blanks inside.

    Examples
    --------
    >>> clean_name(" hip\u00a0hop\u200b ")
    'hip hop'
    """
    if text.isascii() and text.strip() == text and "  " not in text and text.isprintable():
        return text
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", text)).split())


def clean_names(lists: Sequence[Sequence[str]]) -> tuple[list[list[str]], str]:
    """Labels of every track, cleaned and each once, and a sentence that says which names were changed.

    The sentence is empty when none was. An empty name is no label.
    """
    changed: dict[str, str] = {}
    cleaned = []
    for names in lists:
        row: dict[str, None] = {}
        for name in names:
            clean = clean_name(name)
            if clean != name:
                changed[name] = clean
            if clean:
                row[clean] = None
        cleaned.append(list(row))
    if not changed:
        return cleaned, ""
    shown = ", ".join(f"{old!a} as {new!r}" for old, new in sorted(changed.items())[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return cleaned, f"names were normalised (composed Unicode, plain blanks): {shown}{more}"


def near_equal(names: Iterable[str], *, typos: bool = True) -> list[tuple[str, ...]]:
    """Groups of names that differ in case, marks, blanks or punctuation alone, or (``typos``) in one letter.

    The last rule holds for names of six letters and more; a digit is never a slip.

    Examples
    --------
    >>> near_equal(["Hip-Hop", "hip hop", "electronic", "electonic", "1980s", "1990s", "jazz"])
    [('Hip-Hop', 'hip hop'), ('electonic', 'electronic')]
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        alike[_skeleton(name) or name].append(name)
    groups = {tuple(found) for found in alike.values() if len(found) > 1}
    if not typos:
        return sorted(groups)
    long = {key for key in alike if len(key) >= _SHORTEST_TYPO and key.isalpha()}
    pairs: set[tuple[str, str]] = set()
    replaced: dict[tuple[int, str], list[str]] = defaultdict(list)
    for key in long:
        shorter = [key[:place] + key[place + 1 :] for place in range(len(key))]
        pairs.update((key, each) for each in shorter if each in long)
        for place in enumerate(shorter):
            replaced[place].append(key)
    pairs.update(pair for keys in replaced.values() for pair in combinations(keys, 2))
    groups.update(tuple(sorted((alike[one][0], alike[other][0]))) for one, other in pairs)
    return sorted(groups)


def printable(text: str) -> str:
    r"""``text`` with bytes that are not UTF-8 written as ``\xff``, so that it can be stored and printed."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _skeleton(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    apart = _BETWEEN_DIGITS.sub("|", decomposed)  # 1.2 is not 12
    return "".join(each for each in apart if each.isalnum() or each == "|")
