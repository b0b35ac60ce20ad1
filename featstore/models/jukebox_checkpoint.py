"""Checkpoints of Jukebox's VQ-VAE in every container, read strictly and without running anything that they hold.

Containers: the original ``vqvae.pth.tar`` (a torch pickle, in the new zip form or the old one), with or without a
``module.`` prefix; transformers' folder (safetensors or .bin, in one file or sharded), of the VQ-VAE alone or of the
whole model, where its names begin with ``vqvae.``; and single .safetensors files with the original names.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from featstore.atomic import atomic_path
from featstore.errors import CheckpointError, FeatstoreError
from featstore.models.jukebox_vqvae import DOWNS, JukeboxLevel, LevelConfig
from featstore.models.tensor_files import TensorFile, digest_of_tensors, open_tensors, save_tensors
from featstore.models.trained_on import TrainedOn

__all__ = ["LoadedLevel", "export_levels", "load_level"]

_HF_CONV = re.compile(r"((?:encoders|decoders)\.\d+\.level_blocks\.\d+)\.(downsample|upsample)_block\.(\d+)\.(.+)")
_HF_RESIDUAL = re.compile(r"resnet_block\.(\d+)\.conv1d_([12])\.(weight|bias)")
_CODEBOOK = re.compile(r"bottleneck\.level_blocks\.(\d+)\.k")
_FORMAT_KEY = "featstore_tokenizer"


class LoadedLevel:
    """One level out of a checkpoint.

    Attributes
    ----------
    model : JukeboxLevel
    digest : str
        Of the tensors that decide the tokens: encoder and codebook.
    provenance : dict
        ``file``, ``format``, ``sha256``, ``dilation_growth`` and where that was found.
    trained_on : TrainedOn or None
        What it has seen; None where the checkpoint does not say.
    """

    def __init__(
        self, model: JukeboxLevel, digest: str, provenance: dict[str, Any], trained_on: TrainedOn | None = None
    ) -> None:
        self.model, self.digest, self.provenance, self.trained_on = model, digest, provenance, trained_on


def load_level(path: str | Path, level: int, *, with_decoder: bool = True) -> LoadedLevel:
    """Read one level of a checkpoint; the others are not read at all.

    Every tensor that the level needs must be there with the right shape, and none besides below its prefixes.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged, foreign or would run code; when the level is not in it; when a tensor is
        missing, superfluous, of the wrong shape or type, or holds a value that is not finite.
    """
    with open_tensors(Path(path)) as file:
        names, form = _original_names(file)
        _check_level(file, names, level, form)
        growth, source = _growth(file)
        trained_on = TrainedOn.read(file.config.get("trained_on"))
        prefixes = [f"encoders.{level}.", f"bottleneck.level_blocks.{level}."]
        prefixes += [f"decoders.{level}."] if with_decoder else []
        wanted = {name: stored for name, stored in names.items() if name.startswith(tuple(prefixes))}
        config = _infer(level, {name: file.shape(stored) for name, stored in wanted.items()}, growth, file, form)
        model = JukeboxLevel(config, with_decoder=with_decoder)
        expected = {name: tuple(tensor.shape) for name, tensor in model.original_names().items()}
        _compare(expected, wanted, file, form)
        tensors = {name: file.finite(stored) for name, stored in wanted.items()}
        provenance: dict[str, Any] = {"file": file.name, "format": form, "sha256": file.sha256()}
    own = zip(model.state_dict(), model.original_names(), strict=True)
    model.load_state_dict({name: tensors[original] for name, original in own})
    deciding = {name: tensor for name, tensor in tensors.items() if not name.startswith("decoders.")}
    notes: dict[str, Any] = {} if growth == 3 else {"dilation_growth": growth}
    provenance |= {"dilation_growth": growth, "dilation_growth_from": source}
    return LoadedLevel(model.eval(), digest_of_tensors(deciding, notes), provenance, trained_on)


def export_levels(
    models: Iterable[JukeboxLevel], target: str | Path, *, extra: Mapping[str, Any] | None = None
) -> None:
    """Write levels with the original names: as ``.safetensors``, else in the original's own container.

    Parameters
    ----------
    models : iterable of JukeboxLevel
        Each of another level, with its decoder.
    target : path
        Appears whole or not at all.
    extra : mapping
        Plain values to keep among ``hps``; ``trained_on`` is what :class:`TrainedOn` writes.
    """
    models = list(models)
    tensors: dict[str, torch.Tensor] = {}
    for model in models:
        if model.decoder is None:
            raise CheckpointError("a level without its decoder is no whole tokenizer", str(target), "Load it whole")
        tensors |= {name: tensor.detach().cpu().contiguous() for name, tensor in model.original_names().items()}
    hps = _hps(models) | dict(extra or {})
    if str(target).endswith(".safetensors"):
        save_tensors(target, tensors, {_FORMAT_KEY: json.dumps({"hps": hps}, sort_keys=True)})
        return
    with atomic_path(target) as part, open(part, "wb") as file:
        try:
            torch.save({"hps": hps, "model": tensors, "opt": None, "step": int(hps.get("step", 0))}, file)
        except RuntimeError as error:  # torch closes its archive after the system's refusal, and fails at that
            raise error.__context__ if isinstance(error.__context__, OSError) else error  # noqa: B904


def _hps(models: list[JukeboxLevel]) -> dict[str, Any]:
    """Settings by the original's names, for other programs."""
    config = models[0].config
    longest = max((model.config.downs for model in models), key=lambda downs: len(downs))
    return {
        "levels": max(model.config.level for model in models) + 1,
        "downs_t": list(longest),
        "strides_t": [2] * len(longest),
        "emb_width": config.embedding,
        "l_bins": config.codes,
        "width": config.width,
        "depth": config.depth,
        "m_conv": 1.0,
        "dilation_growth_rate": config.growth,
        "sr": config.sample_rate,
    }


def _original_names(file: TensorFile) -> tuple[dict[str, str], str]:
    """Original name to stored name of everything that looks like part of a VQ-VAE, and the form that was recognised."""
    names: dict[str, str] = {}
    form = "original names"
    counts = _projections(file.names)
    for stored in file.names:
        plain = stored
        for prefix in ("module.", "vqvae."):
            plain = plain.removeprefix(prefix)
        if not plain.startswith(("encoders.", "decoders.", "bottleneck.")):
            continue
        translated = _from_transformers(plain, counts)
        if translated != plain and not plain.endswith(".k"):
            form = "transformers names"
        if translated in names:
            raise CheckpointError(
                f"{stored} and {names[translated]} are the same tensor", file.name, "Export the model again"
            )
        names[translated] = stored
    if not names:
        shown = ", ".join(file.names[:3]) or "no tensor at all"
        raise CheckpointError(
            f"this is no Jukebox VQ-VAE: it holds {shown}",
            file.name,
            "Give vqvae.pth.tar, a folder of transformers' JukeboxVQVAE or JukeboxModel, or one of featstore tokenizer",
        )
    return names, form


def _projections(stored: Iterable[str]) -> Counter[str]:
    """Stages of each encoder block in transformers' naming: its projection has the next index in the original's."""
    counts: Counter[str] = Counter()
    for name in stored:
        found = _HF_CONV.search(name)
        if found and found[2] == "downsample":
            counts[found[1]] = max(counts[found[1]], int(found[3]) // 2 + 1)
    return counts


def _from_transformers(name: str, stages: Mapping[str, int]) -> str:
    """Original name of a tensor in transformers' naming; any other name as it is."""
    if name.startswith("bottleneck.") and name.endswith(".codebook"):
        return name.removesuffix("codebook") + "k"
    block, _, rest = name.rpartition(".proj_out.")
    if block:
        return f"{block}.model.{stages.get(block, 0)}.{rest}"
    block, _, rest = name.rpartition(".proj_in.")
    if block:
        return f"{block}.model.0.{rest}"
    found = _HF_CONV.fullmatch(name)
    if found is None:
        return name
    block, up, index, rest = found[1], found[2] == "upsample", int(found[3]), found[4]
    stage, odd = divmod(index, 2)
    residual = _HF_RESIDUAL.fullmatch(rest)
    # the strided convolution comes first going down, last going up
    if residual and bool(odd) != up:
        inner = f"model.{residual[1]}.model.{1 if residual[2] == '1' else 3}.{residual[3]}"
        return f"{block}.model.{stage + up}.{0 if up else 1}.{inner}"
    if not residual and bool(odd) == up:
        return f"{block}.model.{stage + up}.{1 if up else 0}.{rest}"
    return name


def _check_level(file: TensorFile, names: Mapping[str, str], level: int, form: str) -> None:
    if any(name.startswith((f"encoders.{level}.", f"bottleneck.level_blocks.{level}.")) for name in names):
        return
    held = ", ".join(sorted(found[1] for name in names if (found := _CODEBOOK.fullmatch(name)))) or "none"
    raise CheckpointError(
        f"level {level} is not in the checkpoint ({form}); it holds: {held}",
        file.name,
        "In the published model level 0 has hop 8, level 1 hop 32, level 2 hop 128",
    )


def _growth(file: TensorFile) -> tuple[int, str]:
    """Dilation growth: shapes do not show it."""
    growth = _setting(file, "dilation_growth_rate", "res_dilation_growth_rate")
    return (3, "assumed: the checkpoint does not say") if growth is None else (growth, "the checkpoint's settings")


def _setting(file: TensorFile, *names: str) -> int | None:
    """Positive whole number that the settings have under one of these names, however it is written; None without one.

    Raises
    ------
    CheckpointError
        For anything else: a setting that is passed over would change tokens silently.
    """
    inner = file.config.get("vqvae_config")
    for holder in (file.config, inner if isinstance(inner, Mapping) else {}):
        for name in names:
            value = holder.get(name)
            if value is None:
                continue
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = 0.0
            if isinstance(value, bool) or number < 1 or not number.is_integer():
                raise CheckpointError(f"{name}={value!r} is not a positive whole number", file.name, "Check its config")
            return int(number)
    return None


def _infer(level: int, shapes: Mapping[str, tuple[int, ...]], growth: int, file: TensorFile, form: str) -> LevelConfig:
    """Sizes of a level from its tensors; what most of them say holds, so that one wrong tensor can be named."""
    head = f"encoders.{level}.level_blocks"
    conv = re.compile(rf"{re.escape(head)}\.(\d+)\.model\.(\d+)\.1\.model\.(\d+)\.model\.1\.weight")
    found = [(match, shape) for name, shape in shapes.items() if (match := conv.fullmatch(name))]
    codebook = shapes.get(f"bottleneck.level_blocks.{level}.k")
    if not found or codebook is None or len(codebook) != 2:
        lacking = f"{head}.0.model.0.1.model.0.model.1.weight" if not found else f"bottleneck.level_blocks.{level}.k"
        if codebook is not None and found:
            raise _wrong_shape(lacking, "(codes, width)", codebook, file, form)
        raise CheckpointError(
            f"{lacking} is missing (guessed: {form})", file.name, "Fetch the checkpoint again, or export it whole"
        )
    stages = Counter[int]()
    for match, _ in found:
        stages[int(match[1])] = max(stages[int(match[1])], int(match[2]) + 1)
    blocks, depth = max(level, *stages) + 1, max(int(match[3]) for match, _ in found) + 1
    cycle = _setting(file, "dilation_cycle", "res_dilation_cycle")
    if cycle is not None and cycle < depth:
        raise CheckpointError(
            f"dilation_cycle={cycle}: dilations that start again after {cycle} of {depth} units are not supported",
            file.name,
            "Give a checkpoint without it, such as the published one",
        )
    return LevelConfig(
        level=level,
        width=Counter(shape[0] for _, shape in found).most_common(1)[0][0],
        depth=depth,
        embedding=codebook[1],
        codes=codebook[0],
        downs=tuple(stages[b] or (DOWNS[b] if b < len(DOWNS) else 2) for b in range(blocks)),
        growth=growth,
        sample_rate=_setting(file, "sr", "sampling_rate") or 44100,
    )


def _stored_name(name: str, wanted: Mapping[str, str]) -> str:
    """Name of a missing tensor as the file would have it, by the weight or bias beside it; else its original name."""
    module, _, kind = name.rpartition(".")
    beside = wanted.get(f"{module}.{'bias' if kind == 'weight' else 'weight'}")
    return name if beside is None else f"{beside.rpartition('.')[0]}.{kind}"


def _compare(expected: Mapping[str, tuple[int, ...]], wanted: Mapping[str, str], file: TensorFile, form: str) -> None:
    """Every needed tensor with its shape, and none besides."""
    for name, shape in expected.items():
        if name not in wanted:
            raise CheckpointError(
                f"{_stored_name(name, wanted)} of shape {shape} is missing (guessed: {form})",
                file.name,
                "Fetch the checkpoint again, or export it whole",
            )
        if file.shape(wanted[name]) != shape:
            raise _wrong_shape(wanted[name], str(shape), file.shape(wanted[name]), file, form)
    for name, stored in wanted.items():
        if name not in expected:
            raise CheckpointError(
                f"{stored} of shape {file.shape(stored)} belongs to no layer (guessed: {form})",
                file.name,
                "This is another model, or another version of it",
            )


def _wrong_shape(name: str, expected: str, found: tuple[int, ...], file: TensorFile, form: str) -> FeatstoreError:
    return CheckpointError(
        f"{name} has shape {found}, not {expected} (guessed: {form})", file.name, "This is another model, or damaged"
    )
