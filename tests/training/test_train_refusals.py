"""What is refused before the first step, what a refusal leaves behind, and what a full disk does."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_store import SPEC, Collection

from featstore.errors import CheckpointError, ConfigError, DatasetError, FeatstoreError, StoreError
from featstore.models.checkpoint_file import load_checkpoint, save_checkpoint
from featstore.models.jukebox_checkpoint import export_levels
from featstore.training import TrainConfig, evaluate, train
from featstore.training.folders import RunFolder
from tests.models.jukebox_files import random_level, small_config

Make = Callable[..., TrainConfig]


def test_a_batch_of_one_example_under_a_batch_norm(music: Collection, tmp_path: Path, config: Make) -> None:
    small = config("data.batch_size=1")
    small = TrainConfig.resolve(small.as_mapping() | {"model": {"width": 0.1}})
    with pytest.raises(
        ConfigError, match=r"batch of one example leaves the model's batch norm.*batch_size=1.*2 or more"
    ):
        train(music.store, SPEC, "musicnn", tmp_path / "run", config=small)
    assert not (tmp_path / "run").exists()
    train(music.store, SPEC, "vgg-cnn", tmp_path / "maps", config=config("data.batch_size=1", "loop.epochs=1"))


def test_words_that_yaml_reads_as_truth_values() -> None:
    with pytest.raises(ConfigError, match=r"data.classes=False is not text: YAML reads on, off.*Quote it"):
        TrainConfig.resolve(assignments=["data.classes=[no,on]"])
    assert TrainConfig.resolve(assignments=["data.classes=['no','on']"]).data.classes == ("no", "on")


def test_a_refused_run_leaves_its_folder_to_the_corrected_one(music: Collection, tmp_path: Path, config: Make) -> None:
    with pytest.raises(DatasetError, match="the crop needs 999"):
        train(music.store, SPEC, "vgg-cnn", tmp_path / "run", config=config("data.crop_frames=999"))
    assert (tmp_path / "run").is_dir()
    result = train(music.store, SPEC, "vgg-cnn", tmp_path / "run", config=config("loop.epochs=1"))
    with pytest.raises(ConfigError, match=r"holds another run: settings.loop.epochs 1, here 2"):
        train(music.store, SPEC, "vgg-cnn", tmp_path / "run", config=config())
    assert json.loads((tmp_path / "run/result.json").read_text())["run_id"] == result["run_id"]


@pytest.mark.parametrize(
    ("edited", "message"),
    [
        ({"store": "s.zarr"}, "store is a section, not 's.zarr' .*run.json"),
        ({"store": {"path": 3, "fingerprint": "0"}}, "store.path=3 is not text"),
        ({"feature": ["mel"]}, r"feature=\['mel'\] is not text"),
        ({"classes": "rock"}, "classes='rock' is not a list"),
        ({"input": [16, 20]}, "input is a section, not"),
    ],
)
def test_a_description_that_was_edited_to_other_types(edited: dict[str, object], message: str, tmp_path: Path) -> None:
    described = {"store": {"path": "s.zarr", "fingerprint": "0"}, "feature": SPEC, "classes": ["rock"], "seed": 3}
    RunFolder(tmp_path).write_run(described, {})
    assert RunFolder(tmp_path).read_run() == described
    RunFolder(tmp_path).write_run(described | edited, {})
    with pytest.raises(ConfigError, match=message):
        evaluate(tmp_path)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 64 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses_a_checkpoint(tmp_path: Path, small_disk: None) -> None:
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, {"a": torch.ones(4)}, {"kept": True})
    with pytest.raises(StoreError, match=r"cannot write: File too large .*last.safetensors.*then run again"):
        save_checkpoint(path, {"a": torch.ones(1 << 16)}, {})
    assert load_checkpoint(path)[1] == {"kept": True}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    level = random_level(small_config(0), seed=0)
    level.codebook = torch.nn.Parameter(torch.zeros(1 << 15, level.codebook.shape[1]))
    for name in ("t.safetensors", "t.pth.tar"):
        with pytest.raises(StoreError, match="cannot write"):
            export_levels([level], tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "header",
    ["", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 1, "checksum": null, "state": 3}', "[" * 9000],
)
def test_a_checkpoint_with_a_damaged_header(header: str, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, {"a": torch.ones(4)}, {"kept": True})
    save_file(load_file(path), path, metadata={"featstore": header})
    with pytest.raises(CheckpointError, match=r"best.safetensors") as caught:
        load_checkpoint(path)
    assert isinstance(caught.value, FeatstoreError)


def test_another_programs_result_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_result() is None
    folder.result.write_text('{"model": 3, "scores": []}')
    with pytest.raises(CheckpointError, match=r"not the result of a run: lacks 'feature'.*result\.json"):
        folder.read_result()
