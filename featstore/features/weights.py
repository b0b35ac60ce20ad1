"""Where weights are: a name holds their digest, this process knows the files.

Digests are looked for among the files that were named before in this process, then among those that the environment
variable :data:`PLACES_VARIABLE` lists, separated like a PATH.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from featstore.errors import CheckpointError, SpecError
from featstore.specs import FeatureSpec

__all__ = [
    "PLACES_VARIABLE",
    "check_facts",
    "described_weights",
    "find_weights_file",
    "is_digest",
    "opened_weights",
    "remember_weights",
    "short_name",
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


class Described(Protocol):
    """Facts about weights, their digest among them."""

    @property
    def digest(self) -> str: ...


Info = TypeVar("Info", bound=Described)
Opened = TypeVar("Opened")


def opened_weights(
    kind: str, name: str, digest: str, load: Callable[..., Opened], describe: Callable[..., Described], **settings: Any
) -> Opened:
    """Open what has the weights that a feature names, or take it where it is open already.

    Parameters
    ----------
    kind : str
        Of the feature.
    name, digest : str
        The encoder or codec, and its weights.
    load, describe : callable
        Take the name, a path and the settings, and give what is there, with its ``info``; and that information alone.

    Raises
    ------
    CheckpointError
        When the weights are not found, or the file there holds others by now.
    """
    place = find_weights_file(digest, lambda path: describe(name, path, **settings).digest)
    if place is None:
        fix = f"Give the feature with weights=PATH, or name the file in {PLACES_VARIABLE}"
        raise CheckpointError(f"the {name} weights {digest} are not available here", kind, fix)
    found: Opened = _opened(load, name, place, digest, **settings)
    return found


@functools.lru_cache(maxsize=4)
def _opened(load: Callable[..., Any], name: str, place: str, digest: str, **settings: Any) -> Any:
    opened = load(name, place, **settings)
    if opened.info.digest != digest:
        fix = "Restore it, or ask for the feature of the new weights: it is another one"
        raise CheckpointError(f"the file holds the weights {opened.info.digest} now, not {digest}", place, fix)
    return opened


def described_weights(
    spec: FeatureSpec, weights: str, describe: Callable[[str], Info], lacking: Iterable[str], about: str
) -> Info:
    """Facts of the weights that a spec names; their file is remembered.

    Parameters
    ----------
    spec : FeatureSpec
    weights : str
        A path, a digest, or the start of one.
    describe : callable
        Takes a path; gives the facts of what is there.
    lacking : iterable of str
        Fields of the spec that are not known without the weights, for the message.
    about : str
        Field that says whose weights they are, for the message.

    Raises
    ------
    SpecError
        When there is no such file.
    """
    place = find_weights_file(weights, lambda path: describe(path).digest)
    if place is None and is_digest(weights):
        raise spec._refuse(
            f"the weights {weights} are not available here, and {', '.join(lacking)} follow from them",
            f"Give weights=PATH, name the file in {PLACES_VARIABLE}, or give the full name as featstore store info "
            "prints it",
            about,
        )
    if place is None:
        raise spec._refuse(
            f"weights={weights} is neither a file nor a known digest",
            f"Check the path; a digest, or its first {SHORTEST_PREFIX} digits and more, needs the file in "
            f"{PLACES_VARIABLE}",
            about,
        )
    info = describe(place)
    remember_weights(info.digest, place)
    return info


def check_facts(spec: FeatureSpec, found: Mapping[str, Any], what_has: str, about: str) -> None:
    """Refuse a spec whose whole numbers contradict what follows from its weights.

    Parameters
    ----------
    spec : FeatureSpec
    found : mapping
        By fields of the spec.
    what_has : str
        Where the values are from, for the message: ``checkpoint, which has``.
    about : str
        Field that says whose weights they are, for the message.
    """
    for name, value in found.items():
        given = getattr(spec, name)
        if isinstance(given, int) and given != value:
            raise spec._refuse(
                f"{name}={given} does not fit the {what_has} {value}",
                f"Leave {name} out: it follows from the weights",
                about,
            )


def short_name(spec: FeatureSpec, shown: list[str]) -> str:
    """Name of a spec with weights: what is shown of it anyway, and what differs from the usual of other fields."""
    usual = {"decoder": "soundfile", "resampler": "soxr_hq", "normalize": "none", "combine": "sum", "clip": "whole"}
    values = {name: str(getattr(spec, name, plain)) for name, plain in usual.items()}
    shown = [*shown, *(f"{name}={value}" for name, value in values.items() if value != usual[name])]
    return f"{spec.kind}({','.join(shown)})"
