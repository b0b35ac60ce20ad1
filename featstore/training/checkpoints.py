"""Checkpoints: one safetensors file holds weights, optimizer and generators, and in its header the rest as JSON.

The header is part of the same file, so tensors and state cannot part; ``state.json`` beside them is a copy for people.
Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featstore.errors import CheckpointError
from featstore.models.tensor_files import save_tensors

__all__ = [
    "FORMAT",
    "generator_state",
    "load_checkpoint",
    "load_module",
    "optimizer_state",
    "rank_streams",
    "rank_tensors",
    "restore_generators",
    "restore_optimizer",
    "restore_rank",
    "save_checkpoint",
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
    wanted = module.state_dict()
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    problems = [f"lacks {name}" for name in wanted if name not in found]
    problems += [f"has {name} besides" for name in found if name not in wanted]
    problems += [
        f"{name} is {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 2} more" if len(problems) > 2 else ""
        raise CheckpointError(
            f"the checkpoint is of another model: {'; '.join(problems[:2])}{more}", where, "Build the model it is of"
        )
    module.load_state_dict(found)


def optimizer_state(optimizer: torch.optim.Optimizer, prefix: str) -> tuple[Tensors, State]:
    """State of an optimizer as named tensors and plain values."""
    whole = optimizer.state_dict()
    tensors: Tensors = {}
    scalars: dict[str, dict[str, Any]] = {}
    for number, values in whole["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{prefix}{number}.{key}"] = value
            else:
                scalars.setdefault(str(number), {})[key] = value
    return tensors, {"groups": whole["param_groups"], "scalars": scalars}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], prefix: str
) -> None:
    """Undo ``optimizer_state``."""
    values: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            number, _, key = name.removeprefix(prefix).partition(".")
            values.setdefault(int(number), {})[key] = tensor
    for number, scalars in state["scalars"].items():
        values.setdefault(int(number), {}).update(scalars)
    optimizer.load_state_dict({"state": values, "param_groups": state["groups"]})


def rank_streams() -> list[bytes]:
    """Place in torch's streams (CPU, and CUDA where there is one) of this process, to be sent to the first one."""
    states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])
    return [state.numpy().tobytes() for state in states]


def rank_tensors(gathered: list[list[bytes]], prefix: str) -> Tensors:
    """Streams of all processes as named tensors; the first one's are in :func:`generator_state`."""
    return {
        f"{prefix}rank{rank}.{kind}": torch.frombuffer(bytearray(state), dtype=torch.uint8)
        for rank, states in enumerate(gathered)
        if rank
        for kind, state in zip(("torch", "cuda"), states, strict=False)
    }


def restore_rank(tensors: Mapping[str, torch.Tensor], prefix: str, rank: int) -> bool:
    """Give this process its own streams again; False where the checkpoint has none for it."""
    state = tensors.get(f"{prefix}rank{rank}.torch")
    if state is None:
        return False
    torch.set_rng_state(state)
    cuda = tensors.get(f"{prefix}rank{rank}.cuda")
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    return True


def generator_state(prefix: str) -> tuple[Tensors, State]:
    """Place in the streams of the global generators of torch (CPU and CUDA), numpy and Python."""
    tensors = {f"{prefix}torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors[f"{prefix}cuda"] = torch.cuda.get_rng_state()
    name, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    tensors[f"{prefix}numpy"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    version, words, gauss_next = random.getstate()
    tensors[f"{prefix}python"] = torch.tensor(words, dtype=torch.int64)
    return tensors, {"numpy": [name, place, has_gauss, gauss], "python": [version, gauss_next]}


def restore_generators(tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], prefix: str) -> None:
    """Undo ``generator_state``."""
    torch.set_rng_state(tensors[f"{prefix}torch"])
    if torch.cuda.is_available() and f"{prefix}cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"{prefix}cuda"])
    name, place, has_gauss, gauss = state["numpy"]
    keys = tensors[f"{prefix}numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, place, has_gauss, gauss))  # noqa: NPY002
    version, gauss_next = state["python"]
    random.setstate((version, tuple(tensors[f"{prefix}python"].tolist()), gauss_next))
