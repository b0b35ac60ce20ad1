"""Weights of the packaged taggers: from TensorFlow's checkpoint to torch, against an independent forward pass."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_packaged import plain_musicnn, plain_vgg
from safetensors.torch import load_file, save_file

from featstore.errors import CheckpointError
from featstore.models import MODELS, create
from featstore.models.musicnn_published import PUBLISHED, published_name
from featstore.models.musicnn_tags import MSD_TAGS, MTT_TAGS
from featstore.models.musicnn_weights import convert_variables, load_published
from featstore.models.tf_checkpoint import read_checkpoint
from featstore.testing.musicnn_package import KINDS, find_musicnn, random_variables, write_untrained
from featstore.testing.tf_bundle import write_bundle

NAMES = ("mtt-musicnn", "msd-musicnn-big", "msd-vgg")


def patches(n: int, n_frames: int, seed: int = 0) -> np.ndarray:
    """Inputs like log10(1 + 10000 mel): smooth in time, silent here and there, (n, frames, 96) float32."""
    rng = np.random.default_rng(seed)
    level = np.linspace(3.5, 0.5, 96) + np.cumsum(rng.normal(0, 0.08, (n, n_frames, 1)), axis=1)
    x = np.maximum(level + rng.normal(0, 0.6, (n, n_frames, 96)), 0)
    x[-1, n_frames // 3 : n_frames // 2] = 0
    return x.astype(np.float32)


def model_with(name: str, state: dict[str, torch.Tensor], n_frames: int = 187) -> torch.nn.Module:
    model = create(name, n_mels=96, n_frames=n_frames, n_classes=50)
    model.load_state_dict(state)
    return model.eval()


def tags_of(model: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.sigmoid(model(torch.from_numpy(x.transpose(0, 2, 1).copy())[:, None])).numpy()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The package's folders with weights that were never trained."""
    root = tmp_path_factory.mktemp("package") / "musicnn"
    write_untrained(root, *NAMES)
    return {"root": root} | {name: root / PUBLISHED[name].folder for name in NAMES}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_converted_weights_give_what_the_description_gives(name: str, folders: dict[str, Path]) -> None:
    model = model_with(name, load_published(name, folders["root"]))
    x = patches(2, 187)
    plain = plain_vgg if name.endswith("vgg") else plain_musicnn
    expected = np.stack([plain(random_variables(KINDS[name]), each)["tags"] for each in x])
    np.testing.assert_allclose(tags_of(model, x), expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.3, "the tags differ"


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_the_checkpoint_has_its_place(name: str, folders: dict[str, Path]) -> None:
    state = load_published(name, folders[name])
    values = sum(tensor.numel() for key, tensor in state.items() if not key.endswith("num_batches_tracked"))
    assert values == {"mtt-musicnn": 792_079, "msd-musicnn-big": 7_993_819, "msd-vgg": 607_030}[name]
    assert all(tensor.dtype == torch.float32 for key, tensor in state.items() if "num_batches" not in key)
    assert list(state) == list(model_with(name, state).state_dict())


def test_other_lengths_than_the_trained_one(folders: dict[str, Path]) -> None:
    state, variables = load_published("mtt-musicnn", folders["root"]), random_variables("musicnn")
    for n_frames in (1, 20, 100):
        x = patches(1, n_frames, seed=n_frames)
        expected = plain_musicnn(variables, x[0])
        model = model_with("mtt-musicnn", state, n_frames)
        np.testing.assert_allclose(tags_of(model, x)[0], expected["tags"], rtol=0, atol=1e-5)


def test_converted_weights_survive_a_safetensors_file(folders: dict[str, Path], tmp_path: Path) -> None:
    state = load_published("mtt-musicnn", folders["root"])
    save_file(state, tmp_path / "mtt-musicnn.safetensors")
    x = patches(1, 187)
    again = model_with("mtt-musicnn", load_file(tmp_path / "mtt-musicnn.safetensors"))
    assert np.array_equal(tags_of(again, x), tags_of(model_with("mtt-musicnn", state), x))


def test_where_weights_are_found(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the package's folder, in a clone of its repository, in a checkpoint's own folder, in a wheel, fetched too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "featstore" / "weights").mkdir(parents=True)
    wheel = tmp_path / "featstore" / "weights" / "musicnn-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in folders["mtt-musicnn"].iterdir():
            archive.write(file, f"musicnn/MTT_musicnn/{file.name}")
    clone = folders["root"].parent
    wanted = load_published("mtt-musicnn", folders["root"])
    for place in (clone, clone / "musicnn" / "MTT_musicnn", wheel, None):
        found = load_published("mtt-musicnn", place)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    with pytest.raises(CheckpointError, match=r"the weights of msd-vgg \(MSD_vgg\) are not there \[.*whl\]"):
        load_published("msd-vgg", wheel)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:  # its tensors would fit
        for file in folders["mtt-musicnn"].iterdir():
            archive.write(file, f"MTT_musicnn/{file.name}")
    assert torch.equal(load_published("mtt-musicnn", other)["output.bias"], wanted["output.bias"])
    with pytest.raises(CheckpointError, match=r"the weights of msd-musicnn \(MSD_musicnn\) are not there"):
        load_published("msd-musicnn", other)


@pytest.mark.slow
def test_an_installed_package_is_found_and_never_imported(folders: dict[str, Path], tmp_path: Path) -> None:
    package = tmp_path / "musicnn"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    os.symlink(folders["mtt-musicnn"], package / "MTT_musicnn")
    code = (
        "import sys\nfrom featstore.models.musicnn_weights import load_published\n"
        "print(sum(v.numel() for v in load_published('mtt-musicnn').values()), 'musicnn' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert run.stdout.split() == [str(792_079 + 11), "False"], run.stderr


def refused(name: str, change: Callable[[dict[str, np.ndarray]], object], message: str) -> None:
    variables = {k: v for k, v in random_variables(KINDS[name]).items() if "Adam" not in k and "power" not in k}
    change(variables)
    with pytest.raises(CheckpointError, match=message):
        convert_variables(name, variables, "here")


def test_a_checkpoint_of_another_network_is_refused(folders: dict[str, Path]) -> None:
    refused("mtt-musicnn", lambda v: v.pop("dense/bias"), r"the checkpoint lacks dense/bias \[here\].*none of MTT_musi")
    refused("msd-vgg", lambda v: v.pop("3CNN/kernel"), "the checkpoint lacks 3CNN/kernel")
    refused(
        "mtt-musicnn",
        lambda v: v.update({"conv2d/kernel": v["conv2d/kernel"].transpose(1, 0, 2, 3)}),
        r"conv2d/kernel has shape \(38, 7, 1, 204\), which gives \(204, 1, 7, 38\) for timbral.0.conv.weight, "
        r"not \(204, 1, 38, 7\)",
    )
    refused(
        "mtt-musicnn", lambda v: v.update({"conv2d_8/bias": v["dense/bias"]}), "1 variables have no place: conv2d_8/"
    )
    with pytest.raises(CheckpointError, match="the checkpoint lacks 1CNN/kernel"):
        load_published("mtt-vgg", folders["mtt-musicnn"])
    with pytest.raises(CheckpointError, match=r"conv2d_5/kernel has shape .* not \(512, 561, 7\)"):
        load_published("msd-musicnn-big", folders["mtt-musicnn"])


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"no package musicnn is installed.*featstore models fetch mtt-musicnn"):
        load_published("mtt-musicnn")
    with pytest.raises(CheckpointError, match=r"Only the source repository .*clone it.*--weights PATH"):
        load_published("msd-musicnn-big")
    with pytest.raises(CheckpointError, match=r"there is no such folder or wheel \[.*nowhere\]"):
        load_published("mtt-musicnn", tmp_path / "nowhere")
    (tmp_path / "torn.whl").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CheckpointError, match=r"not a wheel: .*torn.whl"):
        load_published("mtt-musicnn", tmp_path / "torn.whl")
    with pytest.raises(CheckpointError, match=r"no published weights of .mtt-musican.*Did you mean mtt-musicnn"):
        load_published("mtt-musican", tmp_path)


def test_a_folder_that_lacks_the_data_file(tmp_path: Path) -> None:
    write_bundle(tmp_path, random_variables("vgg"))
    (tmp_path / ".data-00000-of-00001").unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read: No such file.*data-00000-of-00001"):
        load_published("mtt-vgg", tmp_path)


def test_names_and_tags() -> None:
    assert set(PUBLISHED) <= set(MODELS)
    assert [published_name(n) for n in ("MTT_musicnn", "msd-vgg", "vgg-cnn")] == ["mtt-musicnn", "msd-vgg", None]
    for tags in (MTT_TAGS, MSD_TAGS):
        assert len(set(tags)) == 50
    assert (MTT_TAGS[:3], MTT_TAGS[-1]) == (("guitar", "classical", "slow"), "choral")
    assert (MSD_TAGS[:3], MSD_TAGS[-1]) == (("rock", "pop", "alternative"), "happy")


def test_one_of_the_known_mistakes_changes_tags(folders: dict[str, Path]) -> None:
    """The comparison above has teeth: another eps, or pooled values not interleaved, are far outside its tolerance."""
    state, x = load_published("mtt-musicnn", folders["root"]), patches(1, 187)
    expected = plain_musicnn(random_variables("musicnn"), x[0])["tags"]
    model = model_with("mtt-musicnn", state)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.eps = 1e-5
    assert np.abs(tags_of(model, x)[0] - expected).max() > 1e-4
    order = torch.cat([torch.arange(0, 1506, 2), torch.arange(1, 1506, 2)])
    turned = {**state, "hidden.weight": state["hidden.weight"][:, order]}
    assert np.abs(tags_of(model_with("mtt-musicnn", turned), x)[0] - expected).max() > 1e-2


@pytest.fixture(scope="module")
def package() -> Path:
    """The published package."""
    found, reason = find_musicnn()
    if found is None:
        pytest.skip(reason)
    return found


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mtt-musicnn", "msd-musicnn", "mtt-vgg", "msd-vgg"])
def test_published_weights_give_what_the_description_gives(name: str, package: Path) -> None:
    state = load_published(name, package)
    variables = published_variables(name, package)
    for n_frames in (187,) if name.endswith("vgg") else (187, 100, 938):
        x = patches(2 if n_frames == 187 else 1, n_frames, seed=n_frames)
        plain = plain_vgg if name.endswith("vgg") else plain_musicnn
        expected = [plain(variables, each) for each in x]
        model = model_with(name, state, n_frames)
        np.testing.assert_allclose(tags_of(model, x), np.stack([e["tags"] for e in expected]), rtol=0, atol=1e-5)
        if "penultimate" in expected[0]:
            with torch.no_grad():
                found = model.activations(torch.from_numpy(x.transpose(0, 2, 1).copy())[:, None])["penultimate"]
            np.testing.assert_allclose(found, np.stack([e["penultimate"] for e in expected]), rtol=0, atol=2e-4)


def published_variables(name: str, package: Path) -> dict[str, np.ndarray]:
    folder = PUBLISHED[name].folder

    def read(file: str) -> bytes:
        if package.is_dir():
            return next(package.rglob(f"{folder}/{file}")).read_bytes()
        with zipfile.ZipFile(package) as archive:
            return archive.read(f"musicnn/{folder}/{file}")

    return read_checkpoint(read, folder)


@pytest.mark.data
@pytest.mark.slow
def test_tags_of_the_published_package_are_ours(package: Path) -> None:
    import ast

    if package.is_dir():
        text = next(package.rglob("configuration.py")).read_text()
    else:
        with zipfile.ZipFile(package) as archive:
            text = archive.read("musicnn/configuration.py").decode()
    assigned = {n.targets[0].id: n.value for n in ast.parse(text).body if isinstance(n, ast.Assign)}
    assert tuple(ast.literal_eval(assigned["MTT_LABELS"])) == MTT_TAGS
    assert tuple(ast.literal_eval(assigned["MSD_LABELS"])) == MSD_TAGS
