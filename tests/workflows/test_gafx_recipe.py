"""The recipe of GAFX: the paper's rows with their published numbers, its training, and the inputs' lengths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import ConfigError
from featstore.models import create
from featstore.models.demucs_weights import read_hdemucs
from featstore.results import read_reference
from featstore.results import where as matching
from featstore.store import open_store
from featstore.training.work import model_of_checkpoint
from featstore.workflows.recipe_execution import run_recipe
from featstore.workflows.recipe_weights import given_encoders, named_weights, with_encoders
from featstore.workflows.recipes import load_recipe
from featstore.workflows.selection import select

NAME = "gafx2022"
PUBLISHED = {
    3: [0.61, 0.645],
    4: [0.51, 0.471],
    5: [0.4867, 0.37],
    6: [None, 0.53, 0.725, "ours"],
    7: [0.725, 0.686, 0.645, 0.61],
}


def test_every_row_has_its_published_number_and_a_model_that_is_trained() -> None:
    study, published = load_recipe(NAME, data="gtzan=x"), read_reference(NAME)
    names = {plan.name for plan in study.model_plans()}
    shown = set()
    for table, (number, values) in zip(study.report["tables"], PUBLISHED.items(), strict=False):
        assert table["title"].startswith(f"Table {number}:")
        for row, value in zip(table["rows"], values, strict=True):
            if value != "ours":
                found = matching(published, [*row["published"], f"place=table {number}"])["value"]
                assert len(found) == 1, row
                assert found.isna().all() if value is None else found.tolist() == [value]
            shown.add(row["where"][0].removeprefix("path~/").removesuffix("/"))
    assert shown == (names | {"none"}) - {"gafx-a-small-audioset"}


def test_training_is_the_paper_s() -> None:
    plans = {plan.name: plan.settings for plan in load_recipe(NAME, data="gtzan=x").model_plans()}
    mel = plans["ast-tiny"]
    assert (mel["optimizer"]["learning_rate"], mel["data"]["batch_size"], mel["loop"]["epochs"]) == (5e-5, 4, 80)
    assert mel["schedule"]["milestones"] == [12, 24, 50, 65] and mel["data"]["crop_frames"] == 3308
    for name in ("ast-tiny", "gafx-r-small-batch8", "gafx-r-small-pieces"):
        data = plans[name]["data"]
        steps = plans[name]["schedule"]["warmup_epochs"] * 800 * data["crops_per_track"] / data["batch_size"]
        assert steps == pytest.approx(800, abs=1)
    assert plans["gafx-r-small-batch8"]["optimizer"]["learning_rate"] == 5e-4
    assert plans["gafx-r-small"]["data"]["crop_frames"] == 3308 * 200


def test_each_model_reads_its_own_feature() -> None:
    for data, smoke in (("gtzan=x", False), ("demo", False), ("demo", True)):
        study = load_recipe(NAME, data=data, smoke=smoke)
        plans = [plan for plan in study.model_plans() if not plan.features]
        chosen = select(study.requests(), plans, [], NAME)
        rates = {plan.name: [each.spec.sample_rate for each in chosen.features[plan.name]] for plan in plans}
        assert all(rates[plan.name] == [16000 if plan.model == "gafx-u" else 22050] for plan in plans)
        assert {plan.model for plan in plans} == {"ast", "gafx-r", "gafx-a", "gafx-u"}
        (stored,) = [plan for plan in study.model_plans() if plan.features]
        assert stored.model == "ast-gafx" and named_weights([stored], study) == ["ENCODER:demucs"]
        assert with_encoders([stored], study) == ([] if data == "gtzan=x" else [stored])


PLAN = """
data: {kind: demo}
features: [waveform(sample_rate=16000)]
encoders: {narrow: {random: gafx-u, channels: 4, seed: 3}}
"""
TRAIN = """
seeds: [0]
settings:
  data: {batch_size: 4, split: given}
  loop: {epochs: 1, keep: last}
  evaluate: {bootstrap: 0, splits: [test]}
models:
  - name: stored
    model: ast-gafx
    features: ["embedding(model=gafx-u,weights=ENCODER:narrow,sample_rate=16000,pool=none)"]
    settings: {model: {depth: 1}, data: {ragged: skip}}
"""


def seconds_of_tones(folder: Path) -> TrackTable:
    rng, rows = np.random.default_rng(0), []
    for k in range(8):
        x = 0.3 * np.sin(np.arange(16_000) * (0.1, 0.4)[k % 2]) + 0.02 * rng.normal(size=16_000)
        soundfile.write(folder / f"{k}.wav", x, 16_000, subtype="FLOAT")
        split = ("train", "train", "valid", "test")[k // 2]
        rows.append({"track_id": str(k), "path": str(folder / f"{k}.wav"), "label": "ab"[k % 2], "split": split})
    info = TableInfo(name="tones", task="single_label", classes=("a", "b"), label_column="label")
    return TrackTable(pd.DataFrame(rows), info)


@pytest.mark.slow
def test_stored_sources_are_those_that_the_frozen_extractor_draws_in_the_model(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "train.yaml").write_text(TRAIN)
    table, out = seconds_of_tones(tmp_path), tmp_path / "out"
    recipe = load_recipe(str(tmp_path))
    run_recipe(recipe, out, jobs=1, only=["data", "extract", "train"], table=table)
    (run,) = [path.parent for path in (out / "runs" / "stored").rglob("result.json")]
    described = json.loads((run / "run.json").read_text())
    normed = model_of_checkpoint(described, run / "checkpoints" / "last.safetensors").eval()
    assert described["outside_data"] == "", "random weights have heard nothing"
    settings, weights = read_hdemucs(out / "encoder-narrow.safetensors")
    assert settings == {"channels": 4}
    whole = create("gafx-u", n_samples=16_000, n_classes=2, depth=1, frozen=True, hdemucs=settings).eval()
    whole.extractor.load_state_dict(weights)
    whole.load_state_dict(normed.model.state_dict(), strict=False)
    store = open_store(out / "store.zarr")
    wave, _ = soundfile.read(tmp_path / "7.wav", dtype="float32")
    sources = torch.from_numpy(store[described["feature"]]["7"].copy())[None]
    assert sources.shape == (1, 4, 128, 16)
    with torch.inference_mode():
        picture = normed.model.scaled(normed.arranged(sources)[:, 0])
        torch.testing.assert_close(picture, whole.extract(torch.from_numpy(wave[None, None])), rtol=0, atol=1e-5)
        torch.testing.assert_close(normed(sources), whole(torch.from_numpy(wave[None, None])), rtol=0, atol=1e-5)
    made = (out / "encoder-narrow.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"the results of other settings \(encoder narrow"):
        other = load_recipe(str(tmp_path), changes={"encoders": {"narrow": {"seed": 4}}})
        run_recipe(other, out, jobs=1, only=["data"], table=table)
    given = load_recipe(str(tmp_path), changes=given_encoders([f"narrow={out / 'encoder-narrow.safetensors'}"]))
    run_recipe(given, tmp_path / "again", jobs=1, only=["data", "extract"], table=table)
    assert (tmp_path / "again" / "store.zarr").is_dir() and not list((tmp_path / "again").glob("encoder-*"))
    assert made == (out / "encoder-narrow.safetensors").read_bytes()


def test_random_weights_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(TRAIN)
    for entry, message in (
        ("random: gafx-x", "random='gafx-x' is none of gafx-u"),
        ("random: gafx-u, chanels: 4", "has 'chanels', which is no setting of it"),
    ):
        (tmp_path / "plan.yaml").write_text(PLAN.replace("random: gafx-u, channels: 4", entry))
        with pytest.raises(ConfigError, match=message):
            run_recipe(load_recipe(str(tmp_path)), tmp_path / "out", jobs=1, table=seconds_of_tones(tmp_path))
