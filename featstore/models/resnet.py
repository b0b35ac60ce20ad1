"""ResNet-18, by itself on spectra and as the trunk of the networks that learn their own filters.

Origin: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016; as a baseline on
mel-spectrograms in P.-C. Chang, Y.-S. Chen, C.-H. Lee, ICMR 2021. The network is that of transformers; weights trained
on ImageNet come from a local file with torchvision's names, which the table in ``trunk_names`` maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.interface import Model
from featstore.models.layers import standardised
from featstore.models.model_config import SpectrumConfig
from featstore.models.tensor_files import place_tensors, read_tensors
from featstore.models.transformers_folder import import_transformers

__all__ = [
    "WIDTHS",
    "Resnet18",
    "Resnet18Config",
    "ResnetTrunk",
    "from_torchvision",
    "imagenet_trunk",
    "read_torchvision",
    "spatial_pyramid",
    "trunk_names",
]

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages."""


class ResnetTrunk(nn.Module):
    """Stem and four stages of two basic blocks: a picture with three channels to maps of 1/32 of its size, rounded up.

    The output is that of the last stage after its residual addition and ReLU, not pooled.

    Raises
    ------
    MissingDependency
        Without transformers.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        library = import_transformers("ResNet-18")
        config = library.ResNetConfig(
            num_channels=3,
            embedding_size=widths[0],
            hidden_sizes=list(widths),
            depths=[2, 2, 2, 2],
            layer_type="basic",
        )
        backbone = library.ResNetModel(config)
        self.embedder, self.encoder = backbone.embedder, backbone.encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``(batch, 512, …)`` of ``(batch, 3, height, width)``."""
        return cast("torch.Tensor", self.encoder(self.embedder(x)).last_hidden_state)


def spatial_pyramid(x: torch.Tensor) -> torch.Tensor:
    """Means over the whole map and over its four quarters.

    Parameters
    ----------
    x : (batch, C, height, width)
        An odd number of rows (or columns) is split so that the middle one counts in both halves.

    Returns
    -------
    (batch, 5 C)
        First the C means over everything, then for each channel its quarters: upper left, upper right, lower left,
        lower right.

    Examples
    --------
    >>> spatial_pyramid(torch.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[1.5, 0.0, 1.0, 2.0, 3.0]]
    """
    x = torch.as_tensor(x)
    return torch.cat([x.mean(dim=(2, 3)), functional.adaptive_avg_pool2d(x, 2).flatten(1)], dim=1)


def trunk_names(name: str) -> str | None:
    """Our name of one of torchvision's tensors of ResNet-18; None for one that is no part of the trunk.

    Examples
    --------
    >>> trunk_names("layer2.0.downsample.1.running_mean")
    'encoder.stages.1.layers.0.shortcut.normalization.running_mean'
    """
    stem = re.fullmatch(r"(conv1|bn1)\.(\w+)", name)
    if stem:
        return f"embedder.embedder.{_KINDS[stem[1][:-1]]}.{stem[2]}"
    block = re.fullmatch(r"layer([1-4])\.([01])\.(?:(conv|bn)([12])|downsample\.([01]))\.(\w+)", name)
    if not block:
        return None
    stage, layer, kind, place, shortcut, rest = block.groups()
    start = f"encoder.stages.{int(stage) - 1}.layers.{layer}"
    if shortcut is not None:
        return f"{start}.shortcut.{_KINDS['bn' if shortcut == '1' else 'conv']}.{rest}"
    return f"{start}.layer.{int(place) - 1}.{_KINDS[kind]}.{rest}"


_KINDS = {"conv": "convolution", "bn": "normalization"}


def from_torchvision(state_dict: Mapping[str, torch.Tensor], *, where: str = "") -> dict[str, torch.Tensor]:
    """State dict for ``ResnetTrunk`` of one with torchvision's names; ``fc.*`` is dropped.

    Raises
    ------
    CheckpointError
        A tensor is missing, has another shape, or belongs to another network.
    """
    with torch.device("meta"):
        wanted = ResnetTrunk().state_dict()
    state = {name: tensor for name, tensor in state_dict.items() if not name.startswith("fc.")}
    fix = "Give the whole state dict of torchvision's resnet18"
    found = place_tensors(state, wanted, "a ResNet-18", where, fix, rename=lambda name: trunk_names(name) or name)
    counters = [name for name in wanted if name not in found]  # old files lack them, and nothing reads them
    return found | {name: torch.zeros((), dtype=torch.long) for name in counters}


def read_torchvision(path: str | Path) -> dict[str, torch.Tensor]:
    """State dict for ``ResnetTrunk`` of a local file, .pth or .safetensors, with torchvision's names.

    Raises
    ------
    CheckpointError
        No such file, a damaged one, one that would run code, or one of another network.
    """
    return from_torchvision(read_tensors(path), where=str(path))


def imagenet_trunk(path: str | Path, model: Model) -> dict[str, torch.Tensor]:
    """Weights of ``trunk`` from a local file with torchvision's names, of any model here: see ``Model.published``."""
    return read_torchvision(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resnet18Config(SpectrumConfig):
    """Settings of ``resnet18``.

    Parameters
    ----------
    n_mels, n_frames, n_classes : int > 0
        Size of one input (``n_mels`` are the bins of any spectrum) and of the output; the paper's has 160 x 376.
    in_channels : {1, 3}
        One spectrum, which is copied to three channels; or three, such as spectrogram, harmonic and percussive.
    width : float > 0
        Factor on the channels of every stage, for runs on small machines.
    top_db : float or None
        Decibels below the clip's maximum at which values are cut, over all channels. None cuts nothing: for inputs
        that are not in decibels.
    standardise : {"clip", "none"}
        ``clip`` brings each clip to mean 0 and deviation 1, over all channels.
    """

    in_channels: int = 1
    width: float = 1.0
    top_db: float | None = 80.0
    standardise: Literal["clip", "none"] = "clip"

    place: ClassVar[str] = "resnet18"

    def _resolve(self) -> None:
        if self.in_channels not in (1, 3):
            raise ConfigError(f"in_channels={self.in_channels} is neither 1 nor 3", self.place, "Stack three, or one")
        if self.top_db is not None and not self.top_db > 0:
            raise ConfigError(f"top_db={self.top_db!r} is not positive", self.place)


def scaled_widths(width: float) -> tuple[int, ...]:
    """Channels of the four stages at this width."""
    return tuple(max(1, round(channels * width)) for channels in WIDTHS)


class Resnet18(Model):
    """ResNet-18 on a spectrum, or on three stacked: mean over the last maps, one linear layer.

    Input float32 ``(batch, in_channels, n_mels, n_frames)`` in decibels, output logits ``(batch, n_classes)``; any
    number of frames. 11,181,642 parameters with 10 classes.
    """

    package = "transformers"
    Config = Resnet18Config
    input_norm: ClassVar[Any] = "none"  # it standardises clips itself
    any_length: ClassVar[bool] = True
    paper_input: ClassVar[dict[str, int] | None] = {"n_mels": 160, "n_frames": 376}
    published: ClassVar[Mapping[str, str]] = {"trunk": "featstore.models.resnet:imagenet_trunk"}

    def __init__(self, config: Resnet18Config) -> None:
        super().__init__(config)
        widths = scaled_widths(config.width)
        self.trunk = ResnetTrunk(widths)
        self.output = nn.Linear(widths[-1], config.n_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Means of the last maps, ``(batch, 512)``."""
        return cast("torch.Tensor", self.trunk(self.picture(x)).mean(dim=(2, 3)))

    def picture(self, x: torch.Tensor) -> torch.Tensor:
        """What the trunk sees of an input, ``(batch, 3, n_mels, frames)``: cut, standardised, in three channels."""
        if self.config.top_db is not None:
            x = x.maximum(x.amax(dim=(1, 2, 3), keepdim=True) - self.config.top_db)
        if self.config.standardise == "clip":
            x = standardised(x)
        return x.expand(-1, 3, -1, -1)
