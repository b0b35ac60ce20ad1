"""What a stopped run goes on from, as named tensors and plain values: optimizer and generators.

They are kept in the run's checkpoint file; ``state.json`` beside it is a copy for people.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from featstore.models.checkpoint_file import State, Tensors

__all__ = [
    "generator_state",
    "optimizer_state",
    "rank_streams",
    "rank_tensors",
    "restore_generators",
    "restore_optimizer",
    "restore_rank",
]


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
