"""The recipe of the atlas: every kind of representation, and the rule for what may be on its front."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from featstore.results import read_results
from featstore.specs import parse_feature
from featstore.workflows.recipes import load_recipe
from featstore_cli.recipe import recipe as command

NAME = "atlas"
KINDS = {"mel", "stft", "hpss", "waveform", "vq_tokens", "vq_codes", "embedding"}


def test_every_kind_of_representation_has_a_row() -> None:
    study = load_recipe(NAME)
    plans = study.model_plans()
    own = {text.partition("(")[0] for plan in plans for text in plan.features}
    assert own | {request.spec.kind for request in study.requests()} == KINDS
    rows = sum(1 if plan.together else len(plan.features) for plan in plans)
    mels = [plan for plan in plans if not plan.features]
    assert len(study.requests()) == 24 and {plan.model for plan in mels} >= {"vgg-cnn", "musicnn", "ast"}
    assert rows + 24 >= 42 and len(study.seeds) == 3
    assert {"mels", "spectrograms", "waveforms", "tokens", "vectors", "more-vectors"} == set(study.experiments)


def test_everything_is_of_the_same_seconds() -> None:
    study = load_recipe(NAME)
    texts = [text for plan in study.model_plans() for text in plan.features]
    assert all("clip=centre(29.1 s)" in text for text in texts)
    assert {str(request.spec.clip) for request in study.requests()} == {"centre(29.1 s)"}
    waves = [parse_feature(text) for text in texts if text.startswith("waveform")]
    assert {request.encoding.name for request in waves if request.encoding} == {"float32", "float16", "int16", "mulaw8"}


def test_rows_of_an_experiment_that_are_compared_see_the_same_audio() -> None:
    """One plan trains all mel rows, and one all encodings of the waveform: nothing but the input differs."""
    plans = {plan.name: plan for plan in load_recipe(NAME).model_plans()}
    resnets = [plans[name].settings for name in ("resnet-mel", "resnet-stft", "resnet-harmonic-percussive")]
    assert resnets[0] == resnets[1] == resnets[2]
    assert plans["tokenformer"].settings == plans["codebookformer"].settings
    for plan in plans.values():
        if plan.model != "probe":  # fitted in closed form
            assert plan.settings["loop"]["epochs"] >= 4, "the last quarter of the curve must be there to be judged"
            assert plan.settings["loop"]["patience"] == 0 and plan.settings["schedule"] == {"name": "cosine"}


def test_the_report_bars_rows_that_still_learned() -> None:
    report = load_recipe(NAME).report
    assert report["late_gain"] == 0.01 and report["margin"] == 0.02


@pytest.mark.slow
def test_smoke_walks_the_whole_path(tmp_path: Path) -> None:
    out = tmp_path / "atlas"
    ran = CliRunner().invoke(command, ["run", NAME, "--smoke", "--out", str(out), "-j", "1"])
    assert ran.exit_code == 0, ran.output
    runs = read_results(out / "runs")
    assert not runs.skipped
    kinds = {record.feature.partition(".")[0] for record in runs}
    assert kinds == {"mel", "stft", "waveform", "vq_tokens"}
    answer = json.loads((out / "report" / "answer.json").read_text())
    assert {"late_gain", "undertrained", "rate_bps"} <= set(answer["rows"][0])
    for row in answer["rows"]:
        assert row["undertrained"] == ((row["late_gain"] or 0) > 0.01)
        assert not (row["undertrained"] and (row["on_front"] or row["guaranteed"]))
        assert row["label"].endswith("(undertrained)") == row["undertrained"]
    with open(out / "report" / "table.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == len(answer["rows"]) + 1
    kept = yaml.safe_load((out / "recipe.yaml").read_text())
    assert kept["report"]["late_gain"] == 0.01
