"""What is done with any adapter: the table of a data set, its options, and what is known of it."""

from __future__ import annotations

import inspect
import os
from typing import Any, get_type_hints

from featstore.datasets import DATASETS
from featstore.datasets.card import Card
from featstore.datasets.table import TrackTable
from featstore.errors import DatasetError, check_known
from featstore.typed_values import converted

__all__ = ["about", "describe", "index"]


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
    hints = get_type_hints(adapter)
    for name, value in options.items():
        check_known(name, set(parameters) - {"root"}, f"unknown option {name!r}", f"data set {kind}")
        options[name] = converted(hints[name], value, name, f"data set {kind}")
    if root is None and parameters["root"].default is inspect.Parameter.empty:
        fix = f"Write: featstore datasets index {kind} ROOT, or of a recipe --data {kind}=ROOT"
        raise DatasetError("no folder or file given", f"data set {kind}", fix)
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
    card: Card = getattr(DATASETS.load(kind), "card", Card())
    return card
