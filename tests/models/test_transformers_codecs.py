"""EnCodec, DAC and Mimi with small random weights: everything comes from the folder's own config."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from featstore.errors import CheckpointError, ConfigError
from featstore.models.tokenizers import describe_weights, load_tokenizer

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


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(n).uniform(-0.8, 0.8, n).astype(np.float32)


def test_encodec_24k(tmp_path):
    codec = load_tokenizer("encodec", encodec(tmp_path / "e"), bandwidth=1.8, device="cpu")
    info = codec.info
    assert (info.sample_rate, info.hop, info.channels, info.vocabulary, info.code_width) == (24000, 320, 1, 64, 16)
    assert info.n_codebooks == 4 and info.tokens_per_second == 75
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
    assert np.array_equal(codec.encode_many([signal, signal[:9000]])[0], tokens)
    assert codec.encode(signal[:319]).shape == (4, 0) and codec.n_tokens(319) == 0
    assert codec.decode(tokens).shape == (1, 76 * 320)
    assert codec.codebook_vectors(3).shape == (64, 16)
    with pytest.raises(ConfigError, match=r"codebook=4"):
        codec.codebook_vectors(4)


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
    assert codec.decode(codec.encode(noise(95521))).shape == (2, 48000 + 2 * 47520)


def test_dac(tmp_path):
    codec = load_tokenizer("dac", dac(tmp_path / "d"), device="cpu")
    info = codec.info
    assert (info.sample_rate, info.hop, info.n_codebooks, info.vocabulary, info.code_width) == (16000, 320, 3, 64, 6)
    assert not info.can_sum
    signal = noise(3201)
    tokens = codec.encode(signal)
    assert tokens.shape == (3, 11) == (3, codec.n_tokens(3201))
    two = load_tokenizer("dac", tmp_path / "d", n_quantizers=2, device="cpu")
    assert np.array_equal(two.encode(signal), tokens[:2])
    assert codec.decode(tokens).shape[0] == 1 and abs(codec.decode(tokens).shape[1] - 3520) < 320
    assert codec.codebook_vectors(0).shape == (64, 6)


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
    with pytest.raises(CheckpointError, match=r"no dac checkpoint|missing or of another shape"):
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
