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
    "restore_generators",
    "restore_optimizer",
    "restore_streams",
    "stream_tensors",
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


def stream_tensors(prefix: str) -> Tensors:
    """Place of this process in torch's streams (CPU, and CUDA where there is one) as named tensors."""
    cuda = {f"{prefix}cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {f"{prefix}torch": torch.get_rng_state(), **cuda}


def restore_streams(tensors: Mapping[str, torch.Tensor], prefix: str) -> bool:
    """Undo ``stream_tensors``; False where there are none."""
    if f"{prefix}torch" not in tensors:
        return False
    torch.set_rng_state(tensors[f"{prefix}torch"])
    if torch.cuda.is_available() and f"{prefix}cuda" in tensors:
        torch.cuda.set_rng_state(tensors[f"{prefix}cuda"])
    return True


def generator_state(prefix: str) -> tuple[Tensors, State]:
    """Place in the streams of the global generators of torch (CPU and CUDA), numpy and Python."""
    name, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, words, gauss_next = random.getstate()
    tensors = {
        **stream_tensors(prefix),
        f"{prefix}numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        f"{prefix}python": torch.tensor(words, dtype=torch.int64),
    }
    return tensors, {"numpy": [name, place, has_gauss, gauss], "python": [version, gauss_next]}


def restore_generators(tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], prefix: str) -> None:
    """Undo ``generator_state``."""
    restore_streams(tensors, prefix)
    name, place, has_gauss, gauss = state["numpy"]
    keys = tensors[f"{prefix}numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, place, has_gauss, gauss))  # noqa: NPY002
    version, gauss_next = state["python"]
    random.setstate((version, tuple(tensors[f"{prefix}python"].tolist()), gauss_next))
