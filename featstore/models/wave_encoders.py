"""wav2vec 2.0, HuBERT, WavLM and MERT as encoders: one body on the waveform, read from a transformers folder.

Origin: A. Baevski et al., NeurIPS 2020; W.-N. Hsu et al., TASLP 2021; S. Chen et al., JSTSP 2022; Y. Li et al. (MERT),
ICLR 2024. The modules are those of ``transformers``, built from the folder's settings and filled strictly: code that
a folder names is never run, and a tensor that is missing is never drawn at random. MERT's encoder has HuBERT's tensors.

Layer 0 is the input of the first block, layer n the output of the last one behind the final norm, where the
architecture has one: the library's own list changed this between its versions 4 and 5. Windows are never padded: the
group norm of the front end would spread the padding over all frames, with a mask or without.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.errors import CheckpointError
from featstore.models.frozen_encoder import FrozenEncoder, describe_folder
from featstore.models.interface import InnerLayer
from featstore.models.transformers_folder import open_folder

__all__ = ["open_wave_encoder"]

_CLASSES = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM", "mert_model": "Hubert"}
_TYPES = {"mert": ("mert_model", "hubert"), "hubert": ("hubert",), "wav2vec2": ("wav2vec2",), "wavlm": ("wavlm",)}
_PREFIXES = ("hubert.", "wav2vec2.", "wavlm.")
_LEFT_OUT = (
    "lm_head.",
    "projector.",
    "classifier.",
    "quantizer.",
    "project_",
    "final_proj.",
    "label_embs",
    "encoder_cqt",
)
_UNUSED = "masked_spec_embed"  # only where inputs are masked
_REFUSED = ("deepnorm", "feature_extractor_cqt", "conv_pos_batch_norm", "add_adapter")  # other computations
_SILENT = (  # settings that change numbers and no shape: part of the digest
    "num_attention_heads",
    "conv_stride",
    "do_stable_layer_norm",
    "feat_extract_norm",
    "layer_norm_eps",
    "hidden_act",
    "feat_extract_activation",
    "feat_proj_layer_norm",
    "num_buckets",
    "max_bucket_distance",
)
_HOP, _FIELD = 320, 400  # samples between frames, and that a frame sees
_WINDOW_S = 30
_FETCH = "Fetch the checkpoint again"


def open_wave_encoder(name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> FrozenEncoder:
    """Open a folder with ``config.json`` and weights (safetensors or weights-only .bin, whole or in shards).

    Raises
    ------
    CheckpointError
        The folder is of another model, asks for code, lacks a tensor or a shard, holds one too many, or has settings
        under which another computation would be meant.
    """
    folder = open_folder(name, path, _TYPES[name])
    _check_config(folder.config, folder.where)
    rate = folder.rate(24000 if folder.kind == "mert_model" else 16000)
    normalize = bool(folder.preprocessor.get("do_normalize", True))  # the library's default without a preprocessor
    stem = _CLASSES[folder.kind]
    model = folder.build(stem)
    deciding = folder.fill(model, rename=_renamed, left_out=_LEFT_OUT, optional=(_UNUSED,))
    own: Any = model.config
    settings = {key: getattr(own, key) for key in _SILENT if hasattr(own, key)}
    settings |= {"sample_rate": rate, "normalize": normalize, "type": stem}
    n, width = int(own.num_hidden_layers), int(own.hidden_size)
    layers = [str(layer) for layer in range(n + 1)]
    info = describe_folder(
        folder,
        deciding,
        settings,
        rate,
        layers=dict.fromkeys(layers, InnerLayer(width, _HOP, _FIELD)),
        usual_layers="all",
        window=_WINDOW_S * rate,
        least=_FIELD,
    )

    def states(windows: FloatArray, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Vectors of the input of the first block, and of each block."""
        if normalize:  # each window is brought to mean 0 and deviation 1
            mean, variance = windows.mean(axis=1, keepdims=True), windows.var(axis=1, keepdims=True)
            windows = (windows - mean) / np.sqrt(variance + np.float32(1e-7))
        out = model(torch.from_numpy(windows).to(device), output_hidden_states=True)
        found = [*out.hidden_states[:-1], out.last_hidden_state]
        return {layer: state.transpose(1, 2) for layer, state in zip(layers, found, strict=True)}

    return FrozenEncoder(model, info, device, states)


def _renamed(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _check_config(config: Mapping[str, Any], where: str) -> None:
    for key in _REFUSED:
        if config.get(key):
            raise CheckpointError(f"{key}={config[key]} is another computation than ours", where, "It is not supported")
    width, heads = config.get("hidden_size", 768), config.get("num_attention_heads", 12)
    if not (isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads == 0):
        raise CheckpointError(f"num_attention_heads={heads} does not divide hidden_size={width}", where, _FETCH)
    strides = config.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))
    if not all(isinstance(stride, int) for stride in strides) or math.prod(strides) != _HOP:
        raise CheckpointError(f"conv_stride={list(strides)} does not multiply to {_HOP} samples", where, _FETCH)
    kernels = config.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2))
    if _field(kernels, strides) != _FIELD:
        raise CheckpointError(f"conv_kernel={list(kernels)} does not see {_FIELD} samples", where, _FETCH)


def _field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that a frame sees."""
    return 1 + sum((kernel - 1) * math.prod(strides[:place]) for place, kernel in enumerate(kernels))
