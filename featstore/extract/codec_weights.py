"""What token features need besides their arrays: the codebook in the store, and weights that workers can find."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np

from featstore.atomic import canonical_json
from featstore.errors import CorruptFeature, FeatstoreError
from featstore.features.vq_tokens import PLACES_VARIABLE, tokenizer_of
from featstore.specs import VqTokensSpec
from featstore.specs.tokens import remember_weights, weights_place
from featstore.store.layout import ArrayHeader
from featstore.store.location import Location
from featstore.store.store import Store

__all__ = ["codec_versions", "find_weights", "keep_codecs", "restore_codebooks"]

logger = logging.getLogger(__name__)

_HINTS = "log/weights"  # digest to path, on the machine that extracts: outside hashes, like all of log/
_NOT_MIXED = ("level", "weights", "normalize", "decoder", "resampler", "sample_rate")


def keep_codecs(store: Store, headers: Iterable[ArrayHeader]) -> None:
    """Put the codebooks of token arrays into a store, note where their weights are, and warn of mixed settings.

    Raises
    ------
    CheckpointError
        When the weights of an array are not to be found, or are others by now.
    """
    wanted = [header.spec for header in headers if isinstance(header.spec, VqTokensSpec)]
    for spec in dict.fromkeys(wanted):
        _warn_if_mixed(store, spec)
        find_weights(store.location, [spec])
        if weights_place(spec.weights) is None and _has_codebook(store, spec):
            continue  # nothing may be left to compute; a worker that does need them says so
        _keep_codec(store, spec)


def _keep_codec(store: Store, spec: VqTokensSpec) -> None:
    tokenizer = tokenizer_of(spec)
    vectors = np.stack([tokenizer.codebook_vectors(book) for book in range(spec.n_codebooks)])
    provenance = dict(tokenizer.info.provenance)
    provenance["file"] = Path(str(provenance.get("file", ""))).name
    about = {"codec": spec.codec, "level": spec.level, "weights": spec.weights, "hop": spec.hop}
    store.put_codebook(spec, vectors, about | {"sample_rate": spec.sample_rate, "provenance": provenance})
    place = weights_place(spec.weights)
    if place is not None:
        store.location.write(f"{_HINTS}/{spec.weights}.json", canonical_json({"path": os.path.abspath(place)}))


def restore_codebooks(store: Store, damaged: AbstractSet[str]) -> dict[str, str]:
    """Write codebooks again, each from its weights, where these are known; what to do about the others.

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
    named = (header.spec for header, _ in store.arrays.values())
    specs = {spec.codebook_name: spec for spec in named if isinstance(spec, VqTokensSpec)}
    for name in sorted(damaged & specs.keys()):
        find_weights(store.location, [specs[name]])
        try:
            _keep_codec(store, specs[name])
        except FeatstoreError as error:
            left[name] = str(error)
    return left


def find_weights(location: Location, specs: Iterable[Any]) -> None:
    """Tell this process, and those that it starts, where the weights of token features are."""
    for spec in specs:
        if not isinstance(spec, VqTokensSpec) or weights_place(spec.weights) is not None:
            continue
        try:
            place = str(json.loads(location.read(f"{_HINTS}/{spec.weights}.json"))["path"])
        except (OSError, ValueError, KeyError, TypeError, FeatstoreError):
            continue  # never noted, or damaged: opening the tokenizer says what is missing
        if os.path.exists(place):
            remember_weights(spec.weights, place)
            known = os.environ.get(PLACES_VARIABLE, "")
            if place not in known.split(os.pathsep):
                os.environ[PLACES_VARIABLE] = os.pathsep.join(filter(None, [known, place]))


def codec_versions(store: Store, keys: Sequence[str]) -> dict[str, str]:
    """Versions of the libraries that make tokens, where there are any among ``keys``."""
    codecs = {spec.codec for key in keys if isinstance(spec := store.arrays[key][0].spec, VqTokensSpec)}
    if not codecs:
        return {}
    names = ["torch"] if codecs == {"jukebox"} else ["torch", "transformers"]
    return {name: importlib.metadata.version(name) for name in names}


def _has_codebook(store: Store, spec: VqTokensSpec) -> bool:
    try:
        store.codebook(spec)
    except CorruptFeature:
        return False
    return True


def _warn_if_mixed(store: Store, spec: VqTokensSpec) -> None:
    for other in {header.spec for header, _ in store.arrays.values()}:
        if not isinstance(other, VqTokensSpec) or other == spec or other.codec != spec.codec:
            continue
        differing = [name for name in _NOT_MIXED if getattr(other, name) != getattr(spec, name)]
        if differing and other.level == spec.level:
            told = ", ".join(f"{name}={getattr(other, name)} and {getattr(spec, name)}" for name in differing)
            logger.warning("the store mixes tokens of different settings: %s; their numbers do not compare", told)
