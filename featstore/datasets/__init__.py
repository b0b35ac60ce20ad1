"""Data sets: adapters that turn a folder, a list or the built-in music into one track table.

An adapter is a function of a root and options that returns a ``TrackTable``; ``DATASETS`` names them all and
``index`` calls one by name. Nothing here decodes audio: ``featstore.workflows.indexing`` adds durations and rates.
"""

from __future__ import annotations

import importlib
import inspect
import os
from typing import TYPE_CHECKING, Any

from featstore.errors import DatasetError, check_known
from featstore.registry import Registry

if TYPE_CHECKING:
    from featstore.datasets.card import Card as Card
    from featstore.datasets.checks import Finding as Finding
    from featstore.datasets.checks import check_table as check_table
    from featstore.datasets.splits import assign_splits as assign_splits
    from featstore.datasets.table import SPLITS as SPLITS
    from featstore.datasets.table import TableInfo as TableInfo
    from featstore.datasets.table import TrackTable as TrackTable

__all__ = [
    "DATASETS",
    "SPLITS",
    "Card",
    "Finding",
    "TableInfo",
    "TrackTable",
    "about",
    "assign_splits",
    "check_table",
    "describe",
    "index",
]

DATASETS = Registry(
    "kind of data set",
    {
        "folder": "featstore.datasets.folder:index_folder",
        "csv": "featstore.datasets.csv_list:index_csv",
        "demo": "featstore.datasets.demo.adapter:index_demo",
        "mtat": "featstore.datasets.mtat:index_mtat",
        "msd": "featstore.datasets.msd:index_msd",
        "fma": "featstore.datasets.fma:index_fma",
        "gtzan": "featstore.datasets.gtzan:index_gtzan",
        "ismir2004": "featstore.datasets.ismir2004:index_ismir2004",
        "audioset": "featstore.datasets.audioset:index_audioset",
    },
)

_LAZY = {
    "Card": "featstore.datasets.card",
    "SPLITS": "featstore.datasets.table",
    "TableInfo": "featstore.datasets.table",
    "TrackTable": "featstore.datasets.table",
    "assign_splits": "featstore.datasets.splits",
    "Finding": "featstore.datasets.checks",
    "check_table": "featstore.datasets.checks",
}


def index(kind: str, root: str | os.PathLike[str] | None = None, **options: Any) -> TrackTable:
    """Make the track table of a data set.

    Parameters
    ----------
    kind : str
        A name in ``DATASETS``.
    root : path, optional
        The folder or file of the data set; ``demo`` has a default, the others need one.
    **options
        Keyword arguments of the adapter; ``describe(kind)`` names them.

    Raises
    ------
    ConfigError
        For an unknown kind or option.
    DatasetError
        When the data set is not what the adapter expects.

    See Also
    --------
    describe : What a kind is, and its options.
    about : Its citation, licence, checksums and published counts.
    featstore.workflows.indexing.index_tracks : The same, with what the headers of the files declare.
    """
    adapter = DATASETS.load(kind)
    parameters = inspect.signature(adapter).parameters
    for name in options:
        check_known(name, set(parameters) - {"root"}, f"unknown option {name!r}", f"data set {kind}")
    if root is None and parameters["root"].default is inspect.Parameter.empty:
        raise DatasetError(
            "no folder or file given", f"data set {kind}", f"Write: featstore datasets index {kind} ROOT"
        )
    table: TrackTable = adapter(**options) if root is None else adapter(root, **options)
    return table


def describe(kind: str) -> tuple[str, tuple[str, ...]]:
    """First line of an adapter's description, and the names of its options.

    See Also
    --------
    about : Citation and licence of a kind.
    """
    adapter = DATASETS.load(kind)
    summary = (inspect.getdoc(adapter) or "").partition("\n")[0]
    return summary, tuple(name for name in inspect.signature(adapter).parameters if name != "root")


def about(kind: str) -> Card:
    """Citation, licence, checksums and published counts of a kind of data set.

    See Also
    --------
    Card : What it returns.
    """
    from featstore.datasets.card import card_of

    return card_of(DATASETS.load(kind))


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
