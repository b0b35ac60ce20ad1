"""Runs scored on altered copies of test tracks: what fails is named, what is done stays, reports have the drops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featstore.errors import ConfigError
from featstore.results import format_table, query, read_results, summarise, write_html
from featstore.results.details import prediction_file
from featstore.results.paper_tables import paper_table
from featstore.results.shift_records import shift_file
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, open_store
from featstore.workflows.recipe_execution import run_recipe
from featstore.workflows.recipes import Recipe, load_recipe
from featstore.workflows.shift_plan import ShiftPlan
from featstore.workflows.shifts import changed_tokens
from tests.training.small_store import SPEC, fill_store, make_collection

PLAN = """
features: ["mel(sample_rate=8000,n_mels=8,hop_length=256)"]
models:
  - {model: conv-encoder, name: small}
  - {model: conv-encoder, name: smaller, settings: {model: {width: 4}}}
seeds: [0, 1]
settings:
  model: {width: 8, blocks: 1}
  data: {crop_s: 0.5, batch_size: 4, fractions: [0.4, 0.2, 0.4]}
  loop: {epochs: 1, patience: 0, validation_windows: 1}
  evaluate: {bootstrap: 0}
shifts: {names: [noise-0dB, timbre-None], tracks: 4}
"""


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe of two models and two seeds on 24 tracks of two pitches, carried out."""
    place, rng = tmp_path_factory.mktemp("shifts"), np.random.default_rng(0)
    time = np.arange(8000) / 8000
    for label, pitch in (("low", 300), ("high", 1500)):
        for number in range(12):
            path = place / "music" / label / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = 0.2 * np.sin(2 * np.pi * pitch * time) + 0.01 * rng.standard_normal(len(time))
            soundfile.write(path, tone.astype(np.float32), 8000)
    (place / "plan.yaml").write_text(PLAN)
    recipe = load_recipe(str(place), data=f"folder={place / 'music'}")
    result = run_recipe(recipe, place / "out", jobs=1)
    assert (
        len(result.failed) == 1 and "timbre-None: no track could be altered: no sound font 'None'" in result.failed[0]
    )
    return recipe, place / "out"


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_runs_of_the_seeds_are_scored_on_a_few_copies(shifted: tuple[Recipe, Path]) -> None:
    _, out = shifted
    runs = read_results(out / "runs")
    assert len(runs) == 4 and [bool(run.shifts) for run in runs] == [run.result["seed"] == 0 for run in runs]
    for run in (run for run in runs if run.shifts):
        [shift] = run.shifts
        copies = prediction_file(shift_file(run.path, "noise-0dB", ".parquet"))["test"]
        test = prediction_file(run.path / "predictions.parquet")["test"]
        assert set(copies.track_ids) < set(test.track_ids) and len(copies.track_ids) == shift["n_tracks"] == 4
        rows = [test.track_ids.index(track) for track in copies.track_ids]
        assert not np.allclose(test.score[rows], copies.score)
        score = shift["scores"]["accuracy"]
        assert score["clean"] == pytest.approx(np.mean(test.score[rows].argmax(1) == test.target[rows]))
        assert score["shifted"] == pytest.approx(np.mean(copies.score.argmax(1) == copies.target))
        assert score["drop"] == pytest.approx(score["clean"] - score["shifted"])
        assert score["low"] <= score["drop"] <= score["high"] and shift["changed"] is None


def test_a_second_call_does_what_is_missing(shifted: tuple[Recipe, Path]) -> None:
    recipe, out = shifted
    scored = [path for path in times(out) if path.parent.name == "shifts" and path.suffix == ".json"]
    assert len(scored) == 2
    before = times(out / "shifts") | times(out / "runs")
    scored[0].unlink()
    run_recipe(recipe, out, jobs=1, only=["shift"])
    after = times(out / "shifts") | times(out / "runs")
    assert after.keys() == before.keys()
    done_again = {path.name for path in after if after[path] != before[path]}
    assert done_again <= {"noise-0dB.json", "noise-0dB.parquet", "tracks.parquet", "alteration.json"}
    assert after[scored[1]] == before[scored[1]]


@pytest.mark.slow
def test_reports_have_the_drops(shifted: tuple[Recipe, Path], tmp_path: Path) -> None:
    _, out = shifted
    runs = read_results(out / "runs")
    summary = summarise(runs)
    assert summary["drop_noise_0dB_accuracy"].notna().all() and (summary["shifted_noise_0dB_tracks"] == 4).all()
    text = format_table(summary)
    assert "drop, noise_0dB" in text and "what is lost on altered copies of 4 test tracks" in text
    rows = query(runs, "SELECT shift, n_tracks, \"drop\" FROM shifts WHERE metric = 'accuracy'")
    assert list(rows["shift"]) == ["noise-0dB"] * 2 and set(rows["n_tracks"]) == {4}
    wide = query(runs, "SELECT drop_noise_0dB_accuracy FROM runs WHERE seed = 0")
    assert sorted(wide.iloc[:, 0]) == sorted(rows["drop"])
    spec = {"title": "x", "rows": ["model"], "columns": ["accuracy", "drop_noise_0dB_accuracy"]}
    table = paper_table(spec, runs, {"metric": "accuracy", "cost": "bytes_alone", "test": "welch"})
    assert table is not None and table.heads[2] == "drop, noise_0dB" and table.rows[0][2][0] in "+-"
    page = write_html(runs, tmp_path / "page.html").read_text()
    assert "loss on noise-0dB" in page


def test_a_damaged_file_of_a_run_hides_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from featstore.testing.runs import mel_grid, write_runs

    [run] = write_runs(tmp_path, mel_grid(), seeds=1)
    shift_file(run, "gain-6dB").parent.mkdir()
    shift_file(run, "gain-6dB").write_text("{")
    good = {"shift": "mp3-64k", "n_tracks": 9, "changed": 0.25, "scores": {"roc_auc": {"drop": 0.01}}}
    shift_file(run, "mp3-64k").write_text(json.dumps(good))
    frame = read_results(tmp_path).frame
    assert frame["drop_mp3_64k_roc_auc"].tolist() == [0.01] and frame["shifted_mp3_64k_tokens"].tolist() == [0.25]
    assert "scores on altered tracks cannot be read" in caplog.text and pd.notna(frame["test.roc_auc"]).all()


def test_a_faulty_key_is_refused_when_the_recipe_is_read() -> None:
    for entry, message in (
        ({"names": ["echo"]}, "unknown alteration 'echo'"),
        ({"name": []}, "unknown key 'name'"),
        ({"tracks": 1}, r"tracks=1 .*2 or more"),
        ({"seeds": 0}, "seeds=0 is not a list"),
        ({"names": "scramble"}, "names='scramble' is not a list"),
        ({"seed": "first"}, "seed='first' is not a whole number"),
        ("mp3", "'mp3' is not a mapping"),
    ):
        with pytest.raises(ConfigError, match=message):
            ShiftPlan.read(entry, "x")
    with pytest.raises(ConfigError, match="unknown alteration"):
        load_recipe("quickstart", changes={"shifts": {"names": ["mp3"]}})


def test_the_share_of_tokens_that_change(tmp_path: Path) -> None:
    """Over the frames that both have, of the tracks that both have; code vectors count as their tokens."""
    spec = parse_spec(
        f"vq_tokens(codec=jukebox,level=2,weights={'cd' * 16},sample_rate=44100,hop=128,n_codes=128,code_width=64,"
        "n_codebooks=1)"
    )
    header = ArrayHeader(spec, Encoding.default(spec), spec.item_shape, ("codebook", "frame"))
    frame = make_collection(tmp_path / "mel.zarr", n=3).frame
    tokens = {track: np.full((1, 8), 5, np.uint8) for track in frame["track_id"]}
    other = {track: values[:, :6].copy() for track, values in tokens.items()}
    other["t000"][:, :3] = 6
    before = fill_store(tmp_path / "a.zarr", frame, tokens, header)
    after = fill_store(tmp_path / "b.zarr", frame.head(2), other, header)
    assert changed_tokens(before, after, str(spec)) == pytest.approx(3 / 12)
    assert changed_tokens(open_store(tmp_path / "mel.zarr"), after, SPEC) is None
