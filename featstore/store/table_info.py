"""What was true of the track table that a store was made from: it travels in the metadata of ``tracks.parquet``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ATTRIBUTE", "StoredTable", "carry_over", "table_of"]

ATTRIBUTE = "featstore"
"""Key under which a track table's frame carries its facts (``DataFrame.attrs``, which parquet files keep)."""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """Name, task and classes of a data set, as its table had them.

    Attributes
    ----------
    name : str
    task : str
        ``multi_label``, ``single_label`` or ``none``.
    classes : tuple of str
        In the order of a target's columns.
    label_column : str
    """

    name: str
    task: str = "none"
    classes: tuple[str, ...] = ()
    label_column: str = "labels"


def table_of(frame: pd.DataFrame) -> StoredTable | None:
    """Facts that a frame carries; None where it has none, or none that make sense."""
    facts = frame.attrs.get(ATTRIBUTE)
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str):
        return None
    classes = tuple(str(name) for name in facts.get("classes", ()))
    return StoredTable(facts["name"], str(facts.get("task", "none")), classes, str(facts.get("label_column", "labels")))


def carry_over(merged: pd.DataFrame, old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Give a joined frame the facts of the newer table, or the older one's where it has none."""
    facts = new.attrs.get(ATTRIBUTE) or old.attrs.get(ATTRIBUTE)
    merged.attrs = {ATTRIBUTE: facts} if facts else {}
    return merged
