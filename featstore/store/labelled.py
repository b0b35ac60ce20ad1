"""A feature with its axes named, for other libraries: xarray, Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import MissingDependency
from featstore.specs import Encoding, FeatureSpec

if TYPE_CHECKING:
    import pandas as pd
    import xarray

__all__ = ["LabelledReader", "to_hf_dataset", "to_xarray"]


class LabelledReader(Protocol):
    """What is needed of :class:`featstore.store.reader.FeatureReader`."""

    spec: FeatureSpec
    encoding: Encoding
    clip_frames: int | None

    @property
    def track_ids(self) -> list[str]:
        """Tracks for which the feature is there."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of several tracks."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what is read."""

    def read(self, track_ids: Iterable[str]) -> FloatArray:
        """Values of several tracks."""

    def __getitem__(self, which: str) -> FloatArray:
        """Values of one track."""


def to_xarray(reader: LabelledReader, track_ids: Sequence[str] | None = None) -> xarray.DataArray:
    """Values (track, …, time) with what stands at each place: see :meth:`FeatureReader.to_xarray`."""
    import xarray

    spec = reader.spec
    ids = reader.track_ids if track_ids is None else list(track_ids)
    values = reader.read(ids)
    dims = reader.dims
    seconds = spec.first_centre_s + np.arange(values.shape[-1]) * (spec.frame_step / spec.sample_rate)
    coords: dict[str, Any] = {
        "track": ids,
        dims[-1]: (dims[-1], seconds, {"units": "s", "long_name": "centre, from the start of what was cut"}),
    }
    if reader.clip_frames is not None:
        coords["clip"] = ("clip", np.arange(values.shape[1]) * spec.clip.step_s, {"units": "s", "long_name": "start"})
    centres = spec.band_centres
    if centres is not None:
        coords[dims[-2]] = (dims[-2], np.asarray(centres), {"units": "Hz", "long_name": "centre frequency"})
    attributes = {
        "spec": str(spec),
        "units": spec.unit,
        "sample_rate": spec.sample_rate,
        "encoding": str(reader.encoding),
    }
    return xarray.DataArray(values, coords=coords, dims=dims, name=spec.kind, attrs=attributes)


def to_hf_dataset(reader: LabelledReader, tracks: pd.DataFrame, track_ids: Sequence[str] | None = None) -> Any:
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
