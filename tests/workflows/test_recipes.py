"""Recipes: what is chosen, what is refused, and the resolution study's whole path on a miniature data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner

from featstore.datasets import TrackTable
from featstore.errors import ConfigError, FeatstoreError
from featstore.features import expand_features
from featstore.results import read_results
from featstore.store import open_store
from featstore.testing.published import MTAT_CLIPS, write_mtat
from featstore.workflows.derive import derive
from featstore.workflows.recipe_execution import run_recipe
from featstore.workflows.recipe_features import own_features
from featstore.workflows.recipe_weights import given_encoders, named_weights, with_encoders
from featstore.workflows.recipes import Recipe, list_recipes, load_recipe, recipe_text, with_overrides
from featstore.workflows.selection import ModelPlan, configurations, select, split_only
from featstore_cli.recipe import recipe as recipe_command


@pytest.fixture(scope="module")
def mtat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen clips of 29.2 s whose tags have both values in every split."""
    rng = np.random.default_rng(0)

    def noise(path: Path) -> None:
        soundfile.write(path, 0.1 * rng.standard_normal(round(29.2 * 8000)).astype(np.float32), 8000, format="WAV")

    songs = [
        (str(100 + i), "3c7d5e"[i % 6], f"artist-album-{i:02d}-song", 0, ("guitar", "slow")[: i // 6])
        for i in range(18)
    ]
    return write_mtat(tmp_path_factory.mktemp("mtat"), noise, [*songs, MTAT_CLIPS[-1]])


def test_the_study_has_the_paper_s_grid() -> None:
    study = load_recipe("ferraro2020")
    frame = configurations(study.requests())
    exact = frame[frame["encoding"] == "float32"]
    assert len(exact) == 88 and len(frame) == 176
    assert exact.groupby(["sample_rate", "scale"]).size().tolist() == [22] * 4
    assert set(frame["encoding"]) == {"float32", "uint16", "uint8"}
    assert set(exact["hop_multiple"]) == {1, 2, 3, 4, 5, 10} and set(exact["n_mels"]) == {128, 96, 48, 32, 24, 16, 8}
    chosen = select(study.requests(), study.model_plans(), ["model=vgg-cnn", "encoding=float32"], "x")
    assert {model: len(each) for model, each in chosen.features.items()} == {"vgg-cnn": 88}
    assert len(chosen.stored) == 88 + 14, "and the arrays of linear power that they are views of"
    assert study.seeds == [0, 1, 2]


def test_models_are_counted_as_they_are_planned() -> None:
    for recipe in list_recipes():
        assert recipe.n_models == len(recipe.model_plans()), recipe.name


def test_hops_compare_where_there_is_no_scale() -> None:
    frame = configurations(expand_features([f"phase(hop_length={hop})" for hop in (256, 768)]))
    assert frame["hop_multiple"].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("data", "models", "published"),
    [("mtat=x", ["vgg-cnn", "musicnn"], "MTAT"), ("msd=x", ["vgg-cnn", "musicnn-f16"], "MSD")],
)
def test_settings_for_a_kind_of_data(data: str, models: list[str], published: str) -> None:
    study = load_recipe("ferraro2020", data=data, data_options={"split": "cleaned"})
    assert [plan.model for plan in study.model_plans()] == models and study.report["published"] == published
    assert study.data == {"kind": data[:-2], "root": "x", "split": "cleaned"}
    vgg, musicnn = study.model_plans()
    assert vgg.settings["data"].get("crop_s") is None and musicnn.settings["data"]["crop_s"] == 3


def test_settings_of_the_demo_hold_for_it_alone() -> None:
    assert load_recipe("ferraro2020").data["size"] == "quick"
    assert load_recipe("ferraro2020").model_plans()[0].settings["model"]["width"] == 0.125
    assert load_recipe("ferraro2020", smoke=True).data["size"] == 3
    assert load_recipe("ferraro2020", data="mtat=x", smoke=True).data == {"kind": "mtat", "root": "x"}
    assert load_recipe("quickstart").data["kind"] == "demo" and load_recipe("quickstart", data="csv=l.csv").data == {
        "kind": "csv",
        "root": "l.csv",
    }


def test_shrinking() -> None:
    study = with_overrides(load_recipe("ferraro2020", data="mtat=x"), seeds=[0, 1], width=0.25, epochs=4)
    assert study.seeds == [0, 1]
    for plan in study.model_plans():
        assert plan.settings["model"]["width"] == 0.25 and plan.settings["loop"]["epochs"] == 4
    with pytest.raises(ConfigError, match="no seeds"):
        with_overrides(study, seeds=[])
    packaged = with_overrides(study, width=0.5)
    assert packaged.model_plans()[0].settings["model"]["width"] == 0.5


def test_conditions_and_stages() -> None:
    study = load_recipe("ferraro2020")
    assert split_only(["report", "n_mels=48"], "x") == (["report"], [], ["n_mels=48"])
    with pytest.raises(ConfigError, match=r"unknown stage 'trian'.*train.*or a condition"):
        split_only(["trian"], "x")
    with pytest.raises(ConfigError, match="no configuration meets n_mels=47"):
        select(study.requests(), study.model_plans(), ["n_mels=47"], "x")
    with pytest.raises(ConfigError, match="no column 'mels'"):
        select(study.requests(), study.model_plans(), ["mels=48"], "x")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("models: [vgg-cnm]", "unknown model 'vgg-cnm'"),
        ("models: [{model: [vgg-cnn]}]", r"model=\['vgg-cnn'\] is not text"),
        ("models: [vgg-cnn, vgg-cnn]", "'vgg-cnn' is listed twice"),
        ("models: [{model: vgg-cnn, width: 1}]", r"unknown key 'width' \[.*: models\]"),
        ("models: [3]", "3 is no model"),
        ("model_s: []", "unknown key 'model_s'"),
    ],
)
def test_faulty_recipes(tmp_path: Path, train: str, message: str) -> None:
    (tmp_path / "plan.yaml").write_text("features: [mel]\ndata: {kind: demo}\n")
    (tmp_path / "train.yaml").write_text(train)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(tmp_path)).model_plans()


def test_features_count_whose_weights_are_yet_to_be_given(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "data: {kind: demo}\nencoders: {demucs: {}}\n"
        "features: [mel, 'embedding(model=gafx-u,weights=ENCODER:demucs)', {kind: vq_tokens, weights: TOKENIZER}]\n"
    )
    (tmp_path / "train.yaml").write_text("model: ast-gafx\n")
    assert load_recipe(str(tmp_path)).n_features == 3


def test_experiments_are_chosen_by_name_and_share_models() -> None:
    study = load_recipe("kamuni2024", data="fma=x")
    assert study.n_features == 6 and list(study.experiments)[:2] == ["main", "gradual"]
    names = [plan.name for plan in study.model_plans(["main"])]
    assert len(names) == 9 and all(f"{model}former-scratch" in names for model in ("spectro", "token", "codebook"))
    plans = {plan.name: plan for plan in study.model_plans()}
    assert not plans["tokenformer-scratch"].pretrain
    assert plans["tokenformer-frozen"].pretrain == plans["tokenformer-finetune"].pretrain
    assert plans["tokenformer-frozen"].settings["start"]["trunk_rate"] == 0
    assert plans["spectro-hours-10"].pretrain["data"] == study.pretraining["data"] | {"train_share": 0.1}
    assert plans["tokenformer-finetune"].settings["model"] == {"size": "small", "group": 4}
    assert "model" not in plans["token-histogram"].settings
    assert split_only(["main", "train"], "x", list(study.experiments)) == (["train"], ["main"], [])
    tiny = load_recipe("kamuni2024", data="demo")
    assert {plan.settings["model"]["size"] for plan in tiny.model_plans(["main"])} == {"tiny"}
    wider = with_overrides(study, settings={"model": {"size": "base"}})
    assert {plan.settings["model"]["size"] for plan in wider.model_plans(["main", "objective"])} == {"base"}


def test_channels_of_phase_go_with_the_mel_frames_of_the_same_grid() -> None:
    study = load_recipe("kamuni2024", data="fma=x")
    plans = study.model_plans(["phase"])
    own = own_features(plans, {}, None)
    assert [plan.name for plan in plans if plan.together] == list(own) == ["phase-advance", "phase-delay"]
    for requests in own.values():
        mel, *channels = [request.spec for request in requests]
        assert [each.part for each in channels] == ["cos", "sin"] and mel.kind == "mel"
        for field in (
            "sample_rate",
            "n_mels",
            "fmin",
            "fmax",
            "n_fft",
            "win_length",
            "hop_length",
            "framing",
            "mel_scale",
        ):
            assert {getattr(each, field) for each in channels} == {getattr(mel, field)}
    smoke = load_recipe("kamuni2024", smoke=True)
    assert smoke.data["kind"] == "demo", "a smoke run brings its own music"
    assert not any("TOKENIZER:" in str(plan.features) for plan in smoke.model_plans()), "further ones take hours"
    assert load_recipe("kamuni2024", smoke=True, data="fma=x").data["kind"] == "fma"
    assert study.shifts["names"] == ["scramble"] and smoke.shifts["names"] == []


def test_a_model_may_have_features_of_its_own_and_of_further_tokenizers() -> None:
    study = load_recipe("kamuni2024", data="fma=x")
    plans = study.model_plans(["codecs"])
    further = [f"TOKENIZER:{name}" for name in ("codes-128", "codes-2048", "level-0", "level-1", "narrow")]
    assert named_weights(plans, study) == ["TOKENIZER", *further]
    assert named_weights(study.model_plans(["main", "cheap"]), study) == ["TOKENIZER"]
    sizes = "sample_rate=44100,hop=128,n_codes=128,code_width=64,n_codebooks=1"
    one = ModelPlan(
        "tokenformer", name="one", features=(f"vq_tokens(codec=jukebox,level=2,weights=TOKENIZER:a,{sizes})",)
    )
    two = ModelPlan(
        "tokenformer", name="two", features=(f"vq_tokens(codec=jukebox,level=2,weights=TOKENIZER,{sizes})",)
    )
    own = own_features([one, two], {"TOKENIZER": "ab" * 16, "TOKENIZER:a": "cd" * 16}, None)
    assert [f"weights={name * 16}" in str(own[key][0].spec) for key, name in (("one", "cd"), ("two", "ab"))] == [
        True,
        True,
    ]
    mel = expand_features(["mel(n_mels=8)"])
    chosen = select(mel, [ModelPlan("spectroformer", name="mel"), one], [], "x", own)
    assert chosen.features["mel"] == mel and chosen.features["one"] == own["one"]
    assert any("weights=cd" in str(each.spec) for each in chosen.stored)
    for text, named in (("vq_tokens(weights=TOKENIZER:b)", "tokenizer 'b'"), ("mel(weights=ENCODER:c)", "encoder 'c'")):
        with pytest.raises(ConfigError, match=rf"no {named} \[x, "):
            named_weights([ModelPlan("tokenformer", name="y", features=(text,))], Recipe(name="x"))
    with pytest.raises(ConfigError, match=r"no tokenizer \[x, tokenizers\]"):
        named_weights([], Recipe(name="x", features=["vq_tokens(weights=TOKENIZER)"]))


def test_models_whose_encoder_is_not_given_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    plans = [ModelPlan("vgg-cnn"), ModelPlan("ast-gafx", name="stored", features=("embedding(weights=ENCODER:one)",))]
    assert with_encoders(plans, Recipe(name="x", encoders={"one": {}})) == plans[:1]
    assert "stored is left out: it needs weights of the encoder one; give --encoder one=FILE as well" in caplog.text
    changes = given_encoders(["one=/weights/h.th"])
    assert with_encoders(plans, Recipe(name="x", **changes)) == plans
    assert changes == {"encoders": {"one": {"weights": "/weights/h.th"}}} and given_encoders([]) == {}
    with pytest.raises(ConfigError, match=r"'h.th' is not NAME=FILE.*demucs=hdemucs.th"):
        given_encoders(["h.th"])


def test_tokens_are_selected_with_their_own_encoding() -> None:
    codec = (
        f"codec=jukebox,level=2,weights={'cd' * 16},sample_rate=44100,hop=128,n_codes=128,code_width=64,n_codebooks=1"
    )
    requests = expand_features([f"vq_tokens({codec})", f"vq_codes({codec})"])
    chosen = select(requests, [ModelPlan("tokenformer", name="a")], ["representation=vq_tokens"], "x")
    assert [str(each.spec) for each in chosen.features["a"]] == [str(requests[0].spec)]
    assert {str(each.encoding) for each in chosen.stored} <= {"uint8", "None"}


def test_trunks_that_differ_are_not_compared(tmp_path: Path) -> None:
    train = """
experiments:
  main:
    same: [model.size]
    models:
      - {model: spectroformer, settings: {model: {size: tiny}}}
      - {model: tokenformer, settings: {model: {size: small}}}
"""
    (tmp_path / "plan.yaml").write_text("features: [mel]\ndata: {kind: demo}\n")
    (tmp_path / "train.yaml").write_text(train)
    with pytest.raises(ConfigError, match=r"model.size is 'small' for tokenformer, but 'tiny' for spectroformer"):
        load_recipe(str(tmp_path)).model_plans()
    (tmp_path / "train.yaml").write_text(train.replace("same: [model.size]", "same: []"))
    assert len(load_recipe(str(tmp_path)).model_plans()) == 2


def test_listing_and_showing() -> None:
    assert {"ferraro2020", "quickstart"} <= {each.name for each in list_recipes()}
    text = recipe_text("ferraro2020")
    places = [text.index(f"# --- {name}") for name in ("README.md", "plan.yaml", "train.yaml", "demo.yaml")]
    assert places == sorted(places)


@pytest.fixture(scope="module")
def smoked(mtat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    words = ["run", "ferraro2020", "--data", f"mtat={mtat}", "--smoke", "--out", str(out), "-j", "1", "--json"]
    result = CliRunner().invoke(recipe_command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["folder"] == str(out)
    return out


@pytest.mark.slow
def test_smoke_walks_the_whole_path(smoked: Path) -> None:
    runs = read_results(smoked / "runs")
    assert len(runs) == 12 and {record.model for record in runs} == {"vgg-cnn", "musicnn"}
    assert {record.dataset for record in runs} == {"mtat"}
    musicnn = [record.result["input"]["n_frames"] for record in runs if record.model == "musicnn"]
    assert sorted(set(musicnn)) == [14, 28], "3 s at 12 kHz with hops of 2560 and 1280"
    for name in ("study.html", "configurations.csv", "figure1-vgg-cnn.png", "quantised.svg", "index.html"):
        assert (smoked / "report" / name).stat().st_size > 500, name
    [command] = (smoked / "commands.txt").read_text().splitlines()
    assert command.split()[0] == "featstore"
    kept = yaml.safe_load((smoked / "recipe.yaml").read_text())
    assert kept["data"]["kind"] == "mtat" and len(kept["models"]) == 2


@pytest.mark.slow
def test_reported_bytes_are_those_of_the_array_written_out(smoked: Path, tmp_path: Path) -> None:
    """A view's size is told without writing it; written, it has these bytes, and attributes with measured errors."""
    import shutil

    record = next(r for r in read_results(smoked / "runs") if r.result["hop_multiple"] == 2 and "uint8" in r.feature)
    shutil.copytree(smoked / "store.zarr", tmp_path / "copy.zarr")
    feature = open_store(tmp_path / "copy.zarr")[record.feature]
    assert not feature.view.is_identity and record.result["bytes"] == record.result["bytes"] | {
        "alone": feature.bytes_alone,
        "added": 0,
    }
    from featstore.specs import parse_feature

    derive(str(tmp_path / "copy.zarr"), [parse_feature(record.feature)])
    written = open_store(tmp_path / "copy.zarr")[record.feature]
    assert written.view.is_identity and 0 <= written.bytes_alone - record.result["bytes"]["alone"] < 512


@pytest.mark.slow
def test_run_again_does_what_is_missing(smoked: Path, mtat: Path) -> None:
    study = load_recipe("ferraro2020", data=f"mtat={mtat}", smoke=True)
    before = {r.path: r.result["finished"] for r in read_results(smoked / "runs")}
    gone = sorted(before)[0]
    (gone / "result.json").unlink()
    run_recipe(study, smoked, jobs=1, only=["train"])
    after = {r.path: r.result["finished"] for r in read_results(smoked / "runs")}
    assert after.keys() == before.keys()
    assert all(after[path] == before[path] for path in after if path != gone)


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(smoked: Path, mtat: Path) -> None:
    study = load_recipe("ferraro2020", data=f"mtat={mtat}", smoke=True)
    with pytest.raises(ConfigError, match="settings of vgg-cnn"):
        run_recipe(with_overrides(study, width=0.0625), smoked, only=["report"])
    other = load_recipe("ferraro2020", data=f"mtat={mtat}", data_options={"split": "cleaned"}, smoke=True)
    with pytest.raises(ConfigError, match=r"other settings \(data of recipe.yaml\)"):
        run_recipe(other, smoked, only=["report"])


@pytest.fixture
def own_music(tmp_path: Path) -> Path:
    """Twelve clips of two genres in folders of two albums each, with no splits."""
    rng = np.random.default_rng(0)
    for genre in ("rock", "jazz"):
        for number in range(6):
            path = tmp_path / "music" / genre / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(16000 * 30).astype(np.float32), 16000)
    return tmp_path / "music"


@pytest.mark.slow
def test_ones_own_music_gets_splits_that_keep_groups_whole(
    own_music: Path, tmp_path: Path, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # no weights of an encoder
    own = load_recipe("quickstart", smoke=True, data=f"folder={own_music}")
    result = run_recipe(own, tmp_path / "out", jobs=1)
    assert "the tracks have no splits: random ones, whole groups at a time" in caplog.text
    runs = list(read_results(tmp_path / "out" / "runs"))
    assert len(runs) == 3 and all(sum(run.result["n_tracks"].values()) == 12 for run in runs)
    assert {run.model for run in runs} == {"vgg-cnn", "token-histogram"} and result.lacking == ["mtt-musicnn"]
    splits = TrackTable.read(tmp_path / "out" / "tracks.parquet").frame["split"]  # what the tokenizer holds out, too
    assert splits.value_counts().to_dict() == runs[0].result["n_tracks"]
    assert result.files


@pytest.mark.slow
def test_a_wrong_folder_blocks_nothing(own_music: Path, tmp_path: Path) -> None:
    wrong = load_recipe("quickstart", smoke=True, data=f"folder={tmp_path / 'nope'}")
    with pytest.raises(FeatstoreError, match="nope"):
        run_recipe(wrong, tmp_path / "out", jobs=1)
    assert not (tmp_path / "out" / "recipe.yaml").exists()
    right = load_recipe("quickstart", smoke=True, data=f"folder={own_music}")
    run_recipe(right, tmp_path / "out", jobs=1, only=["data"])
    other = with_overrides(right, settings={"loop": {"epochs": 1}})
    run_recipe(other, tmp_path / "out", jobs=1, only=["data"])  # nothing was trained yet
    with pytest.raises(ConfigError, match=r"results of other settings .data of recipe.yaml"):
        run_recipe(load_recipe("quickstart", smoke=True), tmp_path / "out", jobs=1, only=["data"])


def test_what_training_would_refuse_is_refused_before_extraction(own_music: Path, tmp_path: Path) -> None:
    own = load_recipe("quickstart", smoke=True, data=f"folder={own_music}")
    cases = (
        ({"data": {"classes": ["metal"]}}, "no track has the label 'metal'"),
        ({"model": {"depth": 3}}, "unknown setting 'model.depth'"),
        ({"data": {"split": "given"}}, "the tracks have no splits"),
    )
    for number, (settings, message) in enumerate(cases):
        out = tmp_path / f"out {number}"  # a table that was written has its splits
        with pytest.raises(FeatstoreError, match=message):
            run_recipe(with_overrides(own, settings=settings), out, jobs=1)
        assert not (out / "store.zarr").exists()


def test_results_under_a_recipe_s_name_do_not_stand_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual folder of results has the recipe's name: run again, the command must mean the same recipe."""
    monkeypatch.chdir(tmp_path)
    Path("kamuni2024").mkdir()
    Path("kamuni2024/recipe.yaml").write_text("title: results of before\n")
    assert load_recipe("kamuni2024", data="demo").title.startswith("Spectra or tokens")
    assert load_recipe("./kamuni2024", data="demo").title == "results of before"
    Path("mine").mkdir()
    Path("mine/recipe.yaml").write_text("title: my own\n")
    assert load_recipe("mine", data="demo").title == "my own"
