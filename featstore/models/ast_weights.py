"""Weights of DeiT and AST from local files, for our Audio Spectrogram Transformer: names, patches, positions.

Facts about the names come from the packages that write them: timm's DeiT, the code of AST's authors, transformers 4 and
5. Every tensor of a file is accounted for; nothing is fetched.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional

from featstore.errors import CheckpointError, ConfigError
from featstore.models.tensor_files import read_tensors

__all__ = ["OLD_LAYER", "deit_trunk", "from_deit", "patch_weight", "read_deit", "resize_positions"]

logger = logging.getLogger(__name__)

_AUDIOSET_GRID = (12, 101)  # 10 s, patches of 16 at a step of 10

How = Literal["sum", "mean"]


def resize_positions(pos_embed: Any, n_f: int, n_t: int, *, grid: tuple[int, int] | None = None) -> torch.Tensor:
    """Positions of another grid of patches: the middle is cut out where it is smaller, stretched where it is larger.

    Time goes first, then frequency. A cut of n from N starts at ``N // 2 - n // 2``; stretching is linear between
    columns (rows), with the outermost ones repeated beyond their centres (bilinear, ``align_corners=False``).

    Parameters
    ----------
    pos_embed : float (1, tokens, width)
        Special tokens (class, distillation), which are kept as they are, then patches frequency-major: index
        ``f * n_t + t``.
    n_f, n_t : int > 0
        Rows and columns of the new grid.
    grid : (int, int), optional
        Rows and columns of the old one. By default a square, as DeiT has it, or the 12 x 101 of AST on AudioSet.

    Returns
    -------
    (1, special + n_f * n_t, width)

    Raises
    ------
    ConfigError
        The number of tokens fits no grid, or not the one given.

    Examples
    --------
    >>> resize_positions(torch.zeros(1, 198, 192), 8, 206).shape
    torch.Size([1, 1650, 192])
    """
    table = torch.as_tensor(pos_embed)
    if table.ndim != 3 or len(table) != 1 or min(n_f, n_t) < 1:
        shape = tuple(table.shape)
        raise ConfigError(
            f"positions of shape {shape} for {n_f} x {n_t} patches", "resize_positions", "Give (1, n, width)"
        )
    old_f, old_t = grid or _grid_of(table.shape[1])
    special = table.shape[1] - old_f * old_t
    if not 0 <= special <= 2:
        what = f"{table.shape[1]} positions are not {old_f} x {old_t} and at most two special tokens"
        raise ConfigError(what, "resize_positions", "Give the grid that they were trained on")
    picture = table[:, special:].transpose(1, 2).reshape(1, -1, old_f, old_t)
    # in float32 the places between 100 columns alone are off by 1e-5
    picture = _resize(_resize(picture.double(), 3, n_t), 2, n_f).to(table.dtype)
    return torch.cat([table[:, :special], picture.flatten(2).transpose(1, 2)], dim=1)


def _resize(picture: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    old = picture.shape[axis]
    if size <= old:
        return picture.narrow(axis, old // 2 - size // 2, size)
    shape = (size, picture.shape[3]) if axis == 2 else (picture.shape[2], size)
    return functional.interpolate(picture, size=shape, mode="bilinear", align_corners=False)


def _grid_of(tokens: int) -> tuple[int, int]:
    """Rows and columns behind a number of tokens, of which up to two are special."""
    for special in (2, 1, 0):
        patches = tokens - special
        if patches == math.prod(_AUDIOSET_GRID):
            return _AUDIOSET_GRID
        side = math.isqrt(max(patches, 0))
        if side > 0 and side**2 == patches:
            return side, side
    raise ConfigError(f"{tokens} positions are no square of patches", "resize_positions", "Give grid=(rows, columns)")


def patch_weight(rgb: Any, how: How = "sum") -> torch.Tensor:
    """Patch projection of a picture with one channel, of one for colours.

    Parameters
    ----------
    rgb : float (width, 3, height, width of a patch)
    how : {"sum", "mean"}
        ``sum`` responds to a spectrogram as the network did to a grey picture, and is what AST's code does; ``mean`` is
        what its paper says: a third of it.

    Returns
    -------
    (width, 1, height, width of a patch)

    Raises
    ------
    ConfigError
        For another ``how``.
    """
    if how not in ("sum", "mean"):
        raise ConfigError(f"how={how!r} is neither 'sum' nor 'mean'", "patch_weight")
    weight = torch.as_tensor(rgb)
    return weight.sum(dim=1, keepdim=True) if how == "sum" else weight.mean(dim=1, keepdim=True)


def from_deit(
    state_dict: Mapping[str, torch.Tensor],
    *,
    n_mels: int = 128,
    n_frames: int = 1024,
    how: How = "sum",
    grid: tuple[int, int] | None = None,
    where: str = "",
) -> dict[str, torch.Tensor]:
    """State dict for ``AstTrunk`` of a DeiT's, or of an AST's in any of its forms; heads are dropped.

    Parameters
    ----------
    state_dict : mapping
        Names of timm, of AST's authors (``module.v.…``), or of transformers 4 or 5. Without a distillation token (a
        plain DeiT or ViT) the class token stands in for it, and a warning says so.
    n_mels, n_frames : int
        Of the model to fill: positions are resized to its grid of patches.
    how : {"sum", "mean"}
        How three colours become one channel: see ``patch_weight``.
    grid : (int, int), optional
        Patches that the positions were trained on, where they are neither a square nor AST's own 12 x 101.
    where : str
        For messages.

    Raises
    ------
    CheckpointError
        A tensor is of no known name, is missing, or has patches of another size than 16 x 16.
    """
    found = _renamed(state_dict, where)
    depth = len({name.split(".")[1] for name in found if name.startswith("layers.")})
    parts = sorted(f"{part}.{ending}" for part in _PARTS for ending in ("weight", "bias"))
    wanted = [*_WHOLE, *(f"layers.{layer}.{part}" for layer in range(depth) for part in parts)]
    lost = [name for name in wanted if name not in found]
    if lost:
        raise CheckpointError(f"the weights lack {lost[0]}", where, "Give the whole state dict of a DeiT, or of an AST")
    projection = found[_PATCHES]
    if projection.ndim != 4 or projection.shape[2:] != (16, 16):
        fix = "Give a network with patches of 16 x 16"
        raise CheckpointError(f"patches have shape {tuple(projection.shape)}", where, fix)
    if projection.shape[1] != 1:
        found[_PATCHES] = patch_weight(projection, how)
    positions = found[_POSITIONS]
    if _SECOND not in found:
        logger.warning("%s has no distillation token: the class token stands in for it", where or "the checkpoint")
        found[_SECOND] = found[_CLASS].clone()
        positions = torch.cat([positions[:, :1], positions], dim=1)
    found[_POSITIONS] = resize_positions(positions, n_mels // 16, n_frames // 16, grid=grid)
    return found


def read_deit(path: str | Path, **options: Any) -> dict[str, torch.Tensor]:
    """``from_deit`` of a local file, .pth or .safetensors, or of a folder as transformers writes them.

    Raises
    ------
    CheckpointError
        No such file, a damaged one, one that would run code, or one of another network.
    """
    return from_deit(read_tensors(path), where=str(path), **options)


def deit_trunk(path: str | Path, model: Any) -> dict[str, torch.Tensor]:
    """Weights of ``trunk`` of any model with an ``AstTrunk``, from a local file: see ``Model.published``."""
    n_f, n_t = model.trunk.grid
    found = read_deit(path, n_mels=16 * n_f, n_frames=16 * n_t)
    for name in model.trunk.state_dict():
        if name not in found:
            raise CheckpointError(f"the weights lack {name}", str(path), "Give model.depth the number of their layers")
    return found


_CLASS, _SECOND = "embeddings.cls_token", "embeddings.distillation_token"
_POSITIONS, _PATCHES = "embeddings.position_embeddings", "embeddings.patch_embeddings.projection.weight"

_START = re.compile(r"^(module\.)?(v\.|audio_spectrogram_transformer\.|model\.)?")
_HEADS = re.compile(r"^(head|head_dist|mlp_head|classifier|pooler|fc_norm)\.")
_TOP = {
    "cls_token": _CLASS,
    "dist_token": _SECOND,
    "pos_embed": _POSITIONS,
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_WHOLE = (_CLASS, _POSITIONS, _PATCHES, _PATCHES.replace("weight", "bias"), "layernorm.weight", "layernorm.bias")
"""What every network has besides its layers."""

OLD_LAYER = {  # of transformers before version 5, which its version 5 still writes
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_LAYER = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    **OLD_LAYER,
}
_PARTS = {*_LAYER.values(), *(f"attention.{part}_proj" for part in "qkvo")}
"""Parts of a layer under our names, those of transformers 5; the table has those of timm and of transformers 4."""


def _renamed(state_dict: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """All tensors but the heads' under our names; joint projections of timm are split."""
    found: dict[str, torch.Tensor] = {}
    for full, tensor in state_dict.items():
        name = _START.sub("", full)
        if _HEADS.match(name):
            continue
        layer = re.fullmatch(r"(?:blocks|layers|encoder\.layer)\.(\d+)\.(.+)\.(weight|bias)", name)
        part, _, ending = name.rpartition(".")
        whole = _TOP.get(name) or f"{_TOP.get(part, part)}.{ending}"
        if layer and layer[2] == "attn.qkv":
            for which, third in zip("qkv", tensor.chunk(3), strict=True):
                found[f"layers.{layer[1]}.attention.{which}_proj.{layer[3]}"] = third.clone()
        elif layer and _LAYER.get(layer[2], layer[2]) in _PARTS:
            found[f"layers.{layer[1]}.{_LAYER.get(layer[2], layer[2])}.{layer[3]}"] = tensor
        elif whole in (*_WHOLE, _SECOND):
            found[whole] = tensor
        else:
            raise CheckpointError(f"{full} belongs to neither a DeiT nor an AST", where, "Give another file")
    return found
