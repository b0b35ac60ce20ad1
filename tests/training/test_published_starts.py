"""Weights from elsewhere: parts of a model filled from local files before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from demucs.hdemucs import HDemucs
from safetensors.torch import save_file
from small_store import SPEC, Collection

from featstore.errors import CheckpointError, ConfigError
from featstore.models import create
from featstore.models.checkpoint_file import load_checkpoint, save_checkpoint
from featstore.models.resnet import from_torchvision
from featstore.training import TrainConfig, train
from featstore.training.starting import load_published
from tests.models.test_ast import deit_state
from tests.models.test_resnet import torchvision_state

Make = Callable[..., TrainConfig]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(torchvision_state(), path)
    return str(path)


def train_resnet(styles: Collection, out: Path, *assignments: str) -> dict[str, object]:
    settings = ["data.crop_frames=24", "data.batch_size=20", "loop.epochs=1", "loop.keep=last", *assignments]
    return train(styles.store, SPEC, "resnet18", out, config=TrainConfig.resolve(assignments=settings))


@pytest.mark.slow
def test_training_starts_from_imagenet(styles: Collection, tmp_path: Path, imagenet: str) -> None:
    frozen = (f"start.weights.trunk={imagenet}", "start.trunk_rate=0")
    result = train_resnet(styles, tmp_path / "probe", *frozen)
    tensors, state = load_checkpoint(tmp_path / "probe/checkpoints/last.safetensors")
    for name, wanted in from_torchvision(torchvision_state()).items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensors[f"model.model.trunk.{name}"], wanted), name
    assert "trunk.embedder.embedder.convolution.weight" in state["trunk"] and "output.weight" not in state["trunk"]
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(Path(imagenet).read_bytes())
    again = train_resnet(styles, tmp_path / "probe", f"start.weights.trunk={moved}", "start.trunk_rate=0")
    assert again["finished"] == result["finished"], "the file decides, not its place"


def test_starts_that_cannot_be(styles: Collection, tmp_path: Path, imagenet: str) -> None:
    with pytest.raises(CheckpointError, match=r"trunk\.embedder.* has shape \(64,\) in the file and is \(16,\)"):
        train_resnet(styles, tmp_path / "narrow", f"start.weights.trunk={imagenet}", "model.width=0.25")
    with pytest.raises(ConfigError, match=r"resnet18 has no part 'extractor'.*Known: trunk"):
        train_resnet(styles, tmp_path / "odd", f"start.weights.extractor={imagenet}")
    with pytest.raises(CheckpointError, match=r"no checkpoint to start from.*Check start\.weights\.trunk"):
        train_resnet(styles, tmp_path / "none", "start.weights.trunk=nowhere.pth")
    with pytest.raises(ConfigError, match=r"run and weights are both given"):
        TrainConfig.resolve(assignments=["start.run=a", f"start.weights.trunk={imagenet}"])


@pytest.mark.slow
def test_stages_of_the_row_trunk_and_the_trunk_behind_learned_filters(imagenet: str) -> None:
    state = torchvision_state()
    for name, place in (("gafx-r", "extractor."), ("gafx-a", "extractor.rows.")):
        model = create(name, n_samples=3200, n_classes=3, size="tiny", depth=1)
        loaded = load_published(model, {"extractor": imagenet})
        found = model.state_dict()
        assert torch.equal(found[f"{place}layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
        assert torch.equal(found[f"{place}conv1.weight"], state["conv1.weight"].sum(dim=1, keepdim=True))
        assert not any("layer5" in each for each in loaded) and f"{place}layer1.0.bn1.weight" in loaded
    model = create("ms-sinc-resnet", n_samples=4000, n_classes=3, filters=4, columns=64)
    load_published(model, {"trunk": imagenet})
    kept = from_torchvision(state)["encoder.stages.3.layers.1.layer.1.convolution.weight"]
    assert torch.equal(model.state_dict()["trunk.encoder.stages.3.layers.1.layer.1.convolution.weight"], kept)


def test_a_checkpoint_file_gives_its_part(tmp_path: Path) -> None:
    model = create("resnet18", n_mels=16, n_frames=24, n_classes=3, width=0.125)
    ones = {f"model.model.{name}": torch.ones_like(each) for name, each in model.state_dict().items()}
    save_checkpoint(tmp_path / "best.safetensors", ones, {})
    loaded = load_published(model, {"trunk": str(tmp_path / "best.safetensors")})
    assert loaded and {name.partition(".")[0] for name in loaded} == {"trunk"}
    assert all(bool((each == 1).all()) for each in model.trunk.state_dict().values())


def test_deit_and_hybrid_demucs(tmp_path: Path) -> None:
    deit, demucs = tmp_path / "deit.pth", tmp_path / "hdemucs.pth"
    torch.save({"model": deit_state()}, deit)
    network = HDemucs(sources=["drums", "bass", "other", "vocals"], channels=8)
    torch.save({name: tensor.clone() for name, tensor in network.state_dict().items()}, demucs)
    model = create("gafx-u", n_samples=16_000, n_classes=3, hdemucs={"channels": 8}, depth=2)
    loaded = load_published(model, {"extractor": str(demucs), "trunk": str(deit)})
    assert {name.partition(".")[0] for name in loaded} == {"extractor", "trunk"}
    assert torch.equal(model.extractor.encoder[0].conv.weight, network.encoder[0].conv.weight)
    other = create("gafx-u", n_samples=16_000, n_classes=3, hdemucs={"channels": 4}, depth=1)
    with pytest.raises(CheckpointError, match=r"its settings are .*'channels': 8.*model\.hdemucs="):
        load_published(other, {"extractor": str(demucs)})
    with pytest.raises(CheckpointError, match=r"is missing in the model.*settings of the published network"):
        load_published(other, {"trunk": str(deit)})
    deep = create("ast", n_mels=128, n_frames=64, n_classes=3, depth=3)
    with pytest.raises(CheckpointError, match=r"the weights lack layers\.2\..*model\.depth"):
        load_published(deep, {"trunk": str(deit)})
