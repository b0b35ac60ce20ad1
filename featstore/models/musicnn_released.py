"""MUSICNN as the scripts released with the resolution study build it: the two axes of the input are swapped.

Origin: the code released with A. Ferraro et al., EUSIPCO 2020; written from facts about its graph. What the papers mean
by height spans time here and the other way round: kernels of 7, 3 and 1 *bands* reach over 0.9 and 0.4 of as many
*frames* as there are bands, the "temporal" kernels slide over bands, and the last pool goes over channels; two norms of
the back end have one scale for all channels. Whether the study's scores come from exactly this is not known;
``musicnn`` is the network that its text describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.layers import init_fan_in, norm_2d
from featstore.models.musicnn import Musicnn, MusicnnConfig

__all__ = ["ReleasedMusicnn", "ReleasedMusicnnConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedMusicnnConfig(MusicnnConfig):
    """Settings as those of ``musicnn``; inputs have at least as many frames as bands, the scripts' have 128."""

    place: ClassVar[str] = "musicnn-released"
    # the first convolution of the back end takes 6 bands, its pool halves the rest
    least: ClassVar[Mapping[str, int]] = {"n_mels": 8}

    def _resolve(self) -> None:
        MusicnnConfig._resolve(self)
        if self.n_frames < self.n_mels:
            what = f"n_frames={self.n_frames} is less than n_mels={self.n_mels}"
            raise ConfigError(what, self.place, "Give longer inputs")


class _ScalarNormed(nn.Module):
    """Convolution, ReLU, batch norm with one mean, deviation and scale for all channels."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 7, padding=3)
        self.norm = norm_2d(1, momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, channels, bands)`` to the same shape."""
        found: torch.Tensor = self.norm(functional.relu(self.conv(x)).unsqueeze(1))
        return found.squeeze(1)


class ReleasedMusicnn(Musicnn):
    """MUSICNN of the study's released scripts, whose axes are swapped: to compare with, not to build on.

    Input float32 ``(batch, 1, n_mels, n_frames)``, output logits ``(batch, n_classes)``. At 96 bands, 128 frames and 50
    classes it has 7,564,578 parameters (5,654,354 with ``filters=16``).
    """

    Config = ReleasedMusicnnConfig
    any_length: ClassVar[bool] = False
    paper_input: ClassVar[dict[str, int] | None] = {"n_mels": 96, "n_frames": 128}

    def __init__(self, config: ReleasedMusicnnConfig) -> None:
        super().__init__(config)
        channels = config.scaled(config.channels)
        self.second = _ScalarNormed(channels, config.norm_momentum)  # type: ignore[assignment]
        self.third = _ScalarNormed(channels, config.norm_momentum)  # type: ignore[assignment]
        self.hidden = nn.Linear(2 * ((config.n_mels - 6) // 2), config.scaled(config.dense))
        init_fan_in(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden layer ``(batch, dense)`` of ``(batch, 1, n_mels, n_frames)``, behind the dropout."""
        n_mels = x.shape[2]
        x = x.transpose(2, 3)  # what the layers take for bands are frames now
        return self._hidden(x, x[:, :, :n_mels].mean(dim=2), pooled=1)
