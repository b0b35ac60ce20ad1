"""From a store's reader to batches: how long an input is, and the loaders of each split."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError, DatasetError
from featstore.loaders import BatchLoader, band_statistics
from featstore.training.config import DataConfig
from featstore.training.engines import Engine
from featstore.training.labels import LabelledTracks, SplitTracks
from featstore.training.scoring import INPUT
from featstore.training.tagger import InputNorm

__all__ = ["InputShape", "evaluation_loader", "input_norm", "input_shape", "training_loader"]

logger = logging.getLogger(__name__)

_SLACK = 0.9  # whole tracks may differ this much in length and still count as equally long


@dataclass(frozen=True, slots=True)
class InputShape:
    """Size of one input, and what the loader needs to cut it.

    Attributes
    ----------
    n_mels, n_frames : int
    stride : int
        Frames between evaluation windows.
    """

    n_mels: int
    n_frames: int
    stride: int


def input_shape(reader: Any, labelled: LabelledTracks, config: DataConfig) -> InputShape:
    """Decide how many frames an input has.

    Raises
    ------
    ConfigError
        The feature is no spectrogram, or whole tracks were asked for and they differ in length.
    """
    axes = tuple(reader.shape_of_item)
    if len(axes) != 1:
        raise ConfigError(
            f"a track of this feature has axes {axes} before time, the model needs one (bands)", str(reader.name)
        )
    if getattr(reader, "clip_frames", None) is not None:  # an input is one of the feature's own excerpts
        return _one_excerpt(reader, int(axes[0]), config)
    hop = Fraction(int(reader.spec.frame_step), int(reader.spec.sample_rate))
    n_frames = config.crop_frames
    if n_frames is None and config.crop_s is not None:
        n_frames = max(1, int(Fraction(config.crop_s).limit_denominator(10**6) / hop))
    if n_frames is None:
        n_frames = _frames_of_whole_tracks(reader, labelled)
    stride = n_frames
    if config.window_stride_s is not None:
        stride = max(1, round(Fraction(config.window_stride_s).limit_denominator(10**6) / hop))
    return InputShape(int(axes[0]), int(n_frames), int(stride))


def _one_excerpt(reader: Any, n_mels: int, config: DataConfig) -> InputShape:
    frames, seconds = int(reader.clip_frames), reader.spec.clip.length_s
    if config.crop_frames not in (None, frames) or config.crop_s not in (None, seconds):
        asked = f"crop_frames={config.crop_frames}" if config.crop_frames else f"crop_s={config.crop_s:g}"
        raise ConfigError(
            f"data.{asked}, but the feature is excerpts of {frames} frames ({seconds:g} s)",
            str(reader.name),
            "Leave it out: an input is one excerpt. For other lengths extract the feature with clip=whole",
        )
    return InputShape(n_mels, frames, frames)


def _frames_of_whole_tracks(reader: Any, labelled: LabelledTracks) -> int:
    """Length of the shortest track, when all are about as long: files of one duration differ by a frame or two."""
    lengths = _lengths(reader, [track for part in labelled.splits.values() for track in part.track_ids])
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest < _SLACK * longest:
        raise ConfigError(
            f"whole tracks differ in length, from {shortest} to {longest} frames",
            str(reader.name),
            "Choose the length of an input: --set data.crop_s=3",
        )
    if shortest < longest:
        logger.info("tracks have %d to %d frames; inputs are %d frames", shortest, longest, shortest)
    return shortest


def _lengths(reader: Any, track_ids: list[str]) -> NDArray[np.int64]:
    return np.asarray(reader.lengths)[[reader.row_of(track) for track in track_ids]]


def _loader(
    reader: Any, part: SplitTracks, shape: InputShape, config: DataConfig, engine: Engine, **settings: Any
) -> BatchLoader:
    return BatchLoader(
        {INPUT: reader},
        part.track_ids,
        targets=part.targets,
        batch_size=config.batch_size,
        crop_frames=shape.n_frames,
        ragged=config.ragged,
        tier=config.tier,
        threads=config.threads,
        device=engine.device,
        rank=engine.rank,
        world_size=engine.world_size,
        **settings,
    )


def training_loader(
    reader: Any, labelled: LabelledTracks, shape: InputShape, config: DataConfig, engine: Engine, *, seed: int
) -> BatchLoader:
    """Random crops of the training split, full batches only (unless there is not even one).

    Raises
    ------
    ConfigError
        When the batch cannot be shared out evenly among the processes.
    """
    if config.batch_size % engine.world_size:
        raise ConfigError(
            f"data.batch_size={config.batch_size} cannot be shared by {engine.world_size} processes",
            "training",
            "Choose a multiple of device.devices",
        )
    part = labelled.splits["train"]
    if engine.world_size > 1 and len(part) * config.crops_per_track < config.batch_size:
        raise DatasetError(f"{len(part)} tracks make no full batch of {config.batch_size}", "training", "Lower it")
    return _loader(
        reader,
        part,
        shape,
        config,
        engine,
        mode="random",
        shuffle=True,
        seed=seed,
        crops_per_track=config.crops_per_track,
        drop_last=len(part) * config.crops_per_track >= config.batch_size,
    )


def evaluation_loader(
    reader: Any, part: SplitTracks, shape: InputShape, config: DataConfig, engine: Engine, *, windows: int = 0
) -> BatchLoader:
    """Windows of each track of a split, in the table's order: all that cover it, or about so many, spread over it."""
    settings: dict[str, Any] = {"mode": "windows", "shuffle": False, "window_stride": shape.stride}
    if windows:
        excerpt = shape.n_frames if getattr(reader, "clip_frames", None) else 1
        room = int(_lengths(reader, part.track_ids).max()) * excerpt - shape.n_frames
        apart = max(room // (windows - 1), 1) if windows > 1 else room + 1
        apart = -(-apart // excerpt) * excerpt
        settings |= {"window_stride": max(shape.stride, apart), "tail": "drop"}
    return _loader(reader, part, shape, config, engine, **settings)


def input_norm(reader: Any, labelled: LabelledTracks, how: str) -> InputNorm | None:
    """Statistics of the training split as a module; None where none are wanted."""
    if how == "none":
        return None
    statistics = band_statistics(reader, labelled.splits["train"].track_ids)
    mean, std = statistics.mean, statistics.std
    if how == "global":
        variance = float(np.mean(std**2 + mean**2) - np.mean(mean) ** 2)
        mean, std = np.full_like(mean, mean.mean()), np.full_like(std, variance**0.5)
    return InputNorm(mean, std)
