"""A user's program, as mypy sees it: checked by tests/test_user_types.py, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pandas as pd
import xarray
from numpy.typing import NDArray

import featstore
from featstore.datasets import TrackTable
from featstore.extract import ExtractReport
from featstore.extract.forecast import Forecast
from featstore.results import RunRecord, RunSet
from featstore.store.reader import FeatureReader
from featstore.store.store import Store

tracks = featstore.load_tracks("music", label_column="genre")
assert_type(tracks, TrackTable)
assert_type(tracks.frame, pd.DataFrame)

forecast = featstore.plan(Path("tracks.parquet"), ["mel(n_mels=48)", "ferraro2020"], n_tracks=1000)
assert_type(forecast, Forecast)
assert_type(forecast.n_bytes, int)

report = featstore.extract(tracks, "mel(n_mels=48)", "mel.zarr", jobs=2)
assert_type(report, ExtractReport)

store = featstore.open_store("mel.zarr")
assert_type(store, Store)
mel = store["mel(n_mels=48)"]
assert_type(mel, FeatureReader)
assert_type(mel.shape, tuple[int, ...])
assert_type(mel["a.wav"], NDArray[np.float32])
assert_type(mel[:10], NDArray[np.float32])
assert_type(mel[["a.wav", "b.wav"], 0:100], NDArray[np.float32])
assert_type(mel.keys(), list[str])
assert_type(mel.to_xarray(), xarray.DataArray)
for track_id in mel:
    assert_type(track_id, str)

dataset = featstore.torch_dataset(store, "mel(n_mels=48)", split="train", crop_frames=60)
assert_type(len(dataset), int)

run = featstore.train("mel.zarr", "mel(n_mels=48)", "vgg-cnn", Path("runs") / "first", settings=["loop.epochs=2"])
assert_type(run, RunRecord)
assert_type(run.score("roc_auc"), float)
assert_type(featstore.evaluate(run, splits="test"), dict[str, dict[str, float]])
assert_type(featstore.results("runs", Path("more")), RunSet)
assert_type([file.error for file in featstore.tag(run, "song.mp3").files], list[str])
assert_type(run.result, dict[str, Any])

featstore.train("mel.zarr", "mel()", "vgg-cnn", "out", epochs=3)  # type: ignore[call-arg]
featstore.load_tracks(3)  # type: ignore[arg-type]
