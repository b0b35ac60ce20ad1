"""Code that is imported when used: entries of registries, which list names without importing, and optional packages."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from featstore.errors import ConfigError, FeatstoreError, MissingDependency, check_known

__all__ = ["Registry", "load_attribute", "load_optional"]


class Registry(dict[str, str]):
    """Names of one kind of thing, each with its ``"module:attribute"``; a line is added by assignment.

    Examples
    --------
    >>> paths = Registry("path class", {"pure": "pathlib:PurePath"})
    >>> paths.load("pure").__name__
    'PurePath'
    """

    def __init__(self, kind: str, entries: Mapping[str, str], error: type[FeatstoreError] = ConfigError) -> None:
        super().__init__(entries)
        self.kind, self.error = kind, error

    def load(self, name: str, where: str = "") -> Any:
        """Import and return the entry called ``name``.

        Raises
        ------
        ConfigError
            When no entry has that name; the message lists near misses. Or the registry's own ``error``.
        """
        check_known(name, self, f"unknown {self.kind} {name!r}", where, error=self.error)
        return load_attribute(self[name])


def load_attribute(place: str) -> Any:
    """Import and return what a ``"module:attribute"`` names."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_optional(module: str, extra: str, purpose: str) -> Any:
    """Import a module of a package that an extra of featstore brings.

    Raises
    ------
    MissingDependency
        When the package is not installed; ``purpose`` says what needs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency.of(module.partition(".")[0], extra, purpose) from error
