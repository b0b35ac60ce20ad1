"""A package whose name is also a verb: ``featstore.extract`` holds the code, ``featstore.extract(…)`` does one."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from featstore.registry import load_attribute

__all__ = ["make_callable"]


class _CallablePackage(ModuleType):
    """A module that passes calls on to one function, which is imported then."""

    _called: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return load_attribute(self._called)(*args, **kwargs)


def make_callable(package: str, place: str) -> None:
    """Let calls of a package go to the function at ``"module:attribute"``.

    Importing a package's submodule binds the package's name in its parent, so that a lazy attribute of the parent
    cannot have the same name: the package itself must take the call.
    """
    module = sys.modules[package]
    module.__class__ = _CallablePackage
    module._called = place  # type: ignore[attr-defined]
