"""The 88 configurations of the resolution study, from music to named arrays with the published frame counts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from featstore.errors import MissingFeature
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features, parse_spec
from featstore.store import open_store
from featstore.store.sizes import describe_features
from tests.features.runner import run_file

COUNTS = Path(__file__).with_name("resolution_study.csv")  # Table II, with the frames that its framing yields


def configurations() -> list[dict[str, str]]:
    with COUNTS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def name_of(row: dict[str, str]) -> str:
    return (
        f"mel(sample_rate={row['sample_rate']},n_mels={row['n_mels']},hop_length={row['hop_length']},"
        f"scale={row['scale']},clip=centre(29.1 s),framing=essentia,window_symmetric=yes)"
    )


def test_the_preset_is_the_table() -> None:
    table = {str(parse_spec(name_of(row))): row for row in configurations()}
    assert len(table) == 88
    specs = {str(request.spec): request.spec for request in expand_features(["ferraro2020"])}
    assert set(specs) == set(table)
    for name, spec in specs.items():
        row = table[name]
        shape = (*spec.item_shape, spec.frames(30 * spec.sample_rate))
        assert shape == (int(row["n_mels"]), int(row["n_frames"]))
        assert 4 * shape[0] * shape[1] == int(row["bytes_float32"])


@pytest.mark.slow
def test_extracted_from_the_demo_music(tmp_path) -> None:
    """A clip of each style: 14 arrays are stored, and all 88 are read by name and equal a direct computation."""
    pytest.importorskip("music21")
    from featstore.workflows.indexing import index_tracks

    tracks = index_tracks("demo", tmp_path / "demo", size=1)
    report = extract(tracks, expand_features(["ferraro2020"]), tmp_path / "s.zarr", ExtractOptions(scheduler="sync"))
    assert report.status["ok"] == len(tracks.frame) >= 10
    store = open_store(tmp_path / "s.zarr")
    assert len(store.arrays) == 14 and len(describe_features(store)) == 14 + 88
    ids = list(store.tracks.index)
    direct = run_file([name_of(row) for row in configurations()], store.tracks["path"].iloc[0])
    for row, expected in zip(configurations(), direct, strict=True):
        reader = store[name_of(row)]
        assert reader.view.exact and len(reader) == len(ids)
        values = reader.read(ids)
        assert values.shape == (len(ids), int(row["n_mels"]), int(row["n_frames"]))
        assert np.isfinite(values).all() and values.std() > 0
        assert np.array_equal(reader[ids[0]], expected)
    with pytest.raises(MissingFeature, match="nothing it derives from"):
        store[name_of(configurations()[0]).replace("n_mels=128", "n_mels=64")]
