"""A recipe whose models start from its runs on another data set, in a folder beside its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from featstore.errors import ConfigError
from featstore.models.checkpoint_file import load_checkpoint
from featstore.workflows.recipe_execution import run_recipe
from featstore.workflows.recipe_starts import starts_on
from featstore.workflows.recipes import load_recipe

PLAN = """
data: {kind: folder}
features: ["waveform(sample_rate=8000)"]
"""
TRAIN = """
seeds: [0]
settings:
  data: {split: random, fractions: [0.5, 0.25, 0.25], crop_frames: 3200, batch_size: 4}
  model: {size: tiny, depth: 1, width: 0.05}
  loop: {epochs: 1}
  evaluate: {bootstrap: 0}
experiments:
  plain:
    models: [{model: gafx-r, name: fresh}]
  started:
    models:
      - model: gafx-r
        name: started
        settings: {start: {weights: {extractor: "csv:first"}}, optimizer: {learning_rate: 1.0e-9}}
report: {metric: accuracy}
"""
ON_LIST = """
experiments:
  plain: {models: []}
  started: {models: []}
  first:
    models: [{model: gafx-r, name: first, settings: {optimizer: {learning_rate: 0.01}}}]
"""


@pytest.fixture
def music(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, pitch in (("low", 200), ("high", 900)):
        for i in range(8):
            path = tmp_path / "music" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = np.sin(2 * np.pi * pitch * np.arange(4000) / 8000) + 0.1 * rng.standard_normal(4000)
            soundfile.write(path, 0.3 * tone.astype(np.float32), 8000)
    rows = [f"other/{path.parent.name}{path.stem},{path},{path.parent.name}" for path in tmp_path.rglob("*.wav")]
    (tmp_path / "list.csv").write_text("\n".join(["track_id,path,labels", *sorted(rows)]))
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    for name, text in (("plan", PLAN), ("train", TRAIN), ("csv", ON_LIST)):
        (recipe / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.slow
def test_what_models_start_from_is_run_first(music: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, other = f"folder={music / 'music'}", f"csv={music / 'list.csv'}"
    main, before = (load_recipe(str(music / "recipe"), data=each) for each in (data, other))
    assert starts_on(main.model_plans()) == {"csv": ["first"]}
    out = music / "out"
    run_recipe(main, out, jobs=1)
    assert [path.parts[-4] for path in sorted((out / "runs").rglob("result.json"))] == ["fresh"]
    assert "started is left out: it starts from first on csv, which was not run; give --data csv=ROOT" in caplog.text
    run_recipe(main, out, jobs=1, before=[before])
    assert sorted(path.parts[-4] for path in (out / "runs").rglob("result.json")) == ["fresh", "started"]
    weights = {}
    for name, place in (("first", out / "csv/runs/first"), ("started", out / "runs/started")):
        checkpoint = next(place.rglob("best.safetensors"))
        weights[name] = load_checkpoint(checkpoint)[0]
    place = "model.model.extractor.layer5.1.conv2.weight"
    assert torch.allclose(weights["first"][place], weights["started"][place], atol=1e-6)
    place = "model.model.trunk.layers.0.mlp.fc1.weight"
    assert not torch.allclose(weights["first"][place], weights["started"][place], atol=1e-3), "the extractor alone"
    result = json.loads(next((out / "runs/started").rglob("result.json")).read_text())
    assert result["outside_data"] == "list", "what its weights have seen stands beside its scores"


def test_a_second_data_set_that_nothing_starts_from(music: Path) -> None:
    recipe = str(music / "recipe")
    main, before = (load_recipe(recipe, data=f"folder={music / 'music'}") for _ in range(2))
    with pytest.raises(ConfigError, match=r"no model here starts from a run on folder.*Models start from runs on csv"):
        run_recipe(main, music / "out", jobs=1, before=[before])
    with pytest.raises(ConfigError, match=r"no model here starts from a run on csv.*Give --data once"):
        before = load_recipe(recipe, data=f"csv={music / 'list.csv'}")
        run_recipe(main, music / "out", jobs=1, only=["plain"], before=[before])
