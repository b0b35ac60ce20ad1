"""What features with weights need besides their arrays: codebooks in the store, and files that workers can find."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from featstore.errors import CorruptFeature, FeatstoreError, PlanError
from featstore.features.weights import PLACES_VARIABLE, remember_weights, weights_place
from featstore.specs import FeatureSpec
from featstore.store.location import Location
from featstore.store.store import Store
from featstore.store.weight_notes import read_weights_note, write_weights_note

__all__ = [
    "check_licences",
    "find_weights",
    "keep_codebooks",
    "restore_codebooks",
    "weights_facts",
]

logger = logging.getLogger(__name__)


def keep_codebooks(store: Store, specs: Iterable[FeatureSpec]) -> None:
    """Put the codebooks of features into a store, note where their weights are, and warn of mixed settings.

    Raises
    ------
    CheckpointError
        When the weights of an array are not found, or are others by now.
    """
    for spec in dict.fromkeys(spec for spec in specs if spec.weights_digest):
        _warn_if_mixed(store, spec)
        find_weights(store.location, [spec])
        if weights_place(str(spec.weights_digest)) is None and _has_codebook(store, spec):
            continue  # perhaps nothing is left to compute; a worker that needs the weights says so
        _keep(store, spec)


def _keep(store: Store, spec: FeatureSpec) -> None:
    if spec.codebook_name:
        store.backend.write_codebook(spec.codebook_name, *spec.codebook())
    digest = str(spec.weights_digest)
    place = weights_place(digest)
    if place is not None:
        write_weights_note(store.location, digest, {"path": place} | spec.weights_facts())


def weights_facts(store: Store) -> dict[str, dict[str, str]]:
    """Licence, source and training data of the weights behind a store's arrays, by digest, where they are noted."""
    found = {}
    for digest in sorted(
        {str(array.spec.weights_digest) for array in store.arrays.values() if array.spec.weights_digest}
    ):
        noted = store.weights_note(digest)
        if "licence" in noted:
            found[digest] = {name: str(noted.get(name, "")) for name in ("model", "licence", "source")}
            found[digest]["trained_on"] = str(noted.get("data", "unknown data")) or "nothing"
    return found


def check_licences(specs: Iterable[FeatureSpec], allowed: Iterable[str]) -> None:
    """Refuse features whose weights have a licence that is not allowed, compared without regard to case.

    Raises
    ------
    PlanError
        With the encoder, its licence and what was allowed.
    """
    allowed = list(allowed)
    known = {name.strip().lower() for name in allowed}
    for spec in dict.fromkeys(spec for spec in specs if spec.weights_digest):
        facts = spec.weights_facts()
        if "licence" in facts and facts["licence"].strip().lower() not in known:
            raise PlanError(
                f"the weights of {facts['model']} have the licence {facts['licence']}",
                spec.short(),
                f"Allowed: {', '.join(allowed)}. Allow it with --licence-allow, or use another encoder",
            )


def restore_codebooks(store: Store, damaged: AbstractSet[str]) -> dict[str, str]:
    """Write codebooks again, each from its weights, where these are found; what to do about the others.

    Parameters
    ----------
    store : Store
    damaged : set of str
        Names of codebooks; others stay as they are.

    Returns
    -------
    dict of str to str
        Names of the codebooks that are left, each with what it lacks.
    """
    left = {}
    specs = {array.spec.codebook_name: array.spec for array in store.arrays.values()}
    for name in sorted(damaged & specs.keys()):
        find_weights(store.location, [specs[name]])
        try:
            _keep(store, specs[name])
        except FeatstoreError as error:
            left[name] = str(error)
    return left


def find_weights(location: Location, specs: Iterable[FeatureSpec]) -> None:
    """Note for this process, and those that it starts, where the weights of features are, as the store has it.

    The path may be stale: the user's own places come first, and then what is at the path is checked when it is used.
    """
    for digest in {spec.weights_digest for spec in specs} - {None}:
        if weights_place(str(digest)) is not None:
            continue
        place = str(read_weights_note(location, str(digest)).get("path", ""))
        if os.path.exists(place):  # else never noted, or moved: opening the weights says what is missing
            known = os.environ.get(PLACES_VARIABLE, "")
            if not known:
                remember_weights(str(digest), place)
            if place not in known.split(os.pathsep):
                os.environ[PLACES_VARIABLE] = os.pathsep.join(filter(None, [known, place]))


def _has_codebook(store: Store, spec: FeatureSpec) -> bool:
    try:
        return spec.codebook_name is None or store.codebook(spec) is not None
    except CorruptFeature:
        return False


def _warn_if_mixed(store: Store, spec: FeatureSpec) -> None:
    for other in {array.spec for array in store.arrays.values()} - {spec}:
        differing = spec.mixes_with(other)
        if differing:
            pairs = ", ".join(f"{name}={getattr(other, name)} and {getattr(spec, name)}" for name in differing)
            logger.warning(
                "the store mixes %s of different settings: %s; their numbers do not compare",
                "tokens" if spec.vocabulary else spec.kind,
                pairs,
            )
