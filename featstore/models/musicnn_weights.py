"""Trained weights of the packaged MUSICNN and VGG: found where the user has them, converted from TensorFlow's form.

The weights come with the package ``musicnn`` (ISC licence) and are not part of featstore. They are looked for in the
installed package, which is never imported, or in a folder or wheel that the user names.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.errors import CheckpointError, check_known
from featstore.models import create
from featstore.models.encoder_fetch import fetched_places
from featstore.models.musicnn_published import PUBLISHED, Published
from featstore.models.tf_checkpoint import read_checkpoint

__all__ = ["convert_variables", "load_published"]

N_MELS, N_FRAMES = 96, 187
FEATURE = "mel(sample_rate=16000,n_mels=96,pad_mode=reflect,scale=log10_1p)"
"""What the package computes from audio: librosa's mel power spectrogram of then, log10(1 + 10000 x)."""

_OF_OPTIMIZER = ("Adam", "Adam_1", "beta1_power", "beta2_power", "global_step")  # last parts of names


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
    folder = _find(published, place)

    def read(file: str) -> bytes:
        try:
            return (folder / file).read_bytes()
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"cannot be read: {reason}", str(folder / file), "Fetch it again") from error

    variables = read_checkpoint(read, str(folder), wanted=lambda name: name.rpartition("/")[2] not in _OF_OPTIMIZER)
    return convert_variables(name, variables, str(folder))


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
    fix = f"It is none of {PUBLISHED[name].folder}"
    for source, target in table.items():
        if source not in variables:
            raise CheckpointError(f"the checkpoint lacks {source}", where, fix)
        value = np.ascontiguousarray(_turned(variables[source], wanted[target].ndim), dtype=np.float32)
        if value.shape != tuple(wanted[target].shape):
            shapes = f"{variables[source].shape}, which gives {value.shape} for {target}"
            what = f"{source} has shape {shapes}, not {tuple(wanted[target].shape)}"
            raise CheckpointError(what, where, fix)
        state[target] = torch.from_numpy(value.copy())
    left = sorted(set(variables) - set(table))
    if left:
        raise CheckpointError(f"{len(left)} variables have no place: {', '.join(left[:3])}", where, fix)
    for target, tensor in wanted.items():
        if target.endswith("num_batches_tracked"):
            state[target] = torch.zeros((), dtype=tensor.dtype)
    return {target: state[target] for target in wanted}


def _turned(value: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Axes in reverse order; the axis of bands of a kernel over time is left out."""
    return value[:, :, 0].T if (value.ndim, ndim) == (4, 3) else value.T


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _layer(source: str, target: str) -> dict[str, str]:
    return {f"{source}/kernel": f"{target}.weight", f"{source}/bias": f"{target}.bias"}


def _norms(targets: list[str]) -> dict[str, str]:
    parts = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    return {
        f"{_numbered('batch_normalization', number)}/{source}": f"{target}.{part}"
        for number, target in enumerate(targets)
        for source, part in parts.items()
    }


def _musicnn_table() -> dict[str, str]:
    branches = ["timbral.0", "timbral.1", "temporal.0", "temporal.1", "temporal.2", "mid.0", "mid.1", "mid.2"]
    table: dict[str, str] = {}
    for number, branch in enumerate(branches):
        table |= _layer(_numbered("conv2d", number), f"{branch}.conv")
    table |= _layer("dense", "hidden") | _layer("dense_1", "output")
    return table | _norms(["norm", *(f"{branch}.norm" for branch in branches), "pooled_norm", "hidden_norm"])


def _vgg_table() -> dict[str, str]:
    table: dict[str, str] = {}
    for block in range(5):
        table |= _layer(f"{block + 1}CNN", f"blocks.{block}.0")
    return table | _layer("dense", "output") | _norms(["norm", *(f"blocks.{block}.2" for block in range(5))])


def _find(published: Published, place: str | os.PathLike[str] | None) -> Path | zipfile.Path:
    """Folder of a checkpoint's files, on the disk or inside a wheel."""
    roots, tried = _roots(place)
    named = (published.folder, f"musicnn/{published.folder}", f"musicnn/musicnn/{published.folder}")
    for root in roots:
        # a folder may be the checkpoint's own, whatever it is called; inside a wheel, names alone tell networks apart
        for folder in (*named, "") if isinstance(root, Path) else named:
            if (root / folder / ".index").is_file():
                return root / folder
    fix = "Fetch them with: featstore models fetch mtt-musicnn; or name the package's folder or wheel: --weights PATH"
    if not published.in_wheel:
        fix = "Only the source repository jordipons/musicnn has them: clone it and name its folder: --weights PATH"
    raise CheckpointError(f"the weights of {published.name} ({published.folder}) are not there", tried, fix)


def _roots(place: str | os.PathLike[str] | None) -> tuple[Sequence[Path | zipfile.Path], str]:
    """Folders in which the package may lie, and what messages call them."""
    if place is None:
        places = fetched_places("mtt-musicnn")
        found = [root for each in places for root in _roots(each)[0]]
        return found, " and ".join(places) or "nothing was fetched, and no package musicnn is installed"
    path = Path(place).expanduser()
    if not path.exists():
        raise CheckpointError("there is no such folder or wheel", str(path), "Check --weights")
    if path.is_dir():
        return [path.resolve()], str(path)
    try:
        archive = zipfile.Path(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"not a wheel: {error}", str(path), "Give the package's wheel or folder") from error
    return [archive, *archive.iterdir()], str(path)
