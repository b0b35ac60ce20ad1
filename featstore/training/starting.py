"""Weights to start from: another run's checkpoint, whose trunk must fit and whose head need not; or published ones."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from featstore.errors import CheckpointError
from featstore.models.checkpoint_file import is_run, load_checkpoint, scored_prefix
from featstore.models.interface import Model
from featstore.models.tensor_files import sha256_of
from featstore.registry import load_attribute
from featstore.training.folders import RunFolder

__all__ = [
    "checkpoint_of",
    "file_digest",
    "layer_scales",
    "load_published",
    "load_start",
    "start_tensors",
]

logger = logging.getLogger(__name__)


def checkpoint_of(place: str) -> Path:
    """Path of the weights to start from: the checkpoint of a run's folder, or what was named itself.

    A folder with that checkpoint alone, such as a copy, is the folder of a run, too; others are published weights.
    """
    path = Path(place)
    best = RunFolder(path).best
    return best if path.is_dir() and (is_run(path) or best.is_file()) else path


def file_digest(path: Path, setting: str = "start.run") -> str:
    """Digest of a checkpoint's bytes, of a folder's files of tensors; the setting names it in a message.

    Raises
    ------
    CheckpointError
        When there is none.
    """
    files = sorted(each for each in path.iterdir() if each.suffix in _TENSORS) if path.is_dir() else [path]
    if not files or not path.exists():
        raise CheckpointError("there is no checkpoint to start from", str(path), f"Check {setting}")
    digests = [bytes.fromhex(sha256_of(each)) for each in files]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()
    return whole.hex()[:16]


_TENSORS = (".safetensors", ".bin")


def load_start(module: Model, tensors: Mapping[str, torch.Tensor], *, strict: bool, where: str) -> set[str]:
    """Take over the tensors of a checkpoint that the module has under the same name and shape.

    Parameters
    ----------
    module : Model
    tensors : mapping
        Of the checkpoint.
    strict : bool
        Every tensor of the trunk must fit; else half of the parameters must.
    where : str
        For messages.

    Returns
    -------
    set of str
        Names of the parameters that were loaded: the trunk. The others (the head) keep their fresh weights.

    Raises
    ------
    CheckpointError
        What must fit does not.
    """
    found = {name.removeprefix("model.model."): tensor for name, tensor in tensors.items()}
    wanted, head = module.state_dict(), f"{module.head}."
    fitting = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    parameters = dict(module.named_parameters())
    trunk = {name for name in fitting if name in parameters}
    odd = [name for name in wanted if name not in fitting and not name.startswith(head)]
    if strict and odd:
        shown = "; ".join(_difference(name, wanted[name], found.get(name)) for name in odd[:2])
        more = f" and {len(odd) - 2} more" if len(odd) > 2 else ""
        raise CheckpointError(
            f"the trunk does not fit: {shown}{more}",
            where,
            "Start from a run of the same model and settings, or take over what fits: start.strict=false",
        )
    own = {name for name in parameters if not name.startswith(head)}
    if 2 * len(trunk & own) < len(own):  # a bias or two fit anything
        raise CheckpointError(
            f"{len(trunk & own)} of {len(own)} parameters of the trunk fit this model",
            where,
            "Start from a run of the same model and settings",
        )
    module.load_state_dict(fitting, strict=False)
    fresh = [name for name in parameters if name not in trunk]
    logger.info("%d parameters from %s; fresh: %s", len(trunk), where, ", ".join(fresh) or "none")
    return trunk


def load_published(module: Model, weights: Mapping[str, str]) -> set[str]:
    """Fill parts of a model from local files.

    Parameters
    ----------
    module : Model
    weights : mapping of str to path
        By part; the folder of a run gives its part of that name.

    Returns
    -------
    set of str
        Names of the parameters that were loaded.

    Raises
    ------
    CheckpointError
        A file does not fit the model.
    """
    loaded: set[str] = set()
    parameters = {name for name, _ in module.named_parameters()}
    for part, path in weights.items():
        wanted = module.get_submodule(part).state_dict()
        found = _part_of_run(path, part) if is_run(path) else load_attribute(module.published[part])(path, module)
        for name, tensor in found.items():
            if name not in wanted or wanted[name].shape != tensor.shape:
                here = tuple(wanted[name].shape) if name in wanted else "missing"
                what = f"{part}.{name} has shape {tuple(tensor.shape)} in the file and is {here} in the model"
                raise CheckpointError(what, path, "Take the settings of the published network, such as model.width=1")
        module.get_submodule(part).load_state_dict(found, strict=False)
        names = {f"{part}.{name}" for name in found} & parameters
        fresh = sorted(name for name in wanted if name not in found and f"{part}.{name}" in parameters)
        logger.info("%d parameters of %s from %s; fresh: %s", len(names), part, path, ", ".join(fresh) or "none")
        loaded |= names
    return loaded


def _part_of_run(place: str, part: str) -> dict[str, torch.Tensor]:
    """Tensors that a run has trained for a part of the same name."""
    prefix = f"model.model.{part}."
    tensors, _ = load_checkpoint(checkpoint_of(place))
    found = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
    if not found:
        raise CheckpointError(f"the model of this run has no part {part!r}", place, "Name a run of the same model")
    return found


def _difference(name: str, wanted: torch.Tensor, found: torch.Tensor | None) -> str:
    if found is None:
        return f"the checkpoint lacks {name}"
    return f"{name} is {tuple(found.shape)}, not {tuple(wanted.shape)}"


def start_tensors(place: str, features: str) -> dict[str, torch.Tensor]:
    """Tensors of a run to start from; a warning where it saw other features."""
    path = checkpoint_of(place)
    tensors, state = load_checkpoint(path)
    if state.get("feature") != features:
        logger.warning("%s was trained on %s, this run is on %s", path, state.get("feature"), features)
    prefix = scored_prefix(tensors)  # of the last state of a run with an average of its weights, that is what counts
    return {f"model.{name.removeprefix(prefix)}": each for name, each in tensors.items() if name.startswith(prefix)}


def layer_scales(module: Model, decay: float) -> dict[str, float]:
    """Multiple of the rate of each parameter of the trunk: ``decay`` for the block next to the head, and so on down.

    Blocks are the model's direct parts in their order; lists and sequences count by their members. Parameters of the
    model itself, such as the vector of an additional position, belong to the first block; one that several parts share
    counts where it comes first.
    """
    blocks: list[str] = []
    for name, part in module.named_children():
        if name == module.head:
            continue
        members = [f"{name}.{k}" for k in range(len(part))] if isinstance(part, nn.ModuleList | nn.Sequential) else []
        blocks += [place for place in members or [name] if any(True for _ in module.get_submodule(place).parameters())]
    scales = {}
    for name, _ in module.named_parameters():
        depth = next((k for k, place in enumerate(reversed(blocks)) if name.startswith(f"{place}.")), None)
        if depth is None and "." not in name:
            depth = len(blocks) - 1
        if depth is not None:
            scales[name] = decay ** (depth + 1)
    return scales
