"""Vectors out of a store: tables, arrays and near duplicates."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import ConfigError
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features
from featstore.store.opening import open_store
from featstore.testing.musicnn_package import write_untrained
from featstore.workflows.vector_export import export_npy, export_parquet, near_pairs
from featstore_cli.main import main

MEL = "mel(n_mels=16,scale=db)"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    rows = []
    for k in range(6):
        tone = np.sin(2 * np.pi * 110 * (1 + 2 * (k % 4)) * np.arange(12_000) / 16_000)  # 4 repeats 0, 5 repeats 1
        soundfile.write(folder / f"{k}.wav", 0.3 * tone + 1e-4 * rng.normal(size=12_000), 16_000, subtype="FLOAT")
        rows.append({"track_id": str(k), "path": str(folder / f"{k}.wav"), "split": "test" if k == 4 else "train"})
    weights = write_untrained(tmp_path_factory.mktemp("musicnn"), "mtt-musicnn")
    names = [f"embedding(weights={weights},window=0.3,layers=cnn1+cnn2)", MEL]
    target = tmp_path_factory.mktemp("stores") / "s"
    table = TrackTable(pd.DataFrame(rows), TableInfo(name="tones"))
    extract(table, expand_features(names), target, ExtractOptions(scheduler="sync", jobs=1, progress="none"))
    return open_store(target)


def vectors(store):
    return store[next(name for name in store.features if name.startswith("embedding"))]


def test_tables_and_arrays_hold_the_mean_over_windows(store, tmp_path):
    reader = vectors(store)
    assert export_parquet(reader, tmp_path / "v.parquet") == export_npy(reader, tmp_path / "v.npy") == 6
    table, values = pd.read_parquet(tmp_path / "v.parquet"), np.load(tmp_path / "v.npy", allow_pickle=False)
    about = json.loads((tmp_path / "v.json").read_text())
    assert about["feature"] == reader.name and sorted(about["track_ids"]) == list("012345")
    assert values.shape == (6, 2, 64) == tuple(about["shape"])
    np.testing.assert_allclose(values[about["track_ids"].index("2")], reader["2"].mean(axis=-1), rtol=1e-5)
    row = table[(table["track_id"] == "3") & (table["layer"] == 1)].iloc[0]
    np.testing.assert_array_equal(np.asarray(row["vector"], np.float32), values[about["track_ids"].index("3"), 1])
    with pytest.raises(ConfigError, match=r"holds no vectors of tracks"):
        export_npy(store[MEL], tmp_path / "m.npy")


def test_near_duplicates_across_splits(store, capsys):
    reader = vectors(store)
    splits = store.tracks["split"].to_dict()
    pairs = near_pairs(reader, bound=0.99, splits=splits)
    assert {(pair.first, pair.second): pair.crosses for pair in pairs} == {("0", "4"): True, ("1", "5"): False}
    with pytest.raises(ConfigError, match=r"not in \(0, 1\]"):
        near_pairs(reader, bound=1.5)
    with pytest.raises(SystemExit) as done:
        main(["datasets", "duplicates", str(store.location), "--by", str(reader.spec), "--json"])
    assert done.value.code == 3 and json.loads(capsys.readouterr().out)["across_splits"] == 1
