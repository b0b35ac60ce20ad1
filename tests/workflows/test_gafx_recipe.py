"""The recipe of GAFX: the paper's rows with their published numbers, its training, and the inputs' lengths."""

from __future__ import annotations

import pytest

from featstore.results import read_reference
from featstore.results import where as matching
from featstore.workflows.recipes import load_recipe
from featstore.workflows.selection import select

NAME = "gafx2022"
PUBLISHED = {
    3: [0.61, 0.645],
    4: [0.51, 0.471],
    5: [0.4867, 0.37],
    6: [None, 0.53, 0.725],
    7: [0.725, 0.686, 0.645, 0.61],
}


def test_every_row_has_its_published_number_and_a_model_that_is_trained() -> None:
    study, published = load_recipe(NAME, data="gtzan=x"), read_reference(NAME)
    names = {plan.name for plan in study.model_plans()}
    shown = set()
    for table, (number, values) in zip(study.report["tables"], PUBLISHED.items(), strict=False):
        assert table["title"].startswith(f"Table {number}:")
        for row, value in zip(table["rows"], values, strict=True):
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
        plans = study.model_plans()
        chosen = select(study.requests(), plans, [], NAME)
        rates = {plan.name: [each.spec.sample_rate for each in chosen.features[plan.name]] for plan in plans}
        assert all(rates[plan.name] == [16000 if plan.model == "gafx-u" else 22050] for plan in plans)
        assert {plan.model for plan in plans} == {"ast", "gafx-r", "gafx-a", "gafx-u"}
