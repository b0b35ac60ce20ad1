"""Weights of Hybrid Demucs from local files, for GAFX-U: the library's own, safetensors, and torchaudio's.

Files of the library are pickles that name a class. They are read with an allow-list that holds this one class, so that
nothing else in them can run. Every tensor is accounted for; nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from featstore.errors import CheckpointError
from featstore.models.demucs_spectra import SOURCES
from featstore.models.tapped_demucs import FIXED, SETTINGS, HDemucs
from featstore.models.tensor_files import finite_tensor, load_torch, place_tensors, read_tensors

__all__ = ["demucs_extractor", "read_hdemucs"]

_MEMBER = "Give the file of one Hybrid Demucs, a member of a bag (such as mdx_extra) that has both branches"
_FETCH = "Fetch the file again"
_TORCHAUDIO = {
    "freq_encoder": "encoder",
    "freq_decoder": "decoder",
    "time_encoder": "tencoder",
    "time_decoder": "tdecoder",
}


def read_hdemucs(path: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Settings and weights of a Hybrid Demucs.

    Returns
    -------
    hdemucs : dict
        For ``create("gafx-u", hdemucs=…)``; ``hybrid_old`` among them.
    state : dict of str to tensor
        Float32, for ``model.extractor.load_state_dict(state)``.

    Raises
    ------
    CheckpointError
        No such file, a damaged one, one that would run code, a bag of several models, another network, sources in
        another order, or tensors that do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("there is no file of weights", str(path), "Check the path; nothing is fetched")
    if path.suffix in (".yaml", ".yml"):
        raise CheckpointError("this is a bag of several models", str(path), _MEMBER)
    if path.suffix == ".safetensors":
        given, state = _safetensors(path)
    elif path.suffix == ".th":
        given, state = _library_file(path)
    else:
        given, state = {}, read_tensors(path)
    state = _renamed(state)
    if not given and "encoder.0.conv.weight" in state:
        given = {"channels": len(state["encoder.0.conv.weight"])}  # a plain state dict says no more
    settings = _settings(given, str(path))
    return settings, _fitted(settings, state, str(path))


def demucs_extractor(path: str | Path, model: Any) -> dict[str, torch.Tensor]:
    """Weights of ``extractor`` of ``gafx-u`` from a local file: see ``Model.published``.

    Raises
    ------
    CheckpointError
        As ``read_hdemucs``, and for a network of other settings than the model's, which the message names.
    """
    settings, state = read_hdemucs(path)
    own = dict(model.config.hdemucs)
    if SETTINGS | settings != SETTINGS | own:
        fix = f"Set model.hdemucs={json.dumps(settings)}"
        raise CheckpointError(f"its settings are {settings}, the model's {own}", str(path), fix)
    return state


def _library_file(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with torch.serialization.safe_globals([HDemucs]):
        content = load_torch(path, refused="this is no file of one Hybrid Demucs: it holds more", fix=_MEMBER)
    if not isinstance(content, Mapping) or not {"klass", "args", "kwargs", "state"} <= set(content):
        raise CheckpointError("it lacks klass, args, kwargs or state", str(path), _MEMBER)
    if content["klass"] is not HDemucs:
        raise CheckpointError(f"it holds {content['klass']!r}, no Hybrid Demucs", str(path), _MEMBER)
    if "__quantized" in content["state"]:
        raise CheckpointError("its weights are quantised", str(path), "Give a member that is not (no _q in its name)")
    return _arguments(content["args"], content["kwargs"], str(path)), dict(content["state"])


def _safetensors(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import safe_open

    state = read_tensors(path)
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata() or {}
    if "klass" not in metadata:
        return {}, state
    if metadata["klass"].strip('"').rpartition(".")[2] != "HDemucs":
        raise CheckpointError(f"it holds {metadata['klass']}, no Hybrid Demucs", str(path), _MEMBER)
    try:
        args, kwargs = json.loads(metadata.get("args", "[]")), json.loads(metadata.get("kwargs", "{}"))
    except ValueError as error:
        raise CheckpointError(f"its settings are no JSON: {error}", str(path), _FETCH) from error
    return _arguments(args, kwargs, str(path)), state


def _arguments(args: Any, kwargs: Any, where: str) -> dict[str, Any]:
    """Arguments of the constructor by name; only the sources come by position."""
    if not isinstance(args, list | tuple) or len(args) > 1 or not isinstance(kwargs, Mapping):
        raise CheckpointError("its settings are of no known form", where, _MEMBER)
    return ({"sources": args[0]} if args else {}) | dict(kwargs)


def _settings(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings besides those that the features hang on, which are checked."""
    for name, wanted in FIXED.items():
        value = given.get(name, wanted)
        if (list(value) if isinstance(value, tuple) else value) != wanted:
            raise CheckpointError(f"{name} is {value}, not {wanted}", where, _MEMBER)
    settings = {name: value for name, value in given.items() if name not in FIXED}
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise CheckpointError(f"{unknown[0]} is no setting of Hybrid Demucs", where, "Install the demucs that wrote it")
    return settings


def _renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of the library for torchaudio's, without the norm of the last temporal layer, which it never uses."""
    if not any(name.startswith("freq_encoder.") for name in state):
        return dict(state)
    last = max(int(name.split(".")[1]) for name in state if name.startswith("time_encoder."))
    found = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if not name.startswith(f"time_encoder.{last}.norm1."):
            found[f"{_TORCHAUDIO.get(part, part)}.{rest}"] = tensor
    return found


def _fitted(settings: Mapping[str, Any], state: Mapping[str, Any], where: str) -> dict[str, torch.Tensor]:
    """Return the weights as float32, each one fitting a network of these settings and none left over."""
    wanted = HDemucs(sources=list(SOURCES), **settings).state_dict()
    found = place_tensors(state, wanted, "a Hybrid Demucs of its settings", where, _MEMBER)
    return {name: finite_tensor(name, tensor, where) for name, tensor in found.items()}
