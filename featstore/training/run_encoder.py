"""Models trained or pretrained here as encoders: the trunk of a run, with the norm and the feature of its input.

A run is its folder, or a checkpoint file that says all about itself. The encoder is called like the architecture. Its
digest is over the weights but for the head, the norm of the input, the settings, and the feature that was the input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from featstore.errors import CheckpointError, ConfigError
from featstore.models import MODELS, create
from featstore.models.checkpoint_file import load_checkpoint, load_module, norm_of, scored_prefix
from featstore.models.input_kinds import INPUT_KINDS, SEVERAL, InputSize, read_input
from featstore.models.interface import Model
from featstore.models.layers import InputNorm
from featstore.models.model_encoder import ModelEncoder, deciding, describe_model
from featstore.models.tensor_files import digest_of_tensors
from featstore.specs import FeatureSpec, parse_feature
from featstore.training.folders import RunFolder, checked_run
from featstore.training.seen_data import trained_on

__all__ = ["open_run"]

_NAME_RUN = "Name a run of one feature, or its checkpoint"
_SAID = ("model", "feature", "model_settings", "input", "classes")  # what a checkpoint must say of itself


def open_run(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> ModelEncoder:
    """Open a run's folder, or a checkpoint of ours, as an encoder.

    Raises
    ------
    CheckpointError
        There is no checkpoint, it is damaged, or does not say what it is of.
    ConfigError
        The run has several inputs, or one that is no window of a feature.
    """
    place = Path(path).expanduser()
    tensors, state, file = _checkpoint(place)
    model, size = _model(state, str(path))
    load_module(model, tensors, f"{scored_prefix(tensors)}model.", str(file))
    taken = _feature(state, str(path))
    norm = norm_of(tensors)
    tensors = deciding(model)
    tensors |= {} if norm is None else {f"norm.{name}": tensor for name, tensor in norm.state_dict().items()}
    settings = json.dumps(state["model_settings"], sort_keys=True)
    info = describe_model(
        model,
        window=size.axes[-1],
        model=state["model"],
        digest=digest_of_tensors(tensors, {"model": state["model"], "settings": settings, "takes": taken}),
        takes=str(taken),
        sample_rate=taken.sample_rate,
        licence="own" if place.is_dir() else "unknown",
        source=f"run {state['run_id']}" if "run_id" in state else file.name,
        trained_on=trained_on(place),
    )
    return ModelEncoder(model, info, device, cast("InputNorm | None", norm))  # of its only input


def _checkpoint(place: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], Path]:
    """Tensors and description of the weights that a run is scored with, and their file."""
    file = place
    if place.is_dir():
        folder = RunFolder(place)
        file = folder.kept if folder.kept.is_file() else folder.last
    tensors, state = load_checkpoint(file)
    lacking = [key for key in _SAID if key not in state]
    if lacking:
        raise CheckpointError(f"the checkpoint does not say its {', '.join(lacking)}", str(file), _NAME_RUN)
    return tensors, checked_run(state, str(file)), file


def _model(state: Mapping[str, Any], where: str) -> tuple[Model, InputSize]:
    kind, inputs = MODELS.load(state["model"]), read_input(state["input"], where)[0]
    if len(inputs) != 1 or kind.takes == SEVERAL:
        raise ConfigError(f"the run has {len(inputs)} inputs: {', '.join(inputs)}", where, _NAME_RUN)
    (size,) = inputs.values()
    if size.kind != kind.takes or kind.fitter:
        raise ConfigError(f"the run takes {INPUT_KINDS[size.kind].title}, which are no windows", where, _NAME_RUN)
    settings = state["model_settings"]
    return create(state["model"], n_classes=max(1, len(state["classes"])), **size.sizes, **settings), size


def _feature(state: Mapping[str, Any], where: str) -> FeatureSpec:
    """The run's input feature, of whole tracks: how audio is cut says the embedding."""
    if " + " in state["feature"]:
        raise ConfigError(f"the run has several features: {state['feature']}", where, _NAME_RUN)
    spec = parse_feature(state["feature"]).spec
    return spec.replace(clip="whole")
