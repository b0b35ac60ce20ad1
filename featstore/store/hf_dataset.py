"""A feature as a data set of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from featstore.errors import MissingDependency
from featstore.store.reader import FeatureReader

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_hf_dataset"]


def to_hf_dataset(reader: FeatureReader, tracks: pd.DataFrame, track_ids: Sequence[str] | None = None) -> Any:
    """One row a track: see :meth:`featstore.store.store.Store.to_hf_dataset`."""
    try:
        from datasets import Dataset, Features, Value
        from datasets import Sequence as ListOf
    except ImportError as error:
        raise MissingDependency(
            "to_hf_dataset needs the package 'datasets'", "", "Install it: pip install datasets"
        ) from error
    ids = reader.track_ids if track_ids is None else list(track_ids)
    value: Any = Value(str(reader.dtype))
    for _ in reader.dims[1:]:
        value = ListOf(value)
    columns = [name for name in ("labels", "split", "group") if name in tracks]
    text = Value("string")
    features = {"track_id": text} | {name: ListOf(text) if name == "labels" else text for name in columns}

    def rows() -> Iterator[dict[str, Any]]:
        for track_id in ids:
            row = tracks.loc[track_id]
            own = {name: list(row[name]) if name == "labels" else row[name] for name in columns}
            yield {"track_id": track_id, **own, reader.spec.kind: reader[track_id]}

    return Dataset.from_generator(rows, features=Features(features | {reader.spec.kind: value}))
