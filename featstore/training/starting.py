"""Weights to start from: another run's checkpoint, as far as its tensors fit."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from featstore.errors import CheckpointError
from featstore.training.checkpoints import load_checkpoint
from featstore.training.folders import RunFolder

__all__ = ["checkpoint_of", "file_digest", "load_start"]

logger = logging.getLogger(__name__)


def checkpoint_of(place: str) -> Path:
    """Path of the checkpoint that a run's folder, or a checkpoint file itself, stands for."""
    path = Path(place)
    return RunFolder(path).best if path.is_dir() else path


def file_digest(path: Path) -> str:
    """Digest of a checkpoint's bytes.

    Raises
    ------
    CheckpointError
        When there is none.
    """
    if not path.is_file():
        raise CheckpointError("there is no checkpoint to start from", str(path), "Check start.run")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def load_start(module: torch.nn.Module, place: str, run: Mapping[str, Any]) -> set[str]:
    """Load all tensors of a checkpoint that the module has under the same name and shape.

    Parameters
    ----------
    module : torch.nn.Module
        The model itself.
    place : str
        A run's folder or a checkpoint file.
    run : mapping
        Description of the run that starts, to warn when the features differ.

    Returns
    -------
    set of str
        Names of the parameters that were loaded: the trunk. The others (the head) keep their fresh weights.

    Raises
    ------
    CheckpointError
        No checkpoint there, or it fits less than half of the model's parameters.
    """
    path = checkpoint_of(place)
    tensors, state = load_checkpoint(path)
    found = {name.removeprefix("model.model."): tensor for name, tensor in tensors.items()}
    wanted = module.state_dict()
    fitting = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    parameters = dict(module.named_parameters())
    trunk = {name for name in fitting if name in parameters}
    if 2 * len(trunk) < len(parameters):  # a bias or two fit anything
        raise CheckpointError(
            f"{len(trunk)} of {len(parameters)} parameters of a {run['model']} fit this {state.get('model')}",
            str(path),
            "Start from a run of the same model and settings",
        )
    if state.get("feature") != run["feature"]:
        logger.warning("%s was trained on %s, this run is on %s", path, state.get("feature"), run["feature"])
    module.load_state_dict(fitting, strict=False)
    fresh = [name for name in parameters if name not in trunk]
    logger.info("%d parameters from %s; fresh: %s", len(trunk), path, ", ".join(fresh) or "none")
    return trunk
