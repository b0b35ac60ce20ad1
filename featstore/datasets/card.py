"""What a published data set is: where it comes from, under which terms, how big it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["Card", "described"]

Adapter = TypeVar("Adapter", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Facts that an adapter carries; ``featstore datasets list`` shows them.

    Attributes
    ----------
    citation : str
        Empty for a user's own music.
    licence : str
        Of the audio and the labels, as published.
    checksums : mapping of str to str
        Published digests of the archives, ``sha1:…`` or ``sha256:…``, by file name; empty where none were published.
    counts : mapping of str to (mapping of str to int)
        Tracks of each split, by the name of the table that the adapter makes of the whole set.
    clip_s : float
        Seconds that a whole clip has at least; 0 where tracks have lengths of their own.
    """

    citation: str = ""
    licence: str = "that of your own files"
    checksums: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    clip_s: float = 0.0


def described(**facts: Any) -> Callable[[Adapter], Adapter]:
    """Attach the facts of a ``Card`` to an adapter."""
    card = Card(**facts)

    def attach(adapter: Adapter) -> Adapter:
        adapter.card = card  # type: ignore[attr-defined]
        return adapter

    return attach
