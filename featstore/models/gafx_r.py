"""GAFX-R: a ResNet that draws the picture for an Audio Spectrogram Transformer from rows of 200 samples.

Origin: Z. Bu, H. Zhang, X. Zhu, "GAFX: A general audio feature extractor", 2022. Written from facts about its tables:
basic blocks as in ResNet-18 whose strides act on one axis only, and a fifth stage, which no library has. The paper says
nothing about biases (there are none here) and does not say how the picture, which comes out of a ReLU, is scaled for
the classifier (here each clip is standardised).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from featstore.models.ast_transformer import PATCH, Size, patch_grid
from featstore.models.gafx import Gafx
from featstore.models.interface import InnerLayer
from featstore.models.layers import recomputed
from featstore.models.model_config import WaveformConfig
from featstore.models.sinc import mono_signal
from featstore.models.tensor_files import place_tensors, read_tensors

__all__ = ["BANDS", "ROW", "GafxR", "GafxRConfig", "RowTrunk", "from_imagenet", "rows_of"]

ROW = 200
"""Samples of a row: 9.07 ms at 22.05 kHz."""

BANDS = 128
"""Bands of the picture."""

_WIDTHS = (64, 64, 128, 256, 512, BANDS)  # of the stem and of the five stages


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """Rows of 200 samples, ``(batch, 1, rows, 200)``, of ``(batch, 1, n_samples)``: the nearest whole number of them.

    Up to 99 samples are dropped at the end, or up to 100 zeros are added.
    """
    rows = max(1, (x.shape[-1] + ROW // 2) // ROW)
    fitted = functional.pad(x, (0, rows * ROW - x.shape[-1]))
    return fitted.reshape(len(x), 1, rows, ROW)


class _Block(nn.Module):
    """Two convolutions of 3 x 3 around a link, which is projected where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=(1, stride), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = None
        if n_in != n_out or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride=(1, stride), bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, n_in, rows, width)`` to ``(batch, n_out, rows, width / stride)``."""
        link = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + link)


class RowTrunk(nn.Module):
    """Stem and five stages over rows of a waveform: ``(batch, 1, rows, 200)`` to ``(batch, 128, rows)``, not negative.

    Names of its tensors are torchvision's; ``layer5`` is the additional stage.

    Parameters
    ----------
    width : float > 0
        Factor on the channels of all stages but the last.
    checkpointing : bool
        In training, keep only each block's input and compute the rest again.
    """

    def __init__(self, *, width: float = 1.0, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        sizes = [*(max(1, round(channels * width)) for channels in _WIDTHS[:-1]), _WIDTHS[-1]]
        self.conv1 = nn.Conv2d(1, sizes[0], 7, stride=(1, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes[0])
        for stage, (n_in, n_out) in enumerate(itertools.pairwise(sizes), start=1):
            blocks = _Block(n_in, n_out, 1 if stage == 1 else 2), _Block(n_out, n_out, 1)
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Picture ``(batch, 128, rows)``: the mean over what is left of a row."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=(1, 2), padding=1)
        for stage in range(1, len(_WIDTHS)):
            for block in self.get_submodule(f"layer{stage}").children():
                x = recomputed(self, block, x) if self.checkpointing else block(x)
        return x.mean(dim=-1)


def from_imagenet(state_dict: Mapping[str, torch.Tensor], *, where: str = "") -> dict[str, torch.Tensor]:
    """Stem and stages 1 to 4 of a ``RowTrunk`` from an ImageNet ResNet-18 with torchvision's names.

    Strides do not change the shapes of weights. The three colours of the first convolution are summed; ``fc.*`` is
    dropped; stage 5 is not among them and starts random. Load it with ``strict=False``.

    Raises
    ------
    CheckpointError
        A tensor is missing, has another shape, or belongs to another network.
    """
    last = f"layer{len(_WIDTHS) - 1}."
    wanted = {name: tensor for name, tensor in RowTrunk().state_dict().items() if not name.startswith(last)}
    found = {name: tensor for name, tensor in state_dict.items() if not name.startswith("fc.")}
    if "conv1.weight" in found:
        found["conv1.weight"] = found["conv1.weight"].sum(dim=1, keepdim=True)
    fix = "Give the whole state dict of torchvision's resnet18"
    return place_tensors(found, wanted, "a ResNet-18", where, fix)


def imagenet_stages(path: str | Path, model: Gafx) -> dict[str, torch.Tensor]:
    """Weights of ``extractor`` from an ImageNet ResNet-18 in a local file: see ``Model.published``."""
    found = from_imagenet(read_tensors(path), where=str(path))
    extractor = model.get_submodule("extractor")
    place = "" if isinstance(extractor, RowTrunk) else "rows."
    return {f"{place}{name}": tensor for name, tensor in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class GafxRConfig(WaveformConfig):
    """Settings of GAFX-R, and of GAFX-A.

    Parameters
    ----------
    n_samples, n_classes : int > 0
        Length of one input, at least 16 rows of 200 samples, and of the output; the paper's has 661,600 samples at
        22.05 kHz (30 s). Other lengths are read by the same weights.
    size : {"tiny", "small"}
        Of the classifier.
    width : float > 0
        Factor on the channels of the extractor, for runs on small machines.
    depth : int > 0
        Transformer layers of the classifier.
    checkpointing : bool
        Compute activations again in the backward pass instead of keeping them.
    """

    size: Size = "small"
    width: float = 1.0
    depth: int = 12
    checkpointing: bool = False

    place: ClassVar[str] = "gafx"

    def _resolve(self) -> None:
        patch_grid(BANDS, self.n_rows, where=f"gafx, rows of {ROW} samples")

    @property
    def n_rows(self) -> int:
        """Frames of the picture."""
        return (self.n_samples + ROW // 2) // ROW


class GafxR(Gafx):
    """A ResNet over rows of 200 samples draws 128 bands, which an Audio Spectrogram Transformer classifies.

    Input float32 ``(batch, 1, n_samples)``, output logits ``(batch, n_classes)``. With 661,600 samples and 10 classes
    it has 34,301,258 parameters, 12,269,248 of them in the extractor.

    Attributes
    ----------
    Extractor : type of torch.nn.Module
        What draws the picture: ``(batch, 1, rows, 200)`` to ``(batch, 128, rows)``.
    """

    Config: ClassVar[type[Any]] = GafxRConfig
    Extractor: ClassVar[type[nn.Module]] = RowTrunk
    paper_input: ClassVar[dict[str, int] | None] = {"n_samples": 661_600}
    usual_layers: ClassVar[str] = "picture"
    least_length = PATCH * ROW - ROW // 2  # as many rows as a patch of the classifier has frames
    published: ClassVar[Mapping[str, str]] = {
        "extractor": "featstore.models.gafx_r:imagenet_stages",
        **Gafx.published,
    }

    config: GafxRConfig

    def __init__(self, config: GafxRConfig) -> None:
        super().__init__(config)
        self.extractor = self.Extractor(width=config.width, checkpointing=config.checkpointing)
        self.build_classifier(BANDS, config.n_rows)

    def draw(self, x: torch.Tensor) -> torch.Tensor:
        """Picture ``(batch, 128, frames)`` as the extractor draws it, a frame for each row of 200 samples."""
        picture: torch.Tensor = self.extractor(rows_of(mono_signal(x, None, "gafx")))
        return picture.float()

    def inner_layers(self) -> dict[str, InnerLayer]:
        """The picture as it is drawn, which every clip's own mean and deviation standardise later; and the features."""
        return {"picture": InnerLayer(BANDS, ROW, ROW // 2)} | super().inner_layers()

    def inner_pictures(self, drawn: torch.Tensor) -> dict[str, torch.Tensor]:
        """The one picture ``(batch, 128, frames)``."""
        return {"picture": drawn}
