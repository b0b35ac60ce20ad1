"""Small Jukebox checkpoints with random weights, in every container."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featstore.features.windows import PendingWindows, encode_blocks
from featstore.models.jukebox_tokenizer import JukeboxTokenizer
from featstore.models.jukebox_vqvae import JukeboxLevel, LevelConfig, published_config
from featstore.models.token_windows import Window, encode_in_batches, join_windows
from featstore.models.tokenizers import Tokenizer

SMALL = (3, 2, 2)


def small_config(level: int, **changes: Any) -> LevelConfig:
    """Sizes of a level with the published hop, narrow and shallow."""
    settings: dict[str, Any] = {"width": 6, "depth": 2, "embedding": 5, "codes": 40, "downs": SMALL[: level + 1]}
    return LevelConfig(level=level, **settings | changes)


def random_level(config: LevelConfig, seed: int = 0, *, strength: float = 1.0) -> JukeboxLevel:
    """A level with random weights whose codebook is spread over its own latents, so that many codes are used.

    ``strength`` scales the residual branches: by default they are so weak that the field's edge hardly matters.
    """
    generator = torch.Generator().manual_seed(seed)
    model = JukeboxLevel(config)
    for name, parameter in model.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else parameter.numel()
        scale = strength if ".model.1.weight" in name or ".model.3.weight" in name else 1.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale / fan**0.5
    signal = torch.rand((1, 400 * config.hop), generator=generator) * 2 - 1
    with torch.no_grad():
        latents = model.latents(signal)[0].T
    picked = torch.randint(len(latents), (config.codes,), generator=generator)
    noise = torch.randn((config.codes, config.embedding), generator=generator)
    model.codebook.copy_(latents[picked] + 0.1 * latents.std(0) * noise)
    return model.eval()


def published_levels(seed: int = 0) -> list[JukeboxLevel]:
    """Three levels of the published size."""
    return [random_level(published_config(level), seed + level) for level in range(3)]


def original_state(models: list[JukeboxLevel], prefix: str = "") -> dict[str, torch.Tensor]:
    """All tensors by the original's names."""
    return {prefix + name: tensor.clone() for model in models for name, tensor in model.original_names().items()}


def transformers_state(models: list[JukeboxLevel], prefix: str = "") -> dict[str, torch.Tensor]:
    """All tensors by transformers' names, from the structure and not from the reader's own rules."""
    named = {}
    for model in models:
        level, downs, depth = model.config.level, model.config.downs, model.config.depth
        state = model.state_dict()
        named[f"bottleneck.level_blocks.{level}.codebook"] = state["codebook"]
        for kind in ("weight", "bias"):
            named[f"decoders.{level}.out.{kind}"] = state[f"decoder.out.{kind}"]
            for block, stages in enumerate(downs):
                here, enc, dec = f"level_blocks.{block}", f"encoders.{level}", f"decoders.{level}"
                named[f"{enc}.{here}.proj_out.{kind}"] = state[f"encoder.{here}.model.{stages}.{kind}"]
                named[f"{dec}.{here}.proj_in.{kind}"] = state[f"decoder.{here}.model.0.{kind}"]
                for i in range(stages):
                    down, up = f"{enc}.{here}.downsample_block", f"{dec}.{here}.upsample_block"
                    own_down, own_up = f"encoder.{here}.model.{i}", f"decoder.{here}.model.{i + 1}"
                    named[f"{down}.{2 * i}.{kind}"] = state[f"{own_down}.0.{kind}"]
                    named[f"{up}.{2 * i + 1}.{kind}"] = state[f"{own_up}.1.{kind}"]
                    for d in range(depth):
                        for conv, inner in ((1, 1), (2, 3)):
                            tail = f"resnet_block.{d}.conv1d_{conv}.{kind}"
                            named[f"{down}.{2 * i + 1}.{tail}"] = state[f"{own_down}.1.model.{d}.model.{inner}.{kind}"]
                            named[f"{up}.{2 * i}.{tail}"] = state[f"{own_up}.0.model.{d}.model.{inner}.{kind}"]
    return {prefix + name: tensor.clone() for name, tensor in named.items()}


HPS = {"levels": 3, "downs_t": [3, 2, 2], "strides_t": [2, 2, 2], "sr": 44100, "dilation_growth_rate": 3}


def write_container(form: str, models: list[JukeboxLevel], folder: Path) -> Path:
    """Write levels in one of the containers that a user may have; the path to give."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if form.startswith("original"):
        prefix = "module." if "module" in form else ""
        content = {"hps": HPS, "model": original_state(models, prefix), "opt": None, "step": 7, "loss": 0.5}
        path = folder / "vqvae.pth.tar"
        torch.save(content, path, _use_new_zipfile_serialization="old" not in form)
        return path
    if form == "safetensors file":
        path = folder / "vqvae.safetensors"
        save_file(original_state(models), path)
        return path
    whole = "whole model" in form
    state = transformers_state(models, "vqvae." if whole else "")
    settings: dict[str, Any] = {"res_dilation_growth_rate": 3, "sampling_rate": 44100, "nb_discrete_codes": 2048}
    if whole:
        state["priors.0.encoder.weight"] = torch.zeros(3)
    (folder / "config.json").write_text(json.dumps({"vqvae_config": settings} if whole else settings))
    if "sharded" in form:
        names = sorted(state)
        halves = {"a": names[::2], "b": names[1::2]}
        suffix = "safetensors" if "safetensors" in form else "bin"
        stem = "model" if suffix == "safetensors" else "pytorch_model"
        weight_map = {}
        for number, part in enumerate(halves.values()):
            file = f"{stem}-{number + 1:05d}-of-00002.{suffix}"
            weight_map |= dict.fromkeys(part, file)
            tensors = {name: state[name] for name in part}
            save_file(tensors, folder / file) if suffix == "safetensors" else torch.save(tensors, folder / file)
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    elif "safetensors" in form:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(state, folder / "pytorch_model.bin")
    return folder


CONTAINERS = (
    "original",
    "original module",
    "original old",
    "original old module",
    "safetensors file",
    "transformers safetensors",
    "transformers bin",
    "transformers sharded safetensors",
    "transformers sharded bin",
    "transformers whole model safetensors",
    "transformers whole model bin",
)


def windows_of(tokenizer: Tokenizer, signal: np.ndarray) -> list[Window]:
    """All windows of a whole signal."""
    cutter = tokenizer.cutter()
    return [*cutter.push(signal), *cutter.finish()]


def encode_together(tokenizer: Tokenizer, signals: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Tokens of several signals, as extraction computes them where tracks wait for each other."""
    return [
        tokens for tokens, _ in encode_blocks([PendingWindows(tokenizer, windows_of(tokenizer, s)) for s in signals])
    ]


def encode_with_margins(
    tokenizer: JukeboxTokenizer, signals: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens (1, T) of each signal, each with how clearly the nearest code wins, float32 (T,)."""
    cut = [windows_of(tokenizer, signal) for signal in signals]
    found = iter(encode_in_batches(tokenizer, [window for windows in cut for window in windows]))
    coded = [[next(found) for _ in windows] for windows in cut]
    margins = [np.concatenate([np.zeros(0, np.float32), *(part.margins for part in parts)]) for parts in coded]
    return list(zip((join_windows(parts, tokenizer.no_values) for parts in coded), margins, strict=True))
