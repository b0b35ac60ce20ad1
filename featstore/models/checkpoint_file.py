"""Checkpoint files: one safetensors file holds tensors, and in its header the rest as JSON; nothing is unpickled.

The header is part of the same file, so tensors and state cannot part.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from featstore.errors import CheckpointError
from featstore.models.layers import InputNorm
from featstore.models.tensor_files import place_tensors, save_tensors

__all__ = [
    "FORMAT",
    "State",
    "Tensors",
    "is_run",
    "load_checkpoint",
    "load_module",
    "norm_of",
    "save_checkpoint",
    "scored_prefix",
]

FORMAT = 1
Tensors = dict[str, torch.Tensor]
State = dict[str, Any]

_KEY = "featstore"


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """CRC-32 over names, shapes and bytes: a flipped bit in a checkpoint must not become a wrong score."""
    total = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode(), total)
        if tensor.numel():
            total = zlib.crc32(tensor.contiguous().view(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and state as one file, in one atomic step.

    Raises
    ------
    StoreError
        The disk is full or refuses.
    """
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "checksum": _checksum(plain), "state": dict(state)}
    save_tensors(path, plain, {_KEY: json.dumps(header)})


def scored_prefix(tensors: Iterable[str]) -> str:
    """What the names of the weights begin with that a run is scored with: their running average, where one is kept."""
    return "average." if any(name.startswith("average.") for name in tensors) else "model."


def norm_of(tensors: Mapping[str, torch.Tensor]) -> InputNorm | torch.nn.ModuleDict | None:
    """Input norm with a checkpoint's statistics (one for each of several inputs), if it has one."""
    prefix, found = "model.norm.", {}
    for name, mean in tensors.items():
        if name.startswith(prefix) and name.endswith("mean"):
            place = name.removeprefix(prefix).removesuffix("mean")
            std = tensors[f"{prefix}{place}std"]
            found[place.removesuffix(".")] = InputNorm(mean[..., 0].numpy(), std[..., 0].numpy())
    return found[""] if "" in found else (torch.nn.ModuleDict(found) if found else None)


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a run's folder, or a file that says that it is a checkpoint of ours; content is not checked."""
    from safetensors import SafetensorError, safe_open

    place = Path(path).expanduser()
    if (place / "run.json").is_file():
        return True
    if place.suffix != ".safetensors" or not place.is_file():
        return False
    try:
        with safe_open(place, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def load_checkpoint(path: Path) -> tuple[Tensors, State]:
    """Read a checkpoint that ``save_checkpoint`` wrote.

    Raises
    ------
    CheckpointError
        When it is missing, truncated, damaged, not ours or from a newer version.
    """
    from safetensors import SafetensorError, safe_open

    fix = "Delete it to start again from what is left, or restore it from a copy"
    if not path.is_file():
        raise CheckpointError("there is no checkpoint", str(path), "Train first, or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint is truncated or damaged: {error}", str(path), fix) from error
    if _KEY not in metadata:
        raise CheckpointError("not a checkpoint of featstore: it has no state", str(path))
    try:
        header = json.loads(metadata[_KEY])
        version, checksum, state = header["format"], header["checksum"], header["state"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError("the checkpoint is damaged: its header cannot be read", str(path), fix) from error
    if version != FORMAT or not isinstance(state, dict):
        raise CheckpointError(
            f"checkpoint of format {version!r}; this version reads {FORMAT}", str(path), "Update featstore"
        )
    if checksum != _checksum(tensors):
        raise CheckpointError("the checkpoint is damaged: its checksum does not fit", str(path), fix)
    return tensors, state


def load_module(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], prefix: str, where: str) -> None:
    """Load the tensors below ``prefix`` into a module, all of them and nothing else.

    Raises
    ------
    CheckpointError
        When names or shapes differ: the checkpoint is of another model.
    """
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    fix = "The checkpoint is of another model: build the one it is of"
    placed = place_tensors(found, module.state_dict(), "this model", where, fix, optional=lambda name: False)
    module.load_state_dict(placed)
