"""EnCodec, DAC and Mimi with small random weights: everything comes from the folder's own config."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featstore.errors import CheckpointError, ConfigError
from featstore.models import transformers_codecs as module
from featstore.models.tokenizers import describe_weights, load_tokenizer
from tests.models.jukebox_files import encode_together

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def save(model, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith(("codebook.embed", "embed_sum")):  # made as zeros: every token would be 0
            tensor.copy_(0.02 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith(("cluster_usage", "cluster_size")):
            tensor.fill_(1.0)
    model.save_pretrained(folder)
    return folder


def encodec(folder: Path, *, rate: int = 24000, **changes) -> Path:
    settings = {
        "sampling_rate": rate,
        "num_filters": 4,
        "hidden_size": 16,
        "codebook_size": 64,
        "codebook_dim": 16,
        "upsampling_ratios": [8, 5, 4, 2],
        "target_bandwidths": [0.9, 1.8, 3.6],
        "num_lstm_layers": 1,
    }
    torch.manual_seed(0)
    return save(transformers.EncodecModel(transformers.EncodecConfig(**settings | changes)), folder)


def dac(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.DacConfig(
        sampling_rate=16000,
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4, 5, 8],
        upsampling_ratios=[8, 5, 4, 2],
        decoder_hidden_size=32,
        n_codebooks=3,
        codebook_size=64,
        codebook_dim=6,
    )
    return save(transformers.DacModel(config), folder)


def mimi(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.MimiConfig(
        hidden_size=32,
        num_filters=4,
        codebook_size=32,
        codebook_dim=16,
        num_quantizers=3,
        vector_quantization_hidden_dimension=16,
        upsample_groups=32,
        num_hidden_layers=2,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=8,
        sliding_window=25,
    )
    return save(transformers.MimiModel(config), folder)


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(n).uniform(-0.8, 0.8, n).astype(np.float32)


@pytest.mark.slow
def test_encodec_24k(tmp_path):
    codec = load_tokenizer("encodec", encodec(tmp_path / "e"), bandwidth=1.8, device="cpu")
    info = codec.info
    assert (info.sample_rate, info.hop, info.channels, info.vocabulary, info.code_width) == (24000, 320, 1, 64, 16)
    assert info.n_codebooks == 4 and info.sample_rate / info.hop == 75
    signal = noise(24000 + 7)
    tokens = codec.encode(signal)
    assert tokens.shape == (4, 76) == (4, codec.n_tokens(len(signal))) and tokens.dtype == np.int32
    assert len(np.unique(tokens)) > 3
    with torch.no_grad():
        plain = codec.model.encode(torch.from_numpy(signal)[None, None], bandwidth=1.8).audio_codes
    assert np.array_equal(tokens, plain[0, 0].numpy())
    first = load_tokenizer("encodec", tmp_path / "e", n_quantizers=2, device="cpu")
    assert np.array_equal(first.encode(signal), tokens[:2]) and first.info.digest == info.digest
    assert load_tokenizer("encodec", tmp_path / "e", device="cpu").info.n_codebooks == 2  # the lowest bandwidth's
    stream = codec.stream()
    parts = [stream.push(signal[:5000]), stream.push(signal[5000:]), stream.finish()]
    assert np.array_equal(np.concatenate(parts, axis=1), tokens)
    assert np.array_equal(encode_together(codec, [signal, signal[:9000]])[0], tokens)
    assert codec.encode(signal[:319]).shape == (4, 0) and codec.n_tokens(319) == 0
    assert codec.decode(tokens).shape == (1, 76 * 320)
    assert codec.codebook_vectors(3).shape == (64, 16)
    with pytest.raises(ConfigError, match=r"codebook=4"):
        codec.codebook_vectors(4)


@pytest.mark.slow
def test_encodec_48k_in_chunks(tmp_path):
    folder = encodec(tmp_path / "e", rate=48000, audio_channels=2, normalize=True, chunk_length_s=1.0, overlap=0.01,
                     use_causal_conv=False, norm_type="time_group_norm")  # fmt: skip
    codec = load_tokenizer("encodec", folder, device="cpu")
    assert (codec.info.sample_rate, codec.info.hop, codec.info.channels) == (48000, 320, 2)
    for n, chunks in ((48000, 1), (48001, 2), (95520, 2), (95521, 3), (10_000, 1)):
        signal = noise(n)
        tokens = codec.encode(signal)
        assert tokens.shape == (codec.info.n_codebooks, 150 * chunks) and codec.n_tokens(n) == 150 * chunks
    stereo = torch.from_numpy(np.stack([np.pad(noise(95521), (0, 3 * 47520 + 480 - 95521))] * 2))[None]
    with torch.no_grad():
        plain = codec.model.encode(stereo, bandwidth=0.9).audio_codes  # (chunks, batch, codebooks, frames)
    found = codec.encode(noise(95521))
    assert all(np.array_equal(found[:, 150 * k : 150 * k + 150], plain[k, 0]) for k in range(3))
    assert np.array_equal(codec.encode(noise(95521)[:48000]), codec.encode(noise(95521))[:, :150])
    assert codec.decode(tokens).shape == (2, 48000)
    stream = codec.stream()
    parts = [stream.push(noise(95521)[at : at + 30_000]) for at in range(0, 95521, 30_000)]
    assert [part.shape[1] for part in parts] == [0, 150, 0, 150], "each second is ready as soon as it is there"
    assert np.array_equal(np.concatenate([*parts, stream.finish()], axis=1), found)
    assert codec.decode(codec.encode(noise(95521))).shape == (2, 48000 + 2 * 47520)


def test_dac(tmp_path):
    codec = load_tokenizer("dac", dac(tmp_path / "d"), device="cpu")
    info = codec.info
    assert (info.sample_rate, info.hop, info.n_codebooks, info.vocabulary, info.code_width) == (16000, 320, 3, 64, 6)
    signal = noise(3201)
    tokens = codec.encode(signal)
    assert tokens.shape == (3, 11) == (3, codec.n_tokens(3201))
    two = load_tokenizer("dac", tmp_path / "d", n_quantizers=2, device="cpu")
    assert np.array_equal(two.encode(signal), tokens[:2])
    assert codec.decode(tokens).shape[0] == 1 and abs(codec.decode(tokens).shape[1] - 3520) < 320
    assert codec.codebook_vectors(0).shape == (64, 6)


def strong_dac(folder: Path):
    """A DAC whose residual branches are strong: weak ones would hide an overlap that is too short."""
    codec = load_tokenizer("dac", dac(folder / "d"), device="cpu")
    for name, parameter in codec.model.encoder.named_parameters():
        if "res_unit" in name and name.endswith("weight"):
            parameter.mul_(4.0)
    return codec


@pytest.mark.slow
def test_dac_in_windows_gives_the_tokens_of_one_pass(tmp_path, monkeypatch):
    codec = strong_dac(tmp_path)
    left, right = codec._field.left, codec._field.right
    assert left > 320 and right > 320
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", 6 * 320)
    for n in (320, 321, left + right, 320 * 61, 320 * 61 + 7):
        signal = noise(n)
        padded = torch.from_numpy(np.pad(signal, (0, -n % 320)))[None, None]
        wanted = codec.model.encode(padded, n_quantizers=3).audio_codes[0].numpy()
        found = codec.encode(signal)
        assert found.shape == wanted.shape == (3, codec.n_tokens(n))
        assert (found != wanted).mean() <= 0.005, "but for near ties, the tokens are those of one pass"
        stream = codec.stream()
        parts = [stream.push(signal[at : at + 1000]) for at in range(0, n, 1000)]
        assert np.array_equal(np.concatenate([*parts, stream.finish()], axis=1), found)
    assert stream.near_ties is None, "not counted is not zero"
    assert len(np.unique(found)) > 20
    signals = [noise(n) for n in (320 * 61, 320 * 61, 4000, 320)]
    for size in (1, 4):
        codec.pass_size, codec.batch = size, 4
        together = encode_together(codec, [*signals, signals[0]])
        assert all(np.array_equal(a, codec.encode(b)) for a, b in zip(together, signals, strict=False))


def test_an_overlap_that_is_too_short_shows(tmp_path, monkeypatch):
    codec = strong_dac(tmp_path)
    monkeypatch.setattr(module, "_WINDOW_SAMPLES", 6 * 320)
    signal = noise(320 * 61)
    wanted = codec.encode(signal)
    field = codec._field
    for short in (replace(field, left=field.left // 2), replace(field, right=field.right // 2)):
        codec._field = short
        assert (codec.encode(signal) != wanted).mean() > 0.02


def test_mimi(tmp_path):
    codec = load_tokenizer("mimi", mimi(tmp_path / "m"), device="cpu")
    info = codec.info
    assert (info.sample_rate, info.hop, info.n_codebooks, info.vocabulary, info.code_width) == (24000, 1920, 3, 32, 16)
    assert info.sample_rate / info.hop == 12.5
    for n in (1920, 1921, 24000, 24007):
        tokens = codec.encode(noise(n))
        assert tokens.shape == (3, codec.n_tokens(n)) == (3, -(-n // 1920))
    assert codec.encode(noise(1919)).shape == (3, 0)
    assert len(np.unique(codec.encode(noise(96000)))) > 3
    two = load_tokenizer("mimi", tmp_path / "m", n_quantizers=2, device="cpu")
    assert np.array_equal(two.encode(noise(24007)), tokens[:2]) and two.info.digest == info.digest
    assert codec.decode(tokens).shape == (1, 13 * 1920)
    assert codec.codebook_vectors(2).shape == (32, 16)


def test_mimi_takes_signals_one_by_one_and_its_own_batch_agrees(tmp_path):
    codec = load_tokenizer("mimi", mimi(tmp_path / "m"), device="cpu")
    signals = [np.roll(noise(24000), shift) for shift in (0, 5000, 11000)]
    alone = [codec.encode(signal) for signal in signals]
    assert codec.batch == 1
    assert all(np.array_equal(a, b) for a, b in zip(encode_together(codec, signals), alone, strict=True))
    with torch.no_grad():
        together = codec.model.encode(torch.from_numpy(np.stack(signals))[:, None], num_quantizers=3).audio_codes
    assert (together.numpy() == np.stack(alone)).mean() > 0.99  # but for near ties, which rounding decides


@pytest.mark.slow
def test_a_folder_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    here = load_tokenizer("dac", dac(tmp_path / "d"), device="cpu")
    assert load_tokenizer("dac", "~/d", device="cpu").info.digest == here.info.digest


def test_folders_that_are_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"from a folder with config.json"):
        load_tokenizer("encodec", tmp_path / "nowhere", device="cpu")
    folder = encodec(tmp_path / "e")
    for settings, told in (
        ({"bandwidth": 2.0}, r"bandwidth=2 kbit/s is not the model's.*0.9, 1.8, 3.6"),
        ({"n_quantizers": 99}, r"n_quantizers=99 is out of range.*1 to 8"),
        ({"level": 1}, r"level is no setting of encodec"),
    ):
        with pytest.raises(ConfigError, match=told):
            load_tokenizer("encodec", folder, device="cpu", **settings)
    with pytest.raises(CheckpointError, match=r"config.json is of model_type 'encodec', not dac"):
        load_tokenizer("dac", folder, device="cpu")
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=r"no encodec checkpoint"):
        load_tokenizer("encodec", folder, device="cpu")
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"holds none of model.safetensors"):
        load_tokenizer("encodec", folder, device="cpu")


def test_the_digest_is_of_what_decides_tokens(tmp_path):
    folder = encodec(tmp_path / "e")
    first = describe_weights("encodec", folder, n_quantizers=2).digest
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.startswith("decoder."))
    save_file(tensors | {name: tensors[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    assert describe_weights("encodec", folder, n_quantizers=2).digest == first
    name = next(name for name in tensors if name.startswith("encoder."))
    save_file(tensors | {name: tensors[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    assert describe_weights("encodec", folder, n_quantizers=2).digest != first
    config = json.loads((folder / "config.json").read_text())
    assert config["sampling_rate"] == 24000
