"""The recipe of MS-SincResNet: the paper's rows, folds, features that are one input, and the path in miniature."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from featstore.errors import MissingDependency
from featstore.results import read_reference, read_results
from featstore.results import where as matching
from featstore.workflows.recipe_execution import run_recipe
from featstore.workflows.recipes import load_recipe, with_overrides
from featstore.workflows.selection import select
from featstore.workflows.sweep import grid_of_runs
from featstore_cli.recipe import recipe as recipe_command

NAME = "sincresnet2021"


def test_every_row_of_the_paper_has_a_model_and_its_published_number() -> None:
    study = load_recipe(NAME, data="gtzan=x")
    names = {plan.name for plan in study.model_plans(["table1"])}
    assert len(names) == 17
    published = read_reference(NAME)
    for table, dataset, first, last in ((0, "GTZAN", 0.7398, 0.9149), (1, "ISMIR2004", 0.8134, 0.9191)):
        spec = study.report["tables"][table]
        found = []
        for row in spec["rows"]:
            [path] = row["where"]
            assert path.removeprefix("path~/").removesuffix("/") in names
            rows = matching(published, [*row["published"], "place=table 1", f"dataset={dataset}"])
            found.append((row["label"], [float(value) for value in rows["value"]]))
        assert all(len(values) == 1 for _, values in found), found
        every = published[(published["place"] == "table 1") & (published["dataset"] == dataset)]["value"]
        assert [value for _, [value] in found] == every.tolist(), "in the paper's order"
        assert (found[0][1], found[-1][1]) == ([first], [last])
    for table, place, count in ((2, "table 2", 9), (3, "table 3", 5)):
        rows = study.report["tables"][table]["rows"]
        values = [matching(published, [*row["published"], f"place={place}"])["value"].tolist() for row in rows]
        assert len(rows) == count and all(len(each) == 1 for each in values)


def test_training_is_the_paper_s() -> None:
    plans = {plan.name: plan.settings for plan in load_recipe(NAME, data="gtzan=x").model_plans()}
    full = plans["ms-sinc-resnet-160-spp"]
    assert full["optimizer"] == {"name": "sgd", "learning_rate": 5e-3, "momentum": 0.9, "weight_decay": 1e-4}
    schedule = full["schedule"]
    assert schedule["warmup_factor"] * full["optimizer"]["learning_rate"] == pytest.approx(1e-5)
    assert (schedule["warmup_epochs"], schedule["step_epochs"], schedule["factor"]) == (5, 30, 0.5)
    assert full["loop"]["epochs"] == 200 and full["loop"]["keep"] == "last" and full["evaluate"]["pool"] == "majority"
    assert full["augment"] == {"gain": 0.1, "noise": 0.02} and "augment" not in plans["resnet-mel"]
    assert plans["sincnet-80-251"]["data"]["crop_s"] == 0.2 and full["data"]["crop_s"] == 3
    assert full["data"]["crops_per_track"] * 8 == full["data"]["batch_size"]
    assert plans["sinc-resnet-160-501"]["model"]["lengths"] == [501, 501, 501]


def test_settings_of_each_data_set() -> None:
    gtzan, ismir = (load_recipe(NAME, data=f"{kind}=x") for kind in ("gtzan", "ismir2004"))
    assert gtzan.data["split"] == "none" and gtzan.settings["data"]["folds"] == 10
    assert ismir.settings["data"]["split"] == "given" and "split" not in ismir.data
    demo = load_recipe(NAME, data="demo")
    assert demo.settings["schedule"]["warmup_epochs"] / demo.settings["loop"]["epochs"] < 0.05
    assert all(plan.settings["data"]["folds"] == 3 for plan in demo.model_plans())


def test_a_run_for_each_fold_and_one_for_features_that_are_one_input(tmp_path: Path) -> None:
    study = load_recipe(NAME, data="gtzan=x")
    plans = {plan.name: plan for plan in study.model_plans()}
    chosen = select(study.requests(), list(plans.values()), [], NAME)
    stack = plans["resnet-harmonic-percussive"]
    names = [str(request) for request in chosen.features[stack.name]]
    joined = " + ".join(names)
    place = {"store": tmp_path / "store.zarr", "out": tmp_path / "runs", "seeds": [0]}
    runs = grid_of_runs(**place, features=[joined], models=[stack.model], settings=stack.settings, label=stack.name)
    assert [run.settings["data"]["fold"] for run in runs] == list(range(10)) and len({run.out for run in runs}) == 10
    assert all(run.features == names and len(names) == 3 for run in runs)
    assert runs[3].out.endswith("fold-3/seed-0")
    one = with_overrides(study, settings={"data": {"fold": 4}}).model_plans()[0]
    [alone] = grid_of_runs(**place, features=names[:1], models=[one.model], settings=one.settings)
    assert alone.settings["data"]["fold"] == 4 and "fold-" not in alone.out


@pytest.mark.slow
def test_smoke_walks_the_whole_path(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", NAME, "--smoke", "--out", str(out), "-j", "1", "--json"]
    result = CliRunner().invoke(recipe_command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    runs = read_results(out / "runs")
    assert len(runs) == 5 and {record.result["fold"] for record in runs} == {0}
    stacked = next(record for record in runs if " + " in record.feature)
    assert stacked.model == "resnet18" and stacked.feature.count("hpss") == 2
    assert sum("@mulaw8" in record.feature for record in runs) == 1
    page = (out / "report" / "page.html").read_text(encoding="utf-8")
    assert "MS-SincResNet, spatial pyramid" in page and "91.49" in page
    before = {record.path: record.result["finished"] for record in runs}
    run_recipe(load_recipe(NAME, smoke=True), out, jobs=1, only=["train"])
    assert {record.path: record.result["finished"] for record in read_results(out / "runs")} == before


def test_a_missing_package_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"the model [a-z0-9-]+ needs the package 'transformers'"):
        run_recipe(load_recipe("sincresnet2021", smoke=True, data="demo"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
