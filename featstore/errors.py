"""Errors of featstore: what is wrong, where, and what to do about it.

Every error takes plain positional arguments, so that it survives the trip from a worker process unchanged.
"""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Collection, Iterable, Mapping

__all__ = [
    "CheckpointError",
    "ConfigError",
    "CorruptFeature",
    "DatasetError",
    "DecodeError",
    "FeatstoreError",
    "MissingDependency",
    "MissingFeature",
    "NewerFormat",
    "ObjectStorageError",
    "PlanError",
    "SpecError",
    "StoreError",
    "StoreLocked",
    "check_keys",
    "check_known",
    "did_you_mean",
]


class FeatstoreError(Exception):
    """Root of all errors that featstore raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, with the offending value.
    where : str
        The thing it was found in: a spec, a path, a track id.
    fix : str
        What the reader can do.
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        advice = f". {self.fix}" if self.fix else ""
        return f"{self.what}{place}{advice}"


class SpecError(FeatstoreError, ValueError):
    """A feature spec asks for something that does not exist or cannot be computed."""


class DatasetError(FeatstoreError, ValueError):
    """A data set folder or track table is not what its adapter expects."""


class DecodeError(FeatstoreError, OSError):
    """An audio file cannot be turned into samples."""


class PlanError(FeatstoreError, ValueError):
    """The requested features cannot be joined into one extraction."""


class StoreError(FeatstoreError):
    """A store cannot be opened, written or trusted."""


class MissingFeature(StoreError, LookupError):
    """The store holds neither the feature nor anything it derives from."""


class CorruptFeature(StoreError):
    """Stored bytes differ from what was committed."""


class NewerFormat(StoreError):
    """A newer version of featstore wrote it, in a format that this one does not know."""


class StoreLocked(StoreError):
    """Another run is writing what this one wants to write."""


class ObjectStorageError(FeatstoreError):
    """An object store does not answer or refuses; it says nothing about what is stored there."""


class ConfigError(FeatstoreError, ValueError):
    """A setting is unknown or out of range."""


class CheckpointError(FeatstoreError):
    """A checkpoint is truncated, foreign, or belongs to another model or feature."""


class MissingDependency(FeatstoreError, ImportError):
    """An optional package is absent; the message names the extra that brings it."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingDependency:
        """Build the error for ``package``, which ``pip install 'featstore[extra]'`` provides."""
        return cls(f"{purpose} needs the package {package!r}", "", f"Install it: pip install 'featstore[{extra}]'")


_ALL_SHOWN = 12
_MOST_COMPARED = 4000  # names: to compare a million, as of tracks, letter by letter would take a minute


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Advice for an unknown name: the near misses and what is known; of a long list the five nearest at most.

    ``prefix`` stands before every name that is shown.

    Examples
    --------
    >>> did_you_mean("n_mel", ["n_mels", "hop_length"])
    'Did you mean n_mels? Known: hop_length, n_mels'
    >>> did_you_mean("epoch", ["epochs", *map(str, range(100))], prefix="loop.")
    'Did you mean loop.epochs? There are 101'
    """
    known = sorted(known)
    long = len(known) > _ALL_SHOWN
    compared = _alike(name, known)
    near = difflib.get_close_matches(name, compared, n=5 if long else 3, cutoff=0.6)
    near = [prefix + each for each in near]
    if not long:
        known = [prefix + each for each in known]
        listing = f"Known: {', '.join(known)}" if known else "Nothing is known here"
    elif near:
        listing = f"There are {len(known):,}"
    else:
        nearest = difflib.get_close_matches(name, compared, n=5, cutoff=0.0)
        listing = f"There are {len(known):,}, such as {', '.join(prefix + each for each in nearest)}"
    return f"Did you mean {' or '.join(near)}? {listing}" if near else listing


def _alike(name: str, known: list[str]) -> list[str]:
    """Of very many sorted names those that begin like one or end like it."""
    if len(known) <= _MOST_COMPARED:
        return known
    found: set[str] = set()
    for step in (1, -1):
        names = known if step == 1 else sorted(each[::-1] for each in known)
        at = bisect.bisect(names, name[::step])
        around = names[max(0, at - _MOST_COMPARED // 4) : at + _MOST_COMPARED // 4]
        found.update(each[::step] for each in around)
    return sorted(found)


def check_known(
    name: object, known: Collection[str], what: str, where: str = "", *, error: type[FeatstoreError] = ConfigError
) -> None:
    """Refuse a name that is not known; the advice is that of :func:`did_you_mean`.

    Raises
    ------
    ConfigError
        Or ``error``, with ``what`` and ``where``.

    Examples
    --------
    >>> check_known("hop_length", ["n_mels", "hop_length"], "unknown field 'hop_length'")
    """
    try:
        there = name in known
    except TypeError:  # a list or a mapping from a YAML file, which no set can hold
        there = False
    if not there:
        raise error(what, where, did_you_mean(str(name), known))


def check_keys(entry: object, keys: Collection[str], where: str) -> None:
    """Refuse a part of a settings file that is no mapping, or has a key that is not known.

    Raises
    ------
    ConfigError
    """
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{entry!r} is not a mapping", where, f"Its keys are {', '.join(keys)}")
    for key in entry:
        check_known(key, keys, f"unknown key {key!r}", where)
