"""What the extraction knew of the weights behind an array: where they were, their licence, what they have seen.

A note is on the machine's and the weights' part, not on the array's: it lies in ``log/``, outside hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featstore.atomic import DAMAGED, canonical_json, json_object
from featstore.errors import FeatstoreError
from featstore.store.location import Location

__all__ = ["read_weights_note", "write_weights_note"]

_FOLDER = "log/weights"


def write_weights_note(location: Location, digest: str, note: Mapping[str, Any]) -> None:
    """Keep a note on weights: ``path``, and what their feature says of them."""
    location.write(f"{_FOLDER}/{digest}.json", canonical_json(dict(note)))


def read_weights_note(location: Location, digest: str) -> dict[str, Any]:
    """Note on weights; empty where it was never written, or is damaged."""
    try:
        return json_object(location.read(f"{_FOLDER}/{digest}.json"))
    except (FeatstoreError, *DAMAGED):
        return {}
