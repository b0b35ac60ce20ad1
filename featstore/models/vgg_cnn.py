"""VGG-CNN: the fully convolutional tagger of the resolution study.

Origin: A. Ferraro, D. Bogdanov, X. Serra, J. H. Jeon, J. Yoon, "How Low Can You Go? Reducing Frequency and Time
Resolution in Current CNN Architectures for Music Auto-tagging", EUSIPCO 2020, Tables I and III; the layers between
the tables' lines (input batch norm, ELU, initialisation) follow the settings its authors released. Written from
those facts. Every one of the study's 44 input sizes ends at a 1 x 1 map without any padding of the pools: what a
pool does not cover is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import nn

from featstore.errors import ConfigError
from featstore.models.interface import InputNormalisation, Model
from featstore.models.layers import init_glorot, norm_2d
from featstore.models.model_config import SpectrumConfig
from featstore.typed_values import converted

__all__ = ["CHANNELS", "FREQUENCY_POOLS", "TIME_POOLS", "VggCnn", "VggCnnConfig", "choose_pools", "map_sizes"]

CHANNELS = (128, 384, 768, 2048)

FREQUENCY_POOLS: dict[int, tuple[int, ...]] = {
    128: (2, 4, 4, 4),
    96: (2, 4, 3, 4),
    48: (2, 4, 3, 2),
    32: (2, 2, 3, 2),
    24: (2, 2, 3, 2),
    16: (2, 2, 2, 2),
    8: (2, 2, 2, 1),
}
"""Table III, by number of mel bands."""

TIME_POOLS: dict[int, tuple[int, ...]] = {
    1366: (4, 5, 8, 8),  # 12 kHz, hop 256 x 1
    683: (4, 5, 8, 4),
    456: (4, 5, 8, 2),
    342: (4, 5, 8, 2),
    274: (4, 5, 8, 1),
    137: (4, 5, 4, 1),  # 12 kHz, hop 256 x 10
    1820: (4, 5, 9, 10),  # 16 kHz, hop 256 x 1
    910: (4, 5, 9, 5),
    607: (4, 5, 9, 3),
    455: (4, 5, 9, 2),
    364: (4, 5, 9, 2),
    182: (4, 5, 9, 1),  # 16 kHz, hop 256 x 10
}
"""Table III, by number of frames: 29.1 s at both rates and six hops."""

_RELEASED_TIME_POOLS: dict[tuple[int, int], tuple[int, ...]] = {
    **{(n_mels, 1366): (4, 5, 8, 7) for n_mels in (128, 96, 48, 32, 16)},
    **{(n_mels, 1366): (4, 4, 8, 8) for n_mels in (24, 8)},
    **{(n_mels, 1820): (4, 4, 9, 10) for n_mels in (24, 8)},
    (128, 182): (4, 5, 4, 1),
}
"""Where the authors' scripts use other time pools than their Table III, by (bands, frames)."""

Pools = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VggCnnConfig(SpectrumConfig):
    """Settings of VGG-CNN.

    Parameters
    ----------
    n_mels, n_frames, n_classes : int > 0
        Size of one input and of the output.
    in_channels : int > 0
        Spectra of one input, stacked; the study has one.
    width : float > 0
        Factor on the channels of every block, for runs on small machines; 1 is the study's.
    pools : str or sequence of four (bands, frames)
        ``"table"``: the study's Table III; another size starts from the nearest row of each table whose first three
        pools leave something of it, and the last pool takes the remainder. ``"released"``: those of the authors'
        scripts, for the study's sizes only. ``"fit"``: as ``"table"``, but every pool is cut down to what is left, so
        that small inputs work too. Or four pairs of your own.
    norm_momentum : float in (0, 1]
        Share of the newest batch in the running statistics of the batch norms. The study's 0.01 needs some 300 batches
        before validation means anything: take 0.1 for runs of a few hundred.
    """

    in_channels: int = 1
    width: float = 1.0
    pools: str | Pools = "table"
    norm_momentum: float = 0.01

    place: ClassVar[str] = "vgg-cnn"

    def _resolve(self) -> None:
        if not isinstance(self.pools, str):
            object.__setattr__(self, "pools", _own_pools(self.pools))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the four blocks."""
        return tuple(max(1, round(channels * self.width)) for channels in CHANNELS)


def _own_pools(pools: Any) -> Pools:
    """Return pools given by the user as pairs of positive ints; ``ConfigError`` for anything else."""
    found: Pools = converted(Pools, pools, "pools", "vgg-cnn")
    if len(found) != len(CHANNELS) or min(map(min, found)) < 1:
        what = f"pools={pools!r} are not {len(CHANNELS)} pairs (bands, frames) of positive numbers"
        raise ConfigError(what, "vgg-cnn")
    return found


def map_sizes(size: int, pools: Sequence[int]) -> list[int]:
    """Length of one axis after each pool (floor division: what a pool does not cover is dropped).

    Examples
    --------
    >>> map_sizes(1366, (4, 5, 8, 8))
    [341, 68, 8, 1]
    """
    sizes = []
    for pool in pools:
        size //= pool
        sizes.append(size)
    return sizes


def _axis_pools(name: str, size: int, table: Mapping[int, tuple[int, ...]], *, fit: bool) -> tuple[int, ...]:
    """Pools that bring one axis to length 1; ``ConfigError`` when no row's first three pools leave anything of it."""
    if size in table:
        return table[size]
    # nearest in ratio, the larger of two equally near; a row whose first pools leave nothing is passed over
    rows = sorted(table, key=lambda row: (abs(math.log(size / row)), -row))
    nearest = next((row for row in rows if map_sizes(size, table[row][:-1])[-1]), rows[0] if fit else None)
    if nearest is None:
        least = min(math.prod(pools[:-1]) for pools in table.values())
        what = f"{name}={size} is too few: the study's pools need at least {least}"
        raise ConfigError(what, "vgg-cnn", "Give a larger input, or set pools=fit for smaller pools")
    pools: list[int] = []
    for pool in table[nearest][:-1]:
        pools.append(min(pool, size))
        size //= pools[-1]
    return (*pools, size)


def choose_pools(config: VggCnnConfig) -> Pools:
    """Pool kernels (bands, frames) of the four blocks.

    Raises
    ------
    ConfigError
        No pools are known for this size: too few bands or frames, a size outside the study asked in the released form,
        or pools of the user's that leave nothing of the map.
    """
    n_mels, n_frames = config.n_mels, config.n_frames
    place = "vgg-cnn"
    if not isinstance(config.pools, str):
        if n_mels < math.prod(p[0] for p in config.pools) or n_frames < math.prod(p[1] for p in config.pools):
            raise ConfigError(
                f"pools={config.pools} leave nothing of {n_mels} x {n_frames}", place, "Give smaller pools"
            )
        return config.pools
    if config.pools not in ("table", "released", "fit"):
        raise ConfigError(f"pools={config.pools!r} is none of table, released, fit, or four (bands, frames)", place)
    if config.pools == "released":
        if n_mels not in FREQUENCY_POOLS or n_frames not in TIME_POOLS:
            raise ConfigError(
                f"the released pools are for the study's sizes, not for {n_mels} x {n_frames}",
                place,
                "Take pools=table",
            )
        time = _RELEASED_TIME_POOLS.get((n_mels, n_frames), TIME_POOLS[n_frames])
        return tuple(zip(FREQUENCY_POOLS[n_mels], time, strict=True))
    fit = config.pools == "fit"
    bands = _axis_pools("n_mels", n_mels, FREQUENCY_POOLS, fit=fit)
    return tuple(zip(bands, _axis_pools("n_frames", n_frames, TIME_POOLS, fit=fit), strict=True))


class VggCnn(Model):
    """Batch norm over the one input channel, four blocks [convolution, batch norm, max pool, ELU], one linear layer.

    Input float32 ``(batch, 1, n_mels, n_frames)``, output logits ``(batch, n_classes)``; no sigmoid inside. At width 1
    and 50 classes it has 17,365,940 parameters for every size of the study.
    """

    Config: ClassVar[type[VggCnnConfig]] = VggCnnConfig
    input_norm: ClassVar[InputNormalisation] = "none"  # it brings its own
    paper_input: ClassVar[dict[str, int] | None] = {"n_mels": 96, "n_frames": 1366}

    def __init__(self, config: VggCnnConfig) -> None:
        super().__init__(config)
        self.pools = choose_pools(config)
        self.norm = norm_2d(config.in_channels, config.norm_momentum)
        widths = (config.in_channels, *config.channels)
        self.blocks = nn.Sequential()
        for i, pool in enumerate(self.pools):
            block = nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], kernel_size=3, padding=1),
                norm_2d(widths[i + 1], config.norm_momentum),
                nn.MaxPool2d(pool),
                nn.ELU(),  # the study has it before the pool: the same values, as it keeps order, from 8 times the work
            )
            self.blocks.append(block)
        height = map_sizes(config.n_mels, [p[0] for p in self.pools])[-1]
        width = map_sizes(config.n_frames, [p[1] for p in self.pools])[-1]
        self.output = nn.Linear(widths[-1] * height * width, config.n_classes)
        init_glorot(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Last map, flat, of ``(batch, in_channels, n_mels, n_frames)``."""
        return cast("torch.Tensor", self.blocks(self.norm(x)).flatten(1))
