"""Extraction: from track tables and feature names to a store. The plan is pure; workers run it shard by shard.

Called as a function, ``featstore.extract(tracks, features, store)``, it is
:func:`featstore.workflows.toplevel.extract`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featstore.callable_package import make_callable

if TYPE_CHECKING:
    from featstore.extract.options import ExtractOptions as ExtractOptions
    from featstore.extract.plan import Plan as Plan
    from featstore.extract.plan import make_plan as make_plan
    from featstore.extract.run import ExtractReport as ExtractReport
    from featstore.extract.run import extract as extract

__all__ = ["ExtractOptions", "ExtractReport", "Plan", "extract", "make_plan"]

_HOMES = {
    "ExtractOptions": "options",
    "ExtractReport": "run",
    "Plan": "plan",
    "extract": "run",
    "make_plan": "plan",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"featstore.extract.{_HOMES[name]}"), name)


make_callable(__name__, "featstore.workflows.toplevel:extract")
