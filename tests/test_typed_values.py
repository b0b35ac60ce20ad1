"""Settings of every kind refuse a value of the wrong kind with one clear error."""

from __future__ import annotations

import dataclasses
import datetime
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml

from featstore.cluster_file import ClusterConfig, read_cluster
from featstore.datasets import DATASETS, index
from featstore.errors import ConfigError, FeatstoreError, MissingDependency
from featstore.extract import ExtractOptions
from featstore.models import MODELS, create
from featstore.models.input_kinds import INPUT_KINDS, SEVERAL
from featstore.specs.kinds import KINDS
from featstore.training import OBJECTIVES, TrainConfig
from featstore.training.vq_training import TokenizerConfig
from featstore.typed_values import build, converted
from featstore.workflows.recipes import KEYS, load_recipe
from featstore.workflows.selection import ModelPlan
from featstore.workflows.shift_plan import ShiftPlan

WRONG: list[Any] = [
    None, True, -1, 0, 3, 10**400, 2.5, math.nan, math.inf, "", "abc", "1,2", datetime.date(2001, 1, 1),
    [], [3], ["a"], [None], [[1, 2]], [1.5, 2, 3], [1, 2, 3], [{"a": 1}], {}, {"a": 1}, {1: 2}, {"a": None}, {"a": [1]},
]  # fmt: skip


def fields_of(kind: Any) -> dict[str, Any]:
    """Names and types of a dataclass's fields."""
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


def of_other_kind(hint: Any, value: Any) -> bool:
    """Whether no field of this type can mean the value."""
    if hint is Any:
        return False
    kinds = {typing.get_origin(each) or each for each in (typing.get_args(hint) or (hint,))}
    if value is None:
        return types.NoneType not in kinds
    listed = isinstance(value, list) and bool(value)
    if hint in (int, float, bool) or typing.get_origin(hint) is Literal:
        return isinstance(value, list | dict | datetime.date) or value in ("", "abc")
    return hint is str and (isinstance(value, dict) or listed)


def try_all(fields: Mapping[str, Any], make: Callable[[str, Any], object]) -> None:
    """Every wrong value of every field is refused with an error of ours, or taken where it can be meant."""
    for name, hint in fields.items():
        for value in WRONG:
            try:
                make(name, value)
            except FeatstoreError as error:
                assert error.what and (error.where or error.fix), (name, value)
            except Exception as error:
                raise AssertionError(f"{name}={value!r}: {error!r}") from error
            else:
                assert not of_other_kind(hint, value), f"{name}={value!r} is taken"


@pytest.mark.slow
def test_settings_of_training() -> None:
    hints = fields_of(TrainConfig)
    for section, kind in hints.items():
        try_all({section: Any}, lambda name, value: TrainConfig.resolve({name: value}))
        kinds = [("", kind)] if dataclasses.is_dataclass(kind) else []
        if section == "objective":
            kinds = [(name, OBJECTIVES.load(name).Config) for name in OBJECTIVES if name != "supervised"]
        for name, each in kinds:
            named = {"name": name} if name else {}
            try_all(
                fields_of(each),
                lambda key, value, part=section, named=named: TrainConfig.resolve({part: named | {key: value}}),
            )
    kept = {name: hint | None for name, hint in fields_of(TokenizerConfig).items()}  # None keeps the preset's
    try_all(kept, lambda name, value: TokenizerConfig.preset("small", **{name: value}).level_config)


def model_and_sizes(name: str) -> tuple[Any, dict[str, int]]:
    """A model, and sizes of an input that it takes."""
    try:
        model = MODELS.load(name)
    except MissingDependency as error:
        pytest.skip(str(error))
    if model.takes == SEVERAL:
        pytest.skip("its inputs are models' settings of their own")
    kind = INPUT_KINDS[model.takes]
    sizes = dict(model.paper_input or kind.example) | {"n_classes": 5}
    sizes |= {"n_codes": kind.vocabulary} if kind.vocabulary else {}
    return model, sizes


@pytest.mark.parametrize("name", list(MODELS))
def test_settings_of_models(name: str) -> None:
    model, sizes = model_and_sizes(name)
    try_all(fields_of(model.Config), lambda key, value: model.Config(**(sizes | {key: value})))


def test_settings_of_models_from_text() -> None:
    sizes = {"n_mels": 96, "n_frames": 187, "n_classes": 5}
    config = MODELS.load("musicnn").Config(**sizes, timbral="1,2,3", dropout="1e-1")
    assert config.timbral == (1, 2, 3) and config.dropout == 0.1
    for name, wrong, message in (
        ("musicnn", {"timbral": 3}, r"timbral=3 is not a list \[musicnn\]"),
        ("resnet18", {"top_db": "soft"}, r"top_db='soft' is not a number \[resnet18\]"),
        ("ast", {"checkpointing": "often"}, r"checkpointing='often' is not true or false \[ast\]"),
    ):
        with pytest.raises(ConfigError, match=message):
            MODELS.load(name).Config(**sizes, **wrong)


def test_a_model_that_no_memory_holds() -> None:
    with pytest.raises(ConfigError, match=r"a model of these sizes cannot be made: .* \[model vgg-cnn\]\. Lower"):
        create("vgg-cnn", n_mels=96, n_frames=187, n_classes=5, width=1000)


@pytest.mark.parametrize("name", list(MODELS))
def test_sizes_that_no_machine_could_build(name: str) -> None:
    """Every number of every model that decides what is built has a limit, which the message names."""
    model, sizes = model_and_sizes(name)
    hints = fields_of(model.Config)
    for field in (key for key, hint in hints.items() if hint in (int, int | None)):
        for value in (10**12, 2**62):
            with pytest.raises(ConfigError, match=rf"{field}=.* is too large: it takes at most [\d,]+ \["):
                model.Config(**(sizes | {field: value}))
    if hints.get("width") is float:
        with pytest.raises(ConfigError, match=r"width=1e\+100 is not a positive number up to 1,000 \["):
            model.Config(**(sizes | {"width": 1e100}))
    for field in (key for key, hint in hints.items() if hint == tuple[int, ...]):
        with pytest.raises(ConfigError, match=rf"{field}=10{'0' * 11} is too large: it takes at most 1,048,576 \["):
            model.Config(**(sizes | {field: (10**12,)}))
        with pytest.raises(ConfigError, match=f"{field} has 1,000 values: it takes at most 256"):
            model.Config(**(sizes | {field: (1,) * 1000}))


def test_numbers_inside_a_setting_have_limits() -> None:
    pytest.importorskip("demucs")
    for name, value in (("depth", 257), ("channels", 10**12), ("dconv_comp", 2**62)):
        with pytest.raises(ConfigError, match=rf"hdemucs.{name}={value} is too large: it takes at most"):
            MODELS.load("gafx-u").Config(n_samples=480_000, n_classes=5, hdemucs={name: value})


def test_a_depth_that_would_be_built_until_killed() -> None:
    with pytest.raises(ConfigError, match=r"depth=1000000000000 is too large: it takes at most 256 \[.*\]. Lower it"):
        create("ast", n_mels=128, n_frames=128, n_classes=5, depth=10**12)


def test_cluster_files(tmp_path: Path) -> None:
    def make(name: str, value: Any) -> None:
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({"kind": "slurm"} | {name: value}))
        read_cluster(tmp_path / "c.yaml").settings("log")

    try_all(dict.fromkeys(fields_of(ClusterConfig), Any), make)


@pytest.mark.slow
def test_keys_of_recipes(tmp_path: Path) -> None:
    base = {"data": {"kind": "demo"}, "features": ["mel(n_mels=32)"]}

    def make(name: str, value: Any) -> None:
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(base | {name: value}))
        recipe = load_recipe(str(tmp_path))
        recipe.model_plans()
        recipe.requests()

    try_all(dict.fromkeys(KEYS, Any), make)
    try_all(dict.fromkeys(fields_of(ExtractOptions), Any), lambda name, value: make("extract", {name: value}))
    try_all(dict.fromkeys(fields_of(ShiftPlan), Any), lambda name, value: make("shifts", {name: value}))
    try_all(
        dict.fromkeys(fields_of(ModelPlan), Any),
        lambda name, value: make("models", [{"model": "vgg-cnn"} | {name: value}]),
    )
    for key in ("models", "same"):
        try_all({key: Any}, lambda name, value: make("experiments", {"a": {"models": ["vgg-cnn"]} | {name: value}}))
    try_all(dict.fromkeys(["where", "margin", "metric"], Any), lambda name, value: make("report", {name: value}))
    table = {"title": "T", "rows": ["n_mels"]}
    try_all(
        dict.fromkeys(["where", "columns", "metrics", "reference", "rows"], Any),
        lambda name, value: make("report", {"tables": [table | {name: value}]}),
    )
    claim = {"claim": "c", "at_least": 0, "where_a": "n_mels=3", "where_b": "n_mels=4"}
    try_all(dict.fromkeys(claim, Any), lambda name, value: make("report", {"claims": [claim | {name: value}]}))


def test_fields_of_specs() -> None:
    for kind in KINDS:
        cls = KINDS.load(kind)
        names = dict.fromkeys((each.name for each in dataclasses.fields(cls)), Any)
        try_all(names, lambda name, value, cls=cls: cls(**{name: value}))


def test_options_of_data_sets(tmp_path: Path) -> None:
    for kind in DATASETS:
        hints = {
            name: hint
            for name, hint in typing.get_type_hints(DATASETS.load(kind)).items()
            if name not in ("root", "return")
        }
        if kind != "demo":  # which makes music
            try_all(hints, lambda name, value, kind=kind: index(kind, tmp_path, **{name: value}))


def test_a_value_becomes_what_its_field_holds() -> None:
    assert converted(float, 1, "x", "") == 1.0 and converted(int, 2.0, "x", "") == 2
    assert converted(Literal["32", "16"], 32, "precision", "") == "32"  # without quotes
    assert converted(list[str] | None, ["a"], "x", "") == ["a"]
    with pytest.raises(ConfigError, match=r"x is too large \[here\]\. Give a number below"):
        converted(int, 10**30, "x", "here")
    with pytest.raises(ConfigError, match="the key model is missing"):
        build(ModelPlan, {}, "here")
    assert build(ShiftPlan, {"tracks": None}, "here").tracks == 120  # an empty key keeps its default


def test_numbers_of_numpy_are_numbers() -> None:
    sizes = {"n_mels": np.int64(96), "n_frames": np.int32(187), "n_classes": np.uint8(5), "width": np.float32(0.25)}
    model = create("vgg-cnn", **sizes)
    found = [getattr(model.config, name) for name in sizes]
    assert found == [96, 187, 5, 0.25] and [type(each) for each in found] == [int, int, int, float]
    assert converted(int, str(2**53 + 1), "seed", "demo") == 2**53 + 1
    assert converted(tuple[float, ...], np.array([1, 2]), "rates", "model") == (1.0, 2.0)
    with pytest.raises(ConfigError, match=r"n_classes=0 is not a positive whole number"):
        create("vgg-cnn", **sizes | {"n_classes": np.int64(0)})
