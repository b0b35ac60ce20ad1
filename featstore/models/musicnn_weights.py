"""Trained weights of the packaged MUSICNN and VGG: found where the user has them, converted from TensorFlow's form.

The weights come with the package ``musicnn`` (ISC licence) and are not part of featstore. They are looked for in the
installed package, which is never imported, or in a folder or wheel that the user names.
"""

from __future__ import annotations

import importlib.util
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.errors import CheckpointError, check_known
from featstore.models import create
from featstore.models.musicnn_tags import MSD_TAGS, MTT_TAGS
from featstore.models.tf_checkpoint import read_checkpoint

__all__ = ["PUBLISHED", "Published", "convert_variables", "load_published", "published_name"]

N_MELS, N_FRAMES = 96, 187
FEATURE = "mel(sample_rate=16000,n_mels=96,pad_mode=reflect,scale=log10_1p)"
"""What the package computes from audio: librosa's mel power spectrogram of then, log10(1 + 10000 x)."""


@dataclass(frozen=True, slots=True)
class Published:
    """One published tagger.

    Attributes
    ----------
    name : str
        As in ``MODELS``.
    folder : str
        Of its checkpoint in the package.
    tags : tuple of str
        Names of its outputs.
    in_wheel : bool
        False where only the package's source repository has the weights.
    """

    name: str
    folder: str
    tags: tuple[str, ...]
    in_wheel: bool = True


PUBLISHED: dict[str, Published] = {
    one.name: one
    for one in (
        Published("mtt-musicnn", "MTT_musicnn", MTT_TAGS),
        Published("msd-musicnn", "MSD_musicnn", MSD_TAGS),
        Published("msd-musicnn-big", "MSD_musicnn_big", MSD_TAGS, in_wheel=False),
        Published("mtt-vgg", "MTT_vgg", MTT_TAGS),
        Published("msd-vgg", "MSD_vgg", MSD_TAGS),
    )
}


def published_name(name: str) -> str | None:
    """Our name of a published tagger, None for any other: ``MTT_musicnn`` is ``mtt-musicnn``."""
    plain = name.lower().replace("_", "-")
    return plain if plain in PUBLISHED else None


def load_published(name: str, place: str | os.PathLike[str] | None = None) -> dict[str, torch.Tensor]:
    """State dict of a published tagger, for ``create(name, n_mels=96, n_frames=187, n_classes=50)``.

    Parameters
    ----------
    name : str
        A name of ``PUBLISHED``.
    place : path, optional
        A folder (the package's, or a checkpoint's own), or the package's wheel; the installed package by default.

    Raises
    ------
    CheckpointError
        The weights are not there, damaged, or of another network.
    """
    check_known(name, PUBLISHED, f"there are no published weights of {name!r}", error=CheckpointError)
    published = PUBLISHED[name]
    read, where = _find(published, place)
    variables = read_checkpoint(read, where, wanted=lambda variable: not _is_of_optimizer(variable))
    return convert_variables(name, variables, where)


def convert_variables(name: str, variables: dict[str, NDArray[Any]], where: str = "") -> dict[str, torch.Tensor]:
    """Rename and turn TensorFlow's variables: kernels (frames, bands, in, out) become (out, in, bands, frames).

    Raises
    ------
    CheckpointError
        A variable is missing, has another shape, or is left over.
    """
    with torch.device("meta"):
        wanted = create(name, n_mels=N_MELS, n_frames=N_FRAMES, n_classes=len(PUBLISHED[name].tags)).state_dict()
    table = _vgg_table() if name.endswith("vgg") else _musicnn_table()
    state: dict[str, torch.Tensor] = {}
    for source, target, turn in table:
        if source not in variables:
            raise CheckpointError(f"the checkpoint lacks {source}", where, f"It is none of {PUBLISHED[name].folder}")
        value = np.ascontiguousarray(turn(variables[source]), dtype=np.float32)
        if value.shape != tuple(wanted[target].shape):
            raise CheckpointError(
                f"{source} has shape {variables[source].shape}, which gives {value.shape} for {target}, "
                f"not {tuple(wanted[target].shape)}",
                where,
                f"It is none of {PUBLISHED[name].folder}",
            )
        state[target] = torch.from_numpy(value.copy())
    left = sorted(set(variables) - {source for source, _, _ in table})
    if left:
        raise CheckpointError(
            f"{len(left)} variables have no place: {', '.join(left[:3])}",
            where,
            f"It is none of {PUBLISHED[name].folder}",
        )
    for target, tensor in wanted.items():
        if target.endswith("num_batches_tracked"):
            state[target] = torch.zeros((), dtype=tensor.dtype)
    return {target: state[target] for target in wanted}


Turn = Callable[[NDArray[Any]], NDArray[Any]]
Row = tuple[str, str, Turn]


def _same(value: NDArray[Any]) -> NDArray[Any]:
    return value


def _image_kernel(value: NDArray[Any]) -> NDArray[Any]:
    return value.transpose(3, 2, 1, 0) if value.ndim == 4 else value


def _time_kernel(value: NDArray[Any]) -> NDArray[Any]:
    return value[:, :, 0].transpose(2, 1, 0) if value.ndim == 4 else value


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _layer(source: str, target: str, turn: Turn) -> list[Row]:
    return [(f"{source}/kernel", f"{target}.weight", turn), (f"{source}/bias", f"{target}.bias", _same)]


def _norms(targets: list[str]) -> list[Row]:
    parts = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    return [
        (f"{_numbered('batch_normalization', number)}/{source}", f"{target}.{part}", _same)
        for number, target in enumerate(targets)
        for source, part in parts.items()
    ]


def _musicnn_table() -> list[Row]:
    front = ["timbral.0", "timbral.1", "temporal.0", "temporal.1", "temporal.2"]
    mid = ["mid.0", "mid.1", "mid.2"]
    rows: list[Row] = []
    for number, branch in enumerate([*front, *mid]):
        turn = _image_kernel if branch in front else _time_kernel
        rows += _layer(_numbered("conv2d", number), f"{branch}.conv", turn)
    rows += _layer("dense", "hidden", np.transpose) + _layer("dense_1", "output", np.transpose)
    return rows + _norms(["norm", *(f"{branch}.norm" for branch in [*front, *mid]), "pooled_norm", "hidden_norm"])


def _vgg_table() -> list[Row]:
    rows: list[Row] = []
    for block in range(5):
        rows += _layer(f"{block + 1}CNN", f"blocks.{block}.0", _image_kernel)
    return rows + _layer("dense", "output", np.transpose) + _norms(["norm", *(f"blocks.{i}.2" for i in range(5))])


def _is_of_optimizer(variable: str) -> bool:
    last = variable.rpartition("/")[2]
    return last in ("Adam", "Adam_1", "beta1_power", "beta2_power", "global_step")


def _find(published: Published, place: str | os.PathLike[str] | None) -> tuple[Callable[[str], bytes], str]:
    """Return how to read the files of a checkpoint, and where they are."""
    if place is None:
        spec = importlib.util.find_spec("musicnn")  # finds, does not import
        roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
        tried = "the installed package musicnn" if roots else "no package musicnn is installed"
    else:
        path = Path(place).expanduser()
        if path.is_file():
            return _find_in_archive(published, path)
        if not path.exists():
            raise CheckpointError("there is no such folder or wheel", str(path), "Check --weights")
        roots, tried = [path], str(path)
    for root in roots:
        for folder in (published.folder, f"musicnn/{published.folder}", f"musicnn/musicnn/{published.folder}", "."):
            if (root / folder / ".index").is_file():
                return _reader_of_folder((root / folder).resolve()), str((root / folder).resolve())
    raise _not_found(published, tried)


def _not_found(published: Published, tried: str) -> CheckpointError:
    fix = "Install the package without what it needs to run: pip install --no-deps musicnn==0.1.0; or name its folder"
    fix += " or wheel: --weights PATH"
    if not published.in_wheel:
        fix = "Only the source repository jordipons/musicnn has them: clone it and name its folder: --weights PATH"
    return CheckpointError(f"the weights of {published.name} ({published.folder}) are not there", tried, fix)


def _reader_of_folder(folder: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise CheckpointError(f"cannot be read: {error.strerror}", str(folder / name)) from error

    return read


def _find_in_archive(published: Published, path: Path) -> tuple[Callable[[str], bytes], str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"not a wheel: {error}", str(path), "Give the package's wheel or folder") from error
    ending = f"{published.folder}/.index"
    found = next((name for name in names if name == ending or name.endswith(f"/{ending}")), None)
    if found is None:
        raise _not_found(published, str(path))
    prefix = found.removesuffix(".index")

    def read(name: str) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(prefix + name)
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            raise CheckpointError(f"cannot be read: {error}", f"{path}, {prefix}{name}", "Fetch it again") from error

    return read, f"{path}, {prefix.removesuffix('/')}"
