"""wav2vec 2.0, HuBERT, WavLM and MERT as encoders: one body on the waveform, read from a transformers folder.

Origin: A. Baevski et al., NeurIPS 2020; W.-N. Hsu et al., TASLP 2021; S. Chen et al., JSTSP 2022; Y. Li et al. (MERT),
ICLR 2024. The modules are those of ``transformers``, built from the folder's settings and filled strictly: code that
a folder names is never run, and a tensor that is missing is never drawn at random. MERT's encoder has HuBERT's tensors.

Layer 0 is the input of the first block, layer n the output of the last one behind the final norm, where the
architecture has one: the library's own list changed this between its versions 4 and 5. Windows are never padded: the
group norm of the front end would spread the padding over all frames, with a mask or without.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.errors import CheckpointError, FeatstoreError, MissingDependency
from featstore.models.encoders import EncoderInfo, forward_settings
from featstore.models.tensor_files import TensorFile, digest_of_tensors, open_tensors
from featstore.models.token_windows import full_passes

__all__ = ["WaveEncoder", "open_wave_encoder"]

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
_NORM_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
_WINDOW_S = 30
_GPU_BATCH = 8
_FETCH = "Fetch the checkpoint again"


class WaveEncoder:
    """A waveform body with its weights.

    Parameters
    ----------
    model : torch.nn.Module
        Of transformers.
    info : EncoderInfo
    normalize : bool
        Each window is brought to mean 0 and deviation 1, as the folder's preprocessor asks.
    device : torch.device
    """

    def __init__(self, model: torch.nn.Module, info: EncoderInfo, *, normalize: bool, device: torch.device) -> None:
        self.model, self.info, self.normalize = model.to(device).eval().requires_grad_(False), info, normalize
        self._device = device
        self.batch = 1 if device.type == "cpu" else _GPU_BATCH

    def layers_of(self, windows: FloatArray, names: Sequence[str]) -> list[FloatArray]:
        """Vectors (windows, dimensions, frames) of waveforms (windows, samples)."""
        found: list[list[FloatArray]] = [[] for _ in names]
        with forward_settings(self._device):
            for rows, real in full_passes(windows, self.batch):
                if self.normalize:
                    mean, variance = rows.mean(axis=1, keepdims=True), rows.var(axis=1, keepdims=True)
                    rows = (rows - mean) / np.sqrt(variance + np.float32(1e-7))
                out = self.model(torch.from_numpy(rows).to(self._device), output_hidden_states=True)
                states = [*out.hidden_states[:-1], out.last_hidden_state]
                for place, name in enumerate(names):
                    found[place].append(states[int(name)][:real].transpose(1, 2).cpu().numpy())
        return [np.concatenate(parts) for parts in found]


def open_wave_encoder(name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> WaveEncoder:
    """Open a folder with ``config.json`` and weights (safetensors or weights-only .bin, whole or in shards).

    Raises
    ------
    CheckpointError
        The folder is of another model, asks for code, lacks a tensor or a shard, holds one too many, or has settings
        under which another computation would be meant.
    """
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{name} is loaded from a folder with config.json and weights", str(path), "Give it")
    config, prepared = _json(folder / "config.json"), _json(folder / "preprocessor_config.json")
    _check_config(name, config, str(path))
    rate, normalize = _input_of(name, config, prepared, str(path))
    model = _built(config, name, str(path))
    with open_tensors(folder) as file:
        tensors = _read(file, model.state_dict())
    model.load_state_dict(tensors, strict=False)  # what may lack is the embedding of masked frames
    own: Any = model.config
    settings = {key: getattr(own, key) for key in _SILENT if hasattr(own, key)}
    settings |= {"sample_rate": rate, "normalize": normalize, "type": _CLASSES[config["model_type"]]}
    deciding = {_plain_name(key): value for key, value in tensors.items() if key != _UNUSED}
    n, width = int(own.num_hidden_layers), int(own.hidden_size)
    info = EncoderInfo(
        model=name,
        digest=digest_of_tensors(deciding, settings),
        takes=f"waveform(sample_rate={rate})",
        sample_rate=rate,
        layers={str(layer): width for layer in range(n + 1)},
        steps={str(layer): _HOP for layer in range(n + 1)},
        usual_layers="all",
        window=_WINDOW_S * rate,
        least=_FIELD,
        field=_FIELD,
        licence=_licence(folder),
        source=f"transformers folder {folder.name}",
    )
    return WaveEncoder(model, info, normalize=normalize, device=torch.device(device))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read it as JSON: {error}", str(path), _FETCH) from error
    if not isinstance(found, dict):
        raise CheckpointError("it is no JSON object", str(path), _FETCH)
    return found


def _licence(folder: Path) -> str:
    """Licence as the model card beside the weights has it in its header; unknown without a card."""
    from featstore.plain_yaml import parse_yaml

    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    _, fence, rest = text.partition("---\n")
    header = rest.partition("\n---")[0]
    if not fence or text.partition("---\n")[0].strip():
        return "unknown"
    try:
        found = parse_yaml(header, str(card))
    except FeatstoreError:  # a card is prose: one that cannot be read says nothing
        return "unknown"
    return str(found.get("license", "unknown")) if isinstance(found, dict) else "unknown"


def _check_config(name: str, config: Mapping[str, Any], where: str) -> None:
    kind = config.get("model_type")
    if kind not in _TYPES[name]:
        raise CheckpointError(
            f"config.json is of model_type {kind!r}, not {' or '.join(_TYPES[name])}", where, "Name its own encoder"
        )
    if config.get("auto_map") and kind != "mert_model":
        raise CheckpointError(
            "config.json asks for code from the folder (auto_map), which is never run", where, "Remove auto_map"
        )
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
    seen, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=False):
        seen += (kernel - 1) * step
        step *= stride
    return seen


def _input_of(name: str, config: Mapping[str, Any], prepared: Mapping[str, Any], where: str) -> tuple[int, bool]:
    """Rate in Hz and whether windows are normalised; without a preprocessor, the library's defaults."""
    usual = 24000 if config["model_type"] == "mert_model" else 16000
    rates = {int(each) for each in (config.get("sample_rate"), prepared.get("sampling_rate")) if each}
    if len(rates) > 1:
        raise CheckpointError(
            f"config.json and preprocessor_config.json name the rates {sorted(rates)}", where, "Correct the wrong one"
        )
    return rates.pop() if rates else usual, bool(prepared.get("do_normalize", True))


def _built(config: Mapping[str, Any], name: str, where: str) -> torch.nn.Module:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency.of("transformers", "codecs", f"model={name}") from error
    stem = _CLASSES[str(config["model_type"])]
    foreign = {
        "auto_map",
        "architectures",
        "model_type",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "_name_or_path",
    }
    given = {key: value for key, value in config.items() if key not in foreign and not key.startswith("quantization")}
    try:
        settings = getattr(transformers, f"{stem}Config")(**given)
        settings._attn_implementation = "eager"  # one implementation for all versions and sizes
        built: torch.nn.Module = getattr(transformers, f"{stem}Model")(settings).float()
    except Exception as error:  # the library raises whatever its parts do
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"config.json makes no {stem}: {first}", where, _FETCH) from error
    return built


def _plain_name(name: str) -> str:
    for new, old in _NORM_NAMES.items():
        name = name.replace(new, old)
    return name


def _read(file: TensorFile, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a model by its own names, from any spelling."""
    places = {_plain_name(name): name for name in wanted}
    found: dict[str, torch.Tensor] = {}
    for stored in file.names:
        name = _plain_name(stored)
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if name.startswith(_LEFT_OUT):
            continue
        if name not in places:
            raise CheckpointError(f"{stored} has no place in the model that config.json describes", file.name, _FETCH)
        shape = tuple(wanted[places[name]].shape)
        if file.shape(stored) != shape:
            raise CheckpointError(f"{stored} has shape {file.shape(stored)}, not {shape}", file.name, _FETCH)
        found[places[name]] = file.finite(stored)
    lacking = sorted(set(wanted) - set(found) - {_UNUSED})
    if lacking:
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise CheckpointError(f"the checkpoint lacks {lacking[0]}{more}", file.name, _FETCH)
    return found
