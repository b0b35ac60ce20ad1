"""Where weights are: a name holds their digest, this process knows the files.

Digests are looked for among the files that were named before in this process, then among those that the environment
variable :data:`PLACES_VARIABLE` lists, separated like a PATH.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from featstore.errors import CheckpointError, SpecError

__all__ = [
    "PLACES_VARIABLE",
    "check_weights",
    "find_weights_file",
    "is_digest",
    "remember_weights",
    "required_weights",
    "weights_place",
]

PLACES_VARIABLE = "FEATSTORE_WEIGHTS"
DIGEST_DIGITS = 32
SHORTEST_PREFIX = 6

_places: dict[str, str] = {}  # digest: path of a file or folder


def is_digest(text: str) -> bool:
    """Whether a text is a whole digest and no path."""
    return len(text) == DIGEST_DIGITS and set(text) <= set("0123456789abcdef")


def remember_weights(digest: str, path: str | os.PathLike[str]) -> None:
    """Note where the file with these weights is, for this process."""
    _places[digest] = os.path.abspath(path)


def weights_place(digest: str) -> str | None:
    """Path of the weights with this digest, or None where it was not named in this process."""
    return _places.get(digest)


def find_weights_file(weights: str, digest_at: Callable[[str], str]) -> str | None:
    """Path of weights that are given as a path, a digest, or the start of a digest; None where there is none.

    Parameters
    ----------
    weights : str
    digest_at : callable
        Takes a path; gives the digest of what is there, or raises CheckpointError or SpecError for another model.
    """
    path = os.path.expanduser(weights)
    if weights and os.path.exists(path) and not is_digest(weights):
        return path
    if len(weights) < SHORTEST_PREFIX:
        return None
    found = {digest: place for digest, place in _places.items() if digest.startswith(weights)}
    if not found:
        for place in filter(None, os.environ.get(PLACES_VARIABLE, "").split(os.pathsep)):
            try:
                digest = digest_at(place)
            except (CheckpointError, SpecError):
                continue  # of another model
            remember_weights(digest, place)
            if digest.startswith(weights):
                found[digest] = place
    return next(iter(found.values())) if len(found) == 1 else None


def required_weights(digest: str, digest_at: Callable[[str], str], of: str, kind: str) -> str:
    """Path of the weights that a feature names.

    Parameters
    ----------
    digest : str
    digest_at : callable
        Digest of the weights at a path.
    of : str
        What they are, for the message: ``weights 0123… of mtt-musicnn``.
    kind : str
        Kind of the feature.

    Raises
    ------
    CheckpointError
        When they are not found.
    """
    place = find_weights_file(digest, digest_at)
    if place is None:
        fix = f"Give the feature with weights=PATH, or name the file in {PLACES_VARIABLE}"
        raise CheckpointError(f"the {of} are not available here", kind, fix)
    return place


def check_weights(found: str, digest: str, place: str, made: str) -> None:
    """Refuse a file whose weights have changed since a feature was named by their digest."""
    if found != digest:
        fix = f"Restore it, or ask for the {made} of the new weights: they are another feature"
        raise CheckpointError(f"the file holds the weights {found} now, not {digest}", place, fix)
