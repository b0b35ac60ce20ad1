"""What a frame of tracks says of its data set: ids, labels, task and classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featstore.plain import is_missing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_facts", "kept_attributes", "label_facts", "label_list", "with_ids"]


def with_ids(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its ids as a column: ``store.tracks``, and files that pandas writes of it, have them as index."""
    return frame.reset_index() if frame.index.name == "track_id" and "track_id" not in frame.columns else frame


def kept_attributes(metadata: Mapping[bytes, bytes]) -> Any:
    """What pandas kept of ``frame.attrs`` in the metadata of a Parquet file; empty where that is nothing."""
    try:
        return json.loads(metadata.get(b"PANDAS_ATTRS", b"{}"))
    except ValueError:
        return {}


def frame_facts(frame: pd.DataFrame, attributes: Any, name: str) -> dict[str, Any]:
    """Name, task, classes and label column of a data set.

    Parameters
    ----------
    frame : pandas.DataFrame
    attributes : object
        ``frame.attrs``. What a track table left there counts while the labels still fit it.
    name : str
        Where the attributes have none.
    """
    kept = attributes.get("featstore") if isinstance(attributes, Mapping) else None
    kept = kept if isinstance(kept, Mapping) else {}
    named, column, classes = kept.get("name"), kept.get("label_column"), kept.get("classes")
    name = named if isinstance(named, str) and named else name
    column = column if isinstance(column, str) and column in frame.columns else "labels"
    made = label_facts(frame[column] if column in frame.columns else ())
    names = [str(each) for each in classes] if isinstance(classes, list) else []
    tasks = ("multi_label",) if made["task"] == "multi_label" else ("single_label", "multi_label")
    if len({*names, *made["classes"]}) == len(names) > 0 and kept.get("task") in tasks:
        made = {"task": kept["task"], "classes": tuple(names)}
    return {"name": name, "label_column": column, **made}


def label_facts(labels: Iterable[object]) -> dict[str, Any]:
    """The ``task`` and ``classes`` that the labels of all tracks make, each as :func:`label_list` reads them.

    Examples
    --------
    >>> label_facts([["slow", "jazz"], []]), label_facts([["jazz"], []])["task"], label_facts([[]])["task"]
    ({'task': 'multi_label', 'classes': ('jazz', 'slow')}, 'single_label', 'none')
    """
    lists = list(map(label_list, labels))
    most = max(map(len, lists), default=0)
    task = "none" if most == 0 else "single_label" if most == 1 else "multi_label"
    return {"task": task, "classes": tuple(sorted({name for names in lists for name in names}))}


def label_list(value: object) -> list[str]:
    """Labels as a list: one text is one label, what is missing is none."""
    if isinstance(value, str):
        return [value] if value else []
    if value is None or isinstance(value, float) or not isinstance(value, Iterable):
        return [] if value is None or is_missing(value) else [str(value)]
    return [str(each) for each in value]
