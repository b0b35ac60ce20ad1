"""Files of a run that someone edited, or another version wrote: one clear error or a result, whatever is in them."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from small_store import SPEC, Collection, make_collection

from featstore.errors import FeatstoreError
from featstore.results import query, read_results, summarise
from featstore.training import TrainConfig, evaluate, train
from featstore.training.folders import RunFolder
from featstore.workflows.tag import tag

GONE = object()
WRONG: list[Any] = [GONE, None, True, -1, 0, 3, 10**30, 2.5, "", "abc", [], [3], [None], {}, {"a": 1}]
SMALL = ("model.width=0.02", "model.pools=fit", "data.batch_size=8", "data.crop_frames=24", "loop.epochs=1")


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return make_collection(tmp_path_factory.mktemp("edited") / "music.zarr", n=20)


@pytest.fixture(scope="module")
def runs(music: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: tables have to bring what was edited together with what was not."""
    place = tmp_path_factory.mktemp("runs")
    small = [*SMALL, "evaluate.bootstrap=20", "device.accelerator=cpu"]
    train(music.store, SPEC, "vgg-cnn", place / "run", config=TrainConfig.resolve(assignments=small))
    shutil.copytree(place / "run", place / "other")
    soundfile.write(place / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 16000).astype(np.float32), 16000)
    return place


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all inner nodes and leaves."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def edited(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    found = inner = copy.deepcopy(value)
    for key in path[:-1]:
        inner = inner[key]
    if to is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return found


def try_edits(file: Path, chosen: Callable[[int, tuple[Any, ...]], list[Any]], *acts: Callable[[], object]) -> None:
    """Each act meets each edit with an error of ours, or does its work."""
    before = file.read_text()
    try:
        for number, path in enumerate(places(json.loads(before))):
            for value in chosen(number, path):
                file.write_text(json.dumps(edited(json.loads(before), path, value)))
                for act in acts:
                    try:
                        act()
                    except FeatstoreError as error:
                        assert error.what and (error.where or error.fix), (path, value)
                    except Exception as error:
                        raise AssertionError(f"{file.name}: {path}={value!r}: {error!r}") from error
    finally:
        file.write_text(before)


@pytest.mark.slow
def test_descriptions_of_runs(runs: Path) -> None:
    def chosen(number: int, path: tuple[Any, ...]) -> list[Any]:
        return WRONG if path[0] != "identity" else [] if len(path) > 2 else WRONG[:3]

    run = runs / "run"
    try_edits(run / "run.json", chosen, lambda: evaluate(run), lambda: tag(str(run), [runs / "a.wav"]))


@pytest.mark.slow
def test_results_of_runs(runs: Path) -> None:
    def chosen(number: int, path: tuple[Any, ...]) -> list[Any]:
        every = len(path) == 1 or path[0] in ("feature_fields", "bytes", "seconds", "store", "n_tracks")
        return WRONG[number % 3 :: 3] if every else [WRONG[number % len(WRONG)]] * (number % 3 == 0)

    def ask() -> None:
        found = read_results(runs)
        summarise(found)
        query(found, "SELECT * FROM runs JOIN scores USING (run_id)")

    try_edits(runs / "run" / "result.json", chosen, ask, lambda: RunFolder(runs / "run").read_result())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("input", "inputs", "input"), 3, r"3 is not a mapping \[.*run.json: input.inputs.input\]. Its keys are kind"),
        (("input", "inputs", "input", "axes"), 3, r"axes=3 is not a list \[.*input.inputs.input\]"),
        (("input", "inputs", "input", "axes"), [16], r"sizes \[16\], and spectra have positive n_mels, n_frames"),
        (("input", "inputs", "input", "kind"), "mell", r"has the unknown kind 'mell' .*run.json\]. Known: "),
        (("input", "grid"), [], r"input.grid=\[\] is not a whole number \[.*run.json\]"),
        (("input", "stride"), GONE, r"does not say its inputs, and its stride and grid in frames"),
        (("macs",), "abc", r"macs='abc' is not a whole number \[.*run.json\]"),
        (("store", "path"), GONE, r"the description of the run lacks store.path \[.*run.json\]. Delete"),
        (("classes",), GONE, r"the description of the run lacks classes"),
    ],
)
def test_what_is_said(path: tuple[Any, ...], value: Any, message: str, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "run", tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps(edited(json.loads(file.read_text()), path, value)))
    with pytest.raises(FeatstoreError, match=message):
        evaluate(tmp_path / "run")


def test_results_that_tables_cannot_hold_are_skipped(runs: Path, tmp_path: Path) -> None:
    for name, value in (("sample_rate", 0), ("hop_length", "abc"), ("n_mels", 10**30)):
        shutil.copytree(runs / "run", tmp_path / name)
        file = tmp_path / name / "result.json"
        file.write_text(json.dumps(edited(json.loads(file.read_text()), ("feature_fields", name), value)))
    found = read_results(tmp_path)
    assert not found and len(found.skipped) == 3
    assert all("'feature_fields' is" in skip.reason for skip in found.skipped)


def test_settings_that_are_no_section(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "run", tmp_path / "run")
    for text, message in (
        ("loop: 3\n", r"loop is a section, not 3 \[.*config.yaml\]"),
        ("evaluate: {pool: 3}\n", "evaluate.pool=3"),
    ):
        (tmp_path / "run" / "config.yaml").write_text(text)
        with pytest.raises(FeatstoreError, match=message):
            tag(str(tmp_path / "run"), [runs / "a.wav"])
