"""Trained taggers by name: a run's folder, a checkpoint file, or a published model whose weights the user has."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import CheckpointError, ConfigError, did_you_mean
from featstore.specs import Encoding, FeatureRequest, parse_feature

if TYPE_CHECKING:
    from featstore.training.normed_model import NormedModel

__all__ = ["Tagger", "convert_published", "open_tagger"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tagger:
    """A trained model, and all that is needed to feed it.

    Attributes
    ----------
    name : str
        As reports show it: the run's folder, or the published name.
    module : NormedModel
        Takes features ``(batch, *axes, frames)``, returns logits ``(batch, classes)``; in eval mode.
    requests : tuple of FeatureRequest
        The features it was trained on, and their encodings: mostly one.
    n_frames, stride : int
        Frames of one input, and between inputs; of the first feature.
    classes : tuple of str
    task : "multi_label" or "single_label"
    any_length : bool
        Whether other numbers of frames than ``n_frames`` work.
    pool, weigh : str
        From windows to a track, as ``evaluate.pool`` and ``evaluate.weigh``.
    tail : "align" or "drop"
        What becomes of frames behind the last whole window.
    """

    name: str
    module: NormedModel
    requests: tuple[FeatureRequest, ...]
    n_frames: int
    stride: int
    classes: tuple[str, ...]
    task: str
    any_length: bool
    pool: str = "mean_probability"
    weigh: str = "windows"
    tail: str = "align"

    @property
    def request(self) -> FeatureRequest:
        """The first feature."""
        return self.requests[0]

    @property
    def feature(self) -> str:
        """Canonical names of the features, with their encodings."""
        return " + ".join(f"{one.spec}@{one.encoding or Encoding()}" for one in self.requests)

    @property
    def frame_s(self) -> float:
        """Seconds between frames of the first feature."""
        return self.request.spec.frame_step / self.request.spec.sample_rate

    @property
    def excerpt_step_s(self) -> float | None:
        """Seconds between the excerpts that the features consist of; None for features of whole tracks."""
        clip = self.request.spec.clip
        return clip.step_s if clip.policy == "every" else None


def open_tagger(model: str, weights: str | os.PathLike[str] | None = None) -> Tagger:
    """Find and load a trained model.

    Parameters
    ----------
    model : str
        A run's folder, a checkpoint file (``.safetensors``), or a published name such as ``mtt-musicnn``.
    weights : path, optional
        Folder or wheel of the package ``musicnn``, for a published name; the installed package by default.

    Raises
    ------
    ConfigError
        There is no such model.
    CheckpointError
        Its weights are missing, damaged, or of another network.
    """
    from featstore.models.musicnn_published import published_name

    path = Path(model).expanduser()
    published = published_name(model)
    if weights is not None and published is None:
        raise ConfigError(f"--weights goes with a published model, not with {model!r}", "tag", "Leave it out")
    if (path / "run.json").is_file():
        return _of_run(path)
    if path.is_file():
        return _of_file(path)
    if published is not None:
        return _published(published, weights)
    raise _unknown(model, path)


def _unknown(model: str, path: Path) -> ConfigError:
    from featstore.models import MODELS
    from featstore.models.musicnn_published import PUBLISHED

    if model in MODELS:
        return ConfigError(
            f"{model!r} is an architecture: it has no weights of its own",
            "tag",
            f"Train it and name the run's folder, or take one of {', '.join(PUBLISHED)}",
        )
    if path.is_dir():
        return ConfigError("there is no run in this folder", str(path), "Name a folder that featstore train has made")
    fix = f"{did_you_mean(model, PUBLISHED)}; or a run's folder, or a checkpoint file"
    return ConfigError(f"no model {model!r}", "tag", fix)


def _of_run(path: Path) -> Tagger:
    from featstore.training.config import EvaluateConfig
    from featstore.training.folders import RunFolder
    from featstore.training.settings import from_mapping

    folder = RunFolder(path)
    run = folder.read_run()
    assert run is not None
    evaluation = folder.settings("evaluate")
    own: dict[str, Any] = {key: evaluation[key] for key in ("pool", "weigh") if key in evaluation}
    from_mapping(EvaluateConfig, own, "evaluate")  # refuses what is none of its values
    covered = folder.settings("data").get("clip_policy", "cover") == "cover"
    return _make(str(path), run, folder.kept, tail="align" if covered else "drop", **own)


def _of_file(path: Path) -> Tagger:
    from featstore.models.checkpoint_file import load_checkpoint
    from featstore.training.folders import checked_run

    _, state = load_checkpoint(path)
    state = checked_run(state, str(path))
    return _make(state.get("name", str(path)), state, path, **state.get("tagging", {}))


def _make(name: str, run: Mapping[str, Any], path: Path, **options: str) -> Tagger:
    from featstore.training.work import model_of_checkpoint

    missing = [key for key in ("model", "feature", "input", "classes", "task") if key not in run]
    if missing:
        raise CheckpointError(f"the checkpoint does not say its {', '.join(missing)}", str(path), "Name a run's folder")
    return _tagger(name, model_of_checkpoint(run, path), run, **options)


def _tagger(name: str, module: NormedModel, run: Mapping[str, Any], **options: str) -> Tagger:
    from featstore.training.input_shape import InputShape

    if run["task"] == "none":
        raise ConfigError("the run was pretrained: it has no classes", name, "Fine-tune it: train --set start.run=RUN")
    shape = InputShape.from_mapping(run["input"])
    return Tagger(
        name=name,
        module=module.eval(),
        requests=tuple(map(parse_feature, run["feature"].split(" + "))),
        n_frames=shape.n_frames,
        stride=shape.stride,
        classes=tuple(run["classes"]),
        task=run["task"],
        any_length=module.model.any_length,
        **options,
    )


def _description(name: str) -> dict[str, Any]:
    """What the header of a run's checkpoint says, for a published model."""
    from featstore.models.musicnn_published import PUBLISHED
    from featstore.models.musicnn_weights import FEATURE, N_FRAMES, N_MELS

    request = parse_feature(f"{FEATURE}@float32")
    return {
        "run_id": name,
        "name": name,
        "model": name,
        "model_settings": {},
        "feature": f"{request.spec}@{request.encoding}",
        "input": {"n_mels": N_MELS, "n_frames": N_FRAMES, "stride": N_FRAMES},
        "classes": list(PUBLISHED[name].tags),
        "task": "multi_label",
        "tagging": {"tail": "drop"},  # as the package does
    }


def _published(name: str, weights: str | os.PathLike[str] | None) -> Tagger:
    from featstore.models.musicnn_weights import load_published
    from featstore.training.work import build_model

    run = _description(name)
    module = build_model(run, None)
    module.model.load_state_dict(load_published(name, weights))
    return _tagger(name, module, run, **run["tagging"])


def convert_published(
    name: str, out: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Convert a published model's weights to a checkpoint of ours: one safetensors file that says all about itself.

    ``featstore tag FILE`` takes it, and ``train --set start.run=FILE`` starts from it.

    Parameters
    ----------
    name : str
        A published name.
    out : path
        The file, ending in ``.safetensors``.
    weights : path, optional
        Folder or wheel of the package ``musicnn``; the installed package by default.

    Returns
    -------
    dict
        ``model``, ``out``, ``tensors``, ``values``, ``bytes``.

    Raises
    ------
    CheckpointError
        The weights are not there, damaged, or of another network.
    ConfigError
        The file has another ending.
    """
    from featstore.models.checkpoint_file import save_checkpoint
    from featstore.models.musicnn_published import PUBLISHED, published_name
    from featstore.models.musicnn_weights import load_published

    target, known = Path(out), published_name(name)
    if target.suffix != ".safetensors":
        what = f"{target.name!r} does not end in .safetensors"
        raise ConfigError(what, "convert", f"Write {target.stem}.safetensors")
    if known is None:
        raise CheckpointError(f"there are no published weights of {name!r}", "", did_you_mean(name, PUBLISHED))
    state = load_published(known, weights)
    save_checkpoint(target, {f"model.model.{key}": tensor for key, tensor in state.items()}, _description(known))
    values = sum(tensor.numel() for key, tensor in state.items() if not key.endswith("num_batches_tracked"))
    logger.info("%s: %d values of %s", target, values, known)
    return {
        "model": known,
        "out": str(target),
        "tensors": len(state),
        "values": values,
        "bytes": target.stat().st_size,
    }
