"""VGG-CNN on all 44 input sizes of the resolution study: maps, pools, dropped cells, parameters, multiply-accumulates.

``vgg_cnn_geometries.csv`` holds the study's numbers, worked out from its Tables I and III and from what its authors'
scripts build: sizes are bands x frames, maps are channels x bands x frames after each convolution and each pool,
``dropped`` is what the pools leave out at the far end of each axis.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from featstore.features.mel import MelSpec
from featstore.models import create
from featstore.models.cost import count_macs, count_parameters
from featstore.models.vgg_cnn import VggCnnConfig, choose_pools
from featstore.specs import expand_features
from tests.models.macs_by_hand import layer_macs

with (Path(__file__).parent / "vgg_cnn_geometries.csv").open(encoding="utf-8") as _file:
    ROWS = list(csv.DictReader(_file))
IDS = [f"{row['sample_rate']}-{row['n_mels']}-x{row['hop_multiple']}" for row in ROWS]
every_geometry = pytest.mark.parametrize("row", ROWS, ids=IDS)


def sizes(text: str) -> list[tuple[int, ...]]:
    """``2x4 4x5`` as [(2, 4), (4, 5)]."""
    return [tuple(int(size) for size in one.split("x")) for one in text.split()]


def build(row: dict[str, str], **settings: object) -> tuple[torch.nn.Module, tuple[int, ...]]:
    n_mels, n_frames = int(row["n_mels"]), int(row["n_frames"])
    with torch.device("meta"):
        model = create("vgg-cnn", n_mels=n_mels, n_frames=n_frames, n_classes=50, **settings).eval()
    return model, (1, 1, n_mels, n_frames)


def maps_of(model: torch.nn.Module, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for block in model.blocks:
        for layer in (block[0], block[2]):
            layer.register_forward_hook(lambda _m, _i, output: found.append(tuple(output.shape[1:])))
    assert model(torch.empty(shape, device="meta")).shape == (1, 50)
    return found


def test_the_44_geometries_are_those_of_the_preset() -> None:
    asked = {(r.spec.sample_rate, r.spec.n_mels, r.spec.hop_length // 256) for r in expand_features(["ferraro2020"])}
    assert len(ROWS) == len(asked) == 44
    assert {tuple(int(row[k]) for k in ("sample_rate", "n_mels", "hop_multiple")) for row in ROWS} == asked


@every_geometry
def test_frames_are_what_the_features_have(row: dict[str, str]) -> None:
    rate, hop = int(row["sample_rate"]), 256 * int(row["hop_multiple"])
    spec = MelSpec(sample_rate=rate, hop_length=hop, framing="essentia")
    assert spec.frames(round(29.1 * rate)) == int(row["n_frames"])


@pytest.mark.slow
@every_geometry
def test_map_after_every_layer(row: dict[str, str]) -> None:
    model, shape = build(row)
    assert list(model.pools) == sizes(row["pools"])
    assert maps_of(model, shape) == sizes(row["maps"])
    assert sizes(row["maps"])[-1] == (2048, 1, 1)


@every_geometry
def test_cells_that_the_pools_drop(row: dict[str, str]) -> None:
    model, shape = build(row)
    maps = maps_of(model, shape)
    before, after = maps[0::2], maps[1::2]
    dropped = [
        tuple(big[axis] - small[axis] * pool[axis - 1] for axis in (1, 2))
        for big, small, pool in zip(before, after, model.pools, strict=True)
    ]
    assert dropped == sizes(row["dropped"])


@every_geometry
def test_parameters_and_multiply_accumulates(row: dict[str, str]) -> None:
    model, shape = build(row)
    assert count_parameters(model) == (int(row["parameters"]), int(row["parameters"]))
    assert sum(b.numel() for name, b in model.named_buffers() if "running" in name) == int(row["statistics"])
    by_layer = list(layer_macs(model, shape).values())
    assert by_layer == [*(int(macs) for macs in row["macs_of_layers"].split()), 2048 * 50]
    assert sum(by_layer) == count_macs(model, shape) == int(row["macs"])


@every_geometry
def test_released_pools(row: dict[str, str]) -> None:
    model, shape = build(row, pools="released")
    assert list(model.pools) == sizes(row["released_pools"])
    assert maps_of(model, shape)[-1] == sizes(row["released_last_map"])[0]
    assert count_parameters(model)[0] == int(row["released_parameters"])
    assert count_macs(model, shape) / 1e9 == pytest.approx(float(row["released_gmac"]), abs=5.01e-5)  # four decimals


def test_ten_geometries_have_other_released_pools() -> None:
    assert sum(row["pools"] != row["released_pools"] for row in ROWS) == 10
    for row in ROWS:
        config = {"n_mels": int(row["n_mels"]), "n_frames": int(row["n_frames"]), "n_classes": 2}
        table, released = (choose_pools(VggCnnConfig(**config, pools=kind)) for kind in ("table", "released"))
        assert (table != released) == (row["pools"] != row["released_pools"])


def test_costs_of_the_study_in_words() -> None:
    """Half the bands or half the frames are half the work; ten times the hop is a tenth."""
    macs = {(row["sample_rate"], int(row["n_mels"]), int(row["hop_multiple"])): int(row["macs"]) for row in ROWS}
    for rate in ("12000", "16000"):
        whole = macs[rate, 96, 1]
        assert macs[rate, 48, 1] / whole == pytest.approx(0.5, abs=1e-3)
        assert macs[rate, 96, 2] / whole == pytest.approx(0.5, abs=3e-3)
        assert macs[rate, 96, 10] / whole == pytest.approx(0.1, abs=2e-3)
