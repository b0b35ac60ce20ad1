"""What was true of the track table that a store was made from: it travels in the metadata of ``tracks.parquet``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ATTRIBUTE", "StoredTable", "carry_over", "table_of"]

logger = logging.getLogger(__name__)

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


def carry_over(merged: pd.DataFrame, old: pd.DataFrame, new: pd.DataFrame, *, where: str = "") -> pd.DataFrame:
    """Give a joined frame the facts of the older table, with the classes that the newer one adds at the end.

    Classes keep their places, because targets of runs that were trained before have them. A table without labels adds
    none; to a table without labels the newer one gives its facts.

    Raises
    ------
    StoreError
        When one table has a label per track and the other several, or their labels are in different columns: no list
        of classes serves both.
    """
    before, after = table_of(old), table_of(new)
    if before is None or after is None or before.task == "none" or after.task == "none":
        labelled = [frame for frame, facts in ((old, before), (new, after)) if facts and facts.task != "none"]
        facts = next((frame.attrs.get(ATTRIBUTE) for frame in [*labelled, old, new] if ATTRIBUTE in frame.attrs), None)
        merged.attrs = {ATTRIBUTE: facts} if facts else {}
        return merged
    for field, what in (("task", "task"), ("label_column", "label column")):
        ours, theirs = getattr(before, field), getattr(after, field)
        if ours != theirs:
            raise StoreError(
                f"the {what} of the store's tracks is {ours}, that of the {len(new)} tracks to be added is {theirs}",
                where,
                "Index both in the same way (featstore datasets index …), or extract to another store: -s OTHER",
            )
    added = [name for name in after.classes if name not in before.classes]
    if added:
        logger.warning(
            "the store had the classes %s; %d are added: %s [%s]",
            ", ".join(before.classes), len(added), ", ".join(added), where,
        )  # fmt: skip
    merged.attrs = {ATTRIBUTE: old.attrs[ATTRIBUTE] | {"classes": [*before.classes, *added]}}
    return merged
