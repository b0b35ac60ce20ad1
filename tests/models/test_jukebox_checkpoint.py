"""Checkpoints of the VQ-VAE: one name whatever the container, and an error of its own for each kind of damage."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from featstore.errors import CheckpointError, ConfigError
from featstore.models.jukebox_checkpoint import export_levels, load_level
from featstore.models.jukebox_tokenizer import JukeboxTokenizer
from featstore.models.tokenizers import describe_weights, load_tokenizer
from tests.models.jukebox_files import (
    CONTAINERS,
    HPS,
    original_state,
    published_levels,
    random_level,
    small_config,
    transformers_state,
    write_container,
)


@pytest.fixture(scope="module")
def levels():
    return [random_level(small_config(level), seed=level) for level in range(3)]


@pytest.fixture
def state(levels):
    return original_state(levels)


def save(state, path: Path, **content) -> Path:
    torch.save({"hps": HPS, "model": state, "opt": None, "step": 1} | content, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("form", CONTAINERS)
def test_every_container_of_the_same_tensors_has_one_digest(form, levels, tmp_path):
    path = write_container(form, levels, tmp_path / "one")
    reference = write_container("original", levels, tmp_path / "two")
    for level in range(3):
        loaded, plain = load_level(path, level), load_level(reference, level)
        assert loaded.digest == plain.digest and len(loaded.digest) == 32
        ours, theirs = loaded.model.state_dict(), levels[level].state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert loaded.provenance["dilation_growth"] == 3 and len(loaded.provenance["sha256"]) == 64
    assert len({load_level(path, level).digest for level in range(3)}) == 3
    with pytest.raises(CheckpointError, match=r"level 3 is not in the checkpoint .* it holds: 0, 1, 2"):
        load_level(path, 3)


@pytest.mark.slow
def test_published_size_has_the_tensors_and_shapes_of_the_original(tmp_path):
    models = published_levels()
    state = original_state(models)
    assert len(state) == 669
    assert sum(name.startswith("encoders.") for name in state) == 330
    assert sum(name.startswith("decoders.") for name in state) == 336
    shapes = {
        "encoders.0.level_blocks.0.model.0.0.weight": (64, 1, 4),
        "encoders.2.level_blocks.0.model.0.0.weight": (32, 1, 4),
        "encoders.2.level_blocks.1.model.0.0.weight": (32, 64, 4),
        "encoders.2.level_blocks.0.model.3.weight": (64, 32, 3),
        "encoders.2.level_blocks.2.model.2.bias": (64,),
        "encoders.0.level_blocks.0.model.2.1.model.7.model.1.weight": (64, 64, 3),
        "decoders.2.level_blocks.2.model.0.weight": (32, 64, 3),
        "decoders.2.level_blocks.2.model.2.1.weight": (32, 64, 4),
        "decoders.2.level_blocks.0.model.1.0.model.0.model.3.weight": (32, 32, 1),
        "decoders.1.out.weight": (1, 64, 3),
        "bottleneck.level_blocks.1.k": (2048, 64),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    values = sum(tensor.numel() for tensor in state.values())
    assert values - 3 * 2048 * 64 == 1_485_763
    for form in ("original old module", "transformers safetensors"):
        path = write_container(form, models, tmp_path / form)
        for level in range(3):
            read = load_level(path, level).model.state_dict()
            assert all(torch.equal(read[name], tensor) for name, tensor in models[level].state_dict().items())


def test_one_level_loads_alone_with_or_without_decoder(levels, tmp_path, state):
    encoder_only = {n: t for n, t in state.items() if n.startswith(("encoders.1.", "bottleneck.level_blocks.1."))}
    path = save(encoder_only, tmp_path / "one.pth.tar")
    loaded = load_level(path, 1, with_decoder=False)
    whole = load_level(save(state, tmp_path / "all.pth.tar"), 1)
    assert loaded.digest == whole.digest
    assert loaded.model.decoder is None
    with pytest.raises(CheckpointError, match=r"decoders\.1\..* is missing"):
        load_level(path, 1)
    with pytest.raises(CheckpointError, match=r"level 2 is not in the checkpoint .*it holds: 1\b.*hop 128"):
        load_level(path, 2)
    with pytest.raises(ConfigError, match=r"without its decoder"):
        loaded.model.decode(torch.zeros((1, 3), dtype=torch.int64))


def test_the_digest_moves_with_values_names_and_growth(levels, state, tmp_path):
    first = load_level(save(state, tmp_path / "a"), 2)
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["bottleneck.level_blocks.2.k"][3, 1] += 1e-6
    assert load_level(save(changed, tmp_path / "b"), 2).digest != first.digest
    decoder = {name: tensor + (name.startswith("decoders.2.out")) for name, tensor in state.items()}
    assert load_level(save(decoder, tmp_path / "c"), 2).digest == first.digest  # tokens do not see the decoder
    grown = load_level(save(state, tmp_path / "d", hps=HPS | {"dilation_growth_rate": 2}), 2)
    assert grown.model.config.growth == 2 and grown.digest != first.digest
    silent = load_level(save(state, tmp_path / "e", hps={}), 2)
    assert silent.digest == first.digest and "assumed" in silent.provenance["dilation_growth_from"]


def test_missing_extra_and_misshapen_tensors_are_named(state, tmp_path):
    name = "encoders.2.level_blocks.1.model.0.1.model.1.model.3.bias"
    without = {other: tensor for other, tensor in state.items() if other != name}
    with pytest.raises(CheckpointError, match=rf"{name} of shape \(6,\) is missing \(guessed: original names\)"):
        load_level(save(without, tmp_path / "a"), 2)
    load_level(save(without, tmp_path / "a"), 0)  # another level does not mind
    with pytest.raises(CheckpointError, match=r"encoders\.2\.level_blocks\.1\.extra of shape \(3,\) belongs to no"):
        load_level(save(state | {"encoders.2.level_blocks.1.extra": torch.zeros(3)}, tmp_path / "b"), 2)
    load_level(save(state | {"priors.0.x": torch.zeros(3)}, tmp_path / "c"), 2)
    with pytest.raises(CheckpointError, match=rf"{name} has shape \(7,\), not \(6,\)"):
        load_level(save(state | {name: torch.zeros(7)}, tmp_path / "d"), 2)
    with pytest.raises(CheckpointError, match=r"bottleneck.level_blocks.2.k is missing"):
        gone = {other: tensor for other, tensor in state.items() if other != "bottleneck.level_blocks.2.k"}
        load_level(save(gone, tmp_path / "e"), 2)
    with pytest.raises(CheckpointError, match=r"not finite"):
        load_level(save(state | {name: torch.full((6,), float("nan"))}, tmp_path / "f"), 2)
    with pytest.raises(CheckpointError, match=r"holds torch.int64, not floating"):
        load_level(save(state | {name: torch.zeros(6, dtype=torch.int64)}, tmp_path / "g"), 2)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("EXPLODED"),)


def test_damaged_and_foreign_files_have_errors_of_their_own(levels, state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for form in ("original", "original old", "safetensors file"):
        path = write_container(form, levels, tmp_path / form)
        data = path.read_bytes()
        for keep in (len(data) // 2, len(data) - 200, 40):
            path.write_bytes(data[:keep])
            with pytest.raises(CheckpointError, match=r"truncated|no safetensors|damaged"):
                load_level(path, 2)
    bomb = tmp_path / "bomb.pth.tar"
    for old in (False, True):
        torch.save({"model": state, "hps": Bomb()}, bomb, _use_new_zipfile_serialization=not old)
        with pytest.raises(CheckpointError, match=r"would run code.*Convert it where you trust it"):
            load_level(bomb, 2)
    bomb.write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(CheckpointError, match=r"run code|truncated or damaged"):
        load_level(bomb, 2)
    assert not Path("EXPLODED").exists()
    page = tmp_path / "page.pth.tar"
    page.write_text("<!DOCTYPE html><html>moved</html>")
    with pytest.raises(CheckpointError, match=r"this is no checkpoint"):
        load_level(page, 2)
    torch.save({"state": {"conv.weight": torch.zeros(3)}}, page)
    with pytest.raises(CheckpointError, match=r"no Jukebox VQ-VAE"):
        load_level(page, 2)
    torch.save([1, 2], page)
    with pytest.raises(CheckpointError, match=r"holds a list"):
        load_level(page, 2)
    with pytest.raises(CheckpointError, match=r"there is no checkpoint"):
        load_level(tmp_path / "nowhere", 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"the folder holds none of"):
        load_level(tmp_path / "empty", 2)
    sharded = write_container("transformers sharded bin", levels, tmp_path / "sharded")
    (sharded / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-00002.bin, which is not there"):
        load_level(sharded, 2)


@pytest.mark.parametrize("name", ["own.pth.tar", "own.safetensors"])
def test_export_reads_back_with_the_same_digest_and_tokens(name, levels, tmp_path):
    signal = np.random.default_rng(1).uniform(-1, 1, 9000).astype(np.float32)
    before = load_level(write_container("transformers bin", levels, tmp_path / "hf"), 2)
    export_levels([before.model, levels[1]], tmp_path / name)
    after = load_level(tmp_path / name, 2)
    assert after.digest == before.digest and after.provenance["dilation_growth_from"] == "the checkpoint's settings"
    with pytest.raises(CheckpointError, match=r"it holds: 1, 2"):
        load_level(tmp_path / name, 0)
    assert np.array_equal(JukeboxTokenizer(before).encode(signal), JukeboxTokenizer(after).encode(signal))
    with pytest.raises(CheckpointError, match=r"without its decoder"):
        export_levels([load_level(tmp_path / name, 1, with_decoder=False).model], tmp_path / "no.pth.tar")
    assert not (tmp_path / "no.pth.tar").exists()


def test_settings_that_are_not_jukeboxs_are_refused(levels, tmp_path):
    path = write_container("safetensors file", levels, tmp_path)
    with pytest.raises(ConfigError, match=r"bandwidth is no setting of jukebox"):
        load_tokenizer("jukebox", path, bandwidth=6.0)
    with pytest.raises(ConfigError, match=r"unknown codec 'jukbox'.*jukebox"):
        load_tokenizer("jukbox", path)


def test_a_description_follows_the_file(levels, tmp_path):
    path = write_container("safetensors file", levels, tmp_path)
    first = describe_weights("jukebox", path, level=2)
    assert (first.hop, first.vocabulary, first.code_width, first.sample_rate) == (128, 40, 5, 44100)
    assert describe_weights("jukebox", path, level=2) is first
    other = [random_level(small_config(level), seed=9) for level in range(3)]
    write_container("safetensors file", other, tmp_path)
    assert describe_weights("jukebox", path, level=2).digest != first.digest


@pytest.mark.parametrize("growth", [2, 2.0, "2", "2.0"])
def test_a_growth_holds_however_it_is_written(growth, state, tmp_path):
    hps = HPS | {"dilation_growth_rate": growth}
    assert load_level(save(state, tmp_path / "a", hps=hps), 2).model.config.growth == 2


@pytest.mark.parametrize(
    ("hps", "message"),
    [
        ({"dilation_growth_rate": "fast"}, "dilation_growth_rate='fast' is not a positive whole number"),
        ({"dilation_growth_rate": 2.5}, "dilation_growth_rate=2.5 is not a positive whole number"),
        ({"sr": 0}, "sr=0 is not a positive whole number"),
        ({"dilation_cycle": 1}, "dilation_cycle=1: dilations that start again after 1 of 2 units are not supported"),
    ],
)
def test_settings_that_shapes_do_not_show_are_never_passed_over(hps, message, state, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        load_level(save(state, tmp_path / "a", hps=HPS | hps), 2)


def test_a_cycle_longer_than_the_stack_changes_nothing(state, tmp_path):
    plain, cycled = (
        save(state, tmp_path / name, hps=hps) for name, hps in (("a", HPS), ("b", HPS | {"dilation_cycle": 4}))
    )
    assert load_level(cycled, 2).digest == load_level(plain, 2).digest


def test_torchs_advice_to_load_unsafely_is_not_passed_on(tmp_path):
    torch.save({"model": Path("x")}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="would run code: pathlib") as caught:
        load_level(tmp_path / "a", 2)
    assert "weights_only" not in str(caught.value) and "safe_globals" not in str(caught.value)


def test_a_missing_tensor_has_the_name_that_the_file_gives_it(levels, tmp_path):
    state = transformers_state(levels, "vqvae.")
    name = "vqvae.encoders.2.level_blocks.0.downsample_block.0.bias"
    del state[name]
    message = rf"{re.escape(name)} of shape .* is missing \(guessed: transformers names"
    with pytest.raises(CheckpointError, match=message):
        load_level(save(state, tmp_path / "a"), 2)
