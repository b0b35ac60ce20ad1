"""The probe: its convex solution against scikit-learn, choices by validation, neighbours, and runs from a store."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import ConfigError
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features
from featstore.metrics import METRICS
from featstore.models import create
from featstore.store.opening import open_store
from featstore.testing.musicnn_package import write_untrained
from featstore.training.config import TrainConfig
from featstore.training.probe_fit import Vectors, fit_probe, nearest_scores, solve_logistic
from featstore.training.run import evaluate, train

CONFIG = TrainConfig.resolve({"loop": {"epochs": 15, "patience": 5}, "data": {"batch_size": 16}})


def made(task="single_label", n=90, seed=0):
    """Three layers, of which the second one knows the class."""
    rng = np.random.default_rng(seed)
    parts = {}
    for name, size in (("train", n), ("valid", 40), ("test", 60)):
        classes = rng.integers(0, 3, size)
        values = rng.normal(0, 1, (size, 3, 6)).astype(np.float32)
        values[np.arange(size), 1, classes] += 1.5
        values[:, 1] = 100 + 10 * values[:, 1]  # standardised away
        targets = classes if task == "single_label" else np.eye(3, dtype=np.float32)[classes]
        parts[name] = Vectors(values, targets)
    return parts


def fitted(parts, **settings):
    torch.manual_seed(0)
    model = create("probe", n_layers=3, n_dims=6, n_windows=1, n_classes=3, **settings)
    return model, fit_probe(model, parts, "roc_auc", CONFIG)


@pytest.mark.parametrize("strength", [0.01, 1.0, 10.0])
def test_the_solution_is_scikit_learns(strength):
    parts = made()
    x, classes = parts["train"].values[:, 1].astype(float), parts["train"].targets
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    weights, bias = solve_logistic(x, classes, 3, strength)
    reference = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(x, classes)
    np.testing.assert_allclose(weights, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(bias - bias.mean(), reference.intercept_ - reference.intercept_.mean(), atol=1e-4)
    targets = np.eye(3, dtype=np.float32)[classes]
    weights, bias = solve_logistic(x, targets, 3, strength)
    for k in range(3):
        reference = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(x, targets[:, k])
        np.testing.assert_allclose(weights[k], reference.coef_[0], atol=1e-4)
        assert bias[k] == pytest.approx(reference.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("settings", [{}, {"hidden": 8, "rates": [1e-2, 1e-3]}, {"layer": "mix", "rates": [1e-1]}])
def test_validation_finds_the_layer_that_knows(task, settings):
    parts = made(task)
    model, found = fitted(parts, **settings)
    assert found["deterministic"] is (not settings)
    if "layer" not in settings:
        assert found["layer"] == 1 and model.share.tolist() == [0, 1, 0]
    else:
        assert int(np.argmax(found["mixture"])) == 1
    score = max(one["roc_auc"] for one in found["tried"])
    assert found["valid_roc_auc"] == score
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(parts["test"].values)[..., None]).numpy()
    assert METRICS.load("roc_auc")(parts["test"].targets, logits).value > 0.75
    assert 0.7 < found["neighbours"]["test"]["roc_auc"] <= 1


def test_a_convex_probe_does_not_depend_on_the_seed():
    (first, one), (second, two) = fitted(made()), fitted(made())
    assert one == two and len(one["tried"]) == 2 * 3 * len(first.config.strengths)
    assert torch.equal(first.output.weight, second.output.weight)


def test_validation_chooses_how_vectors_are_scaled():
    """Where a few large dimensions know the class, and many small ones are noise, their proportions help."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, size in (("train", 60), ("valid", 60), ("test", 200)):
        classes = rng.integers(0, 3, size)
        values = 0.03 * rng.normal(size=(size, 1, 200)).astype(np.float32)
        values[:, 0, :3] += rng.normal(size=(size, 3)) + 1.5 * np.eye(3)[classes]
        parts[name] = Vectors(values.astype(np.float32), classes)
    scores = {}
    for how in ("auto", "dimension", "common"):
        model = create("probe", n_layers=1, n_dims=200, n_windows=1, n_classes=3, standardise=how)
        found = fit_probe(model, parts, "roc_auc", CONFIG)
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(parts["test"].values)[..., None]).numpy()
        scores[how] = METRICS.load("roc_auc")(parts["test"].targets, logits).value
        assert found["standardise"] == ("dimension" if how == "dimension" else "common")
    assert scores["auto"] == scores["common"] > scores["dimension"] + 0.05


def test_neighbours_are_scikit_learns():
    parts = made()
    known, asked = parts["train"].values[:, 1], parts["test"].values[:, 1]
    found = nearest_scores(known, np.eye(3)[parts["train"].targets], asked, 5)
    weigh = KNeighborsClassifier(5, metric="cosine", weights=lambda distance: np.maximum(1 - distance, 1e-6))
    expected = weigh.fit(known, parts["train"].targets).predict_proba(asked)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_windows_are_averaged_and_padding_is_left_out():
    model = create("probe", n_layers=2, n_dims=3, n_windows=4, n_classes=2).eval()
    x = torch.randn(2, 2, 3, 4)
    torch.testing.assert_close(model(x), model(x.mean(dim=-1, keepdim=True)))
    padded = torch.cat([x[:1], torch.zeros(1, 2, 3, 2)], dim=-1)
    torch.testing.assert_close(model(padded, torch.tensor([4])), model(x[:1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "3"}, r"layer='3' is none of the 3 stored layers"),
        ({"standardise": "yes"}, r"standardise='yes' is none of auto, dimension, common"),
        ({"hidden": -1}, r"hidden=-1 is not a whole number"),
        ({"strengths": []}, r"strengths=\(\) are not positive numbers"),
        ({"rates": [0.0]}, r"rates=\(0.0,\) are not positive numbers"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        create("probe", n_layers=3, n_dims=6, n_windows=1, n_classes=3, **settings)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Vectors of a network that was never trained, of tones and noise."""
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    rows = []
    for k in range(24):
        kind = ("low", "high", "noise")[k % 3]
        t = np.arange(16_000 + 200 * (k % 5)) / 16_000
        tone = np.sin(2 * np.pi * {"low": 110, "high": 1760, "noise": 500}[kind] * (1 + k / 100) * t)
        x = 0.4 * (rng.normal(size=len(t)) * 0.5 if kind == "noise" else tone) + 0.01 * rng.normal(size=len(t))
        soundfile.write(folder / f"{k}.wav", x, 16_000, subtype="FLOAT")
        split = "train" if k < 12 else "valid" if k < 18 else "test"
        rows.append({"track_id": str(k), "path": str(folder / f"{k}.wav"), "label": kind, "split": split})
    table = TrackTable(
        pd.DataFrame(rows),
        TableInfo(name="tones", task="single_label", classes=("high", "low", "noise"), label_column="label"),
    )
    weights = write_untrained(tmp_path_factory.mktemp("musicnn"), "mtt-musicnn")
    feature = f"embedding(weights={weights},window=0.4,layers=cnn1+cnn2,per=track)"
    target = tmp_path_factory.mktemp("stores") / "s"
    extract(table, expand_features([feature]), target, ExtractOptions(scheduler="sync", jobs=1, progress="none"))
    return open_store(target)


def test_a_run_from_a_store(store, tmp_path):
    (name,) = store.features
    first = train(store, name, "probe", tmp_path / "a", config={"evaluate": {"bootstrap": 0}})
    again = train(store, name, "probe", tmp_path / "b", config={"evaluate": {"bootstrap": 0}, "seed": 1})
    assert first["scores"]["test"]["accuracy"] == 1.0
    assert first["scores"]["test"] == again["scores"]["test"] and first["run_id"] != again["run_id"]
    assert first["fit"]["deterministic"] and first["fit"]["layer"] in (0, 1)
    assert json.loads((tmp_path / "a" / "result.json").read_text())["fit"] == first["fit"]
    assert evaluate(tmp_path / "a")["test"]["roc_auc"] == pytest.approx(first["scores"]["test"]["roc_auc"])
    assert train(store, name, "probe", tmp_path / "a", config={"evaluate": {"bootstrap": 0}}) == first


def test_other_models_and_features_are_refused(store, tmp_path):
    (name,) = store.features
    with pytest.raises(ConfigError, match=r"an embedding for a model that takes spectra"):
        train(store, name, "vgg-cnn", tmp_path / "a")
