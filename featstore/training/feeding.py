"""From a store's readers to batches: what an input looks like, and the loaders of each split."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.errors import ConfigError, DatasetError
from featstore.loaders import BatchLoader, band_statistics
from featstore.training.config import DataConfig
from featstore.training.engines import Engine
from featstore.training.labels import LabelledTracks, SplitTracks
from featstore.training.tagger import InputNorm, Inputs, moved

__all__ = [
    "INPUT",
    "InputShape",
    "evaluation_loader",
    "input_names",
    "input_norm",
    "input_shape",
    "inputs_of",
    "training_loader",
]

logger = logging.getLogger(__name__)

INPUT = "input"
"""Name of the input where there is one only; several are called ``input_`` and their kind (and number)."""

_SLACK = 0.9  # whole tracks may differ this much in length and still count as equally long

Readers = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InputShape:
    """Size of one input, and what the loader needs to cut it.

    Attributes
    ----------
    n_mels, n_frames : int
        Of the first input; a waveform has one "band", and its frames are samples.
    stride : int
        Frames between evaluation windows.
    grid : int
        Frames between possible starts of random crops.
    kind : {"spectrum", "waveform"}
    shapes : mapping of str to (bands, frames)
        Of every input by name; empty where there is one only.
    """

    n_mels: int
    n_frames: int
    stride: int
    grid: int = 1
    kind: Literal["spectrum", "waveform"] = "spectrum"
    shapes: Mapping[str, tuple[int, int]] | None = None

    @property
    def in_channels(self) -> int:
        """Inputs of one example."""
        return len(self.shapes) if self.shapes else 1

    def sizes(self, *, takes_dict: bool = False) -> dict[str, Any]:
        """Sizes that a model is built with, but for its classes.

        Raises
        ------
        ConfigError
            Inputs of different shapes for a model that would stack them.
        """
        if self.shapes and takes_dict:
            return {"shapes": {name: tuple(shape) for name, shape in self.shapes.items()}}
        if self.shapes and len({tuple(shape) for shape in self.shapes.values()}) > 1:
            listed = ", ".join(f"{name} {bands} x {frames}" for name, (bands, frames) in self.shapes.items())
            raise ConfigError(
                f"inputs of different shapes cannot be stacked: {listed}",
                "training",
                "Choose features of one size and hop, or a model that takes them by name",
            )
        if self.kind == "waveform":
            return {"n_samples": self.n_frames, "in_channels": self.in_channels}
        return {"n_mels": self.n_mels, "n_frames": self.n_frames, "in_channels": self.in_channels}

    def example(self, *, takes_dict: bool = False) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """Shape of a batch of one example, as the model meets it."""
        if self.shapes and takes_dict:
            waves = f"{INPUT}_waveform"
            return {
                name: (1, 1, frames) if name.startswith(waves) else (1, 1, bands, frames)
                for name, (bands, frames) in self.shapes.items()
            }
        if self.kind == "waveform":
            return (1, self.in_channels, self.n_frames)
        return (1, self.in_channels, self.n_mels, self.n_frames)


def input_names(kinds: list[str]) -> list[str]:
    """Names of the inputs of a run from the kinds of its features.

    Examples
    --------
    >>> input_names(["mel"]), input_names(["mel", "waveform"]), input_names(["mel", "mel"])
    (['input'], ['input_mel', 'input_waveform'], ['input_mel_1', 'input_mel_2'])
    """
    if len(kinds) == 1:
        return [INPUT]
    names = []
    for place, kind in enumerate(kinds):
        number = f"_{1 + kinds[:place].count(kind)}" if kinds.count(kind) > 1 else ""
        names.append(f"{INPUT}_{kind}{number}")
    return names


def inputs_of(batch: Mapping[str, torch.Tensor], device: torch.device) -> Inputs:
    """Inputs of a batch, on a device: a tensor where there is one, else all by name."""
    if INPUT in batch:
        return moved(batch[INPUT], device)
    names = [name for name in batch if name.startswith(f"{INPUT}_") and not name.endswith("_mask")]
    return moved({name: batch[name] for name in names}, device)


def input_shape(readers: Readers, labelled: LabelledTracks, config: DataConfig) -> InputShape:
    """Decide how many frames an input has.

    Raises
    ------
    ConfigError
        A feature is neither a spectrogram nor a waveform, or whole tracks were asked for and they differ in length.
    """
    bands = {name: _bands(reader) for name, reader in readers.items()}
    first = next(iter(readers.values()))
    if getattr(first, "clip_frames", None) is not None:  # an input is one of the feature's own excerpts
        return _one_excerpt(readers, bands, config)
    hop = _hop(first)
    excerpt = _excerpt_frames(first, config)
    n_frames = excerpt or config.crop_frames
    if n_frames is None and config.crop_s is not None:
        n_frames = max(1, int(Fraction(config.crop_s).limit_denominator(10**6) / hop))
    if n_frames is None:
        n_frames = min(
            _frames_of_whole_tracks(first, labelled),
            *(int(_frames_of_whole_tracks(other, labelled) * _hop(other) / hop) for other in readers.values()),
        )
    stride, grid = n_frames, 1
    if config.window_stride_s is not None and excerpt is None:
        stride = max(1, round(Fraction(config.window_stride_s).limit_denominator(10**6) / hop))
    if config.crop_grid_s is not None and excerpt is None:
        grid = max(1, round(Fraction(config.crop_grid_s).limit_denominator(10**6) / hop))
    frames = {name: max(1, round(n_frames * hop / _hop(reader))) for name, reader in readers.items()}
    shapes = {name: (bands[name], frames[name]) for name in readers} if len(readers) > 1 else None
    return InputShape(next(iter(bands.values())), int(n_frames), int(stride), int(grid), _kind(first), shapes)


def _kind(reader: Any) -> Literal["spectrum", "waveform"]:
    return "waveform" if reader.spec.kind == "waveform" else "spectrum"


def _one_excerpt(readers: Readers, bands: Mapping[str, int], config: DataConfig) -> InputShape:
    reader = next(iter(readers.values()))
    frames, seconds = int(reader.clip_frames), reader.spec.clip.length_s
    if config.crop_frames not in (None, frames) or config.crop_s not in (None, seconds):
        asked = f"crop_frames={config.crop_frames}" if config.crop_frames else f"crop_s={config.crop_s:g}"
        raise ConfigError(
            f"data.{asked}, but the feature is excerpts of {frames} frames ({seconds:g} s)",
            str(reader.name),
            "Leave it out: an input is one excerpt. For other lengths extract the feature with clip=whole",
        )
    shapes = {name: (bands[name], frames) for name in readers} if len(readers) > 1 else None
    return InputShape(next(iter(bands.values())), frames, frames, 1, _kind(reader), shapes)


def _excerpt_frames(reader: Any, config: DataConfig) -> int | None:
    """Frames of the feature's own excerpts, where it has such: an input is one of them."""
    frames = getattr(reader, "clip_frames", None)
    if frames is None:
        return None
    seconds = reader.spec.clip.length_s
    if config.crop_frames not in (None, frames) or config.crop_s not in (None, seconds):
        asked = f"crop_frames={config.crop_frames}" if config.crop_frames else f"crop_s={config.crop_s:g}"
        raise ConfigError(
            f"data.{asked}, but the feature is excerpts of {frames} frames ({seconds:g} s)",
            str(reader.name),
            "Leave it out: an input is one excerpt. For other lengths extract the feature with clip=whole",
        )
    return int(frames)


def _bands(reader: Any) -> int:
    axes = tuple(reader.shape_of_item)
    if reader.spec.kind == "waveform" and not axes:
        return 1
    if len(axes) != 1:
        raise ConfigError(
            f"a track of this feature has axes {axes} before time, the model needs one (bands)", str(reader.name)
        )
    return int(axes[0])


def _hop(reader: Any) -> Fraction:
    """Seconds between frames."""
    return Fraction(int(reader.spec.frame_step), int(reader.spec.sample_rate))


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
    readers: Readers, part: SplitTracks, shape: InputShape, config: DataConfig, engine: Engine, **settings: Any
) -> BatchLoader:
    return BatchLoader(
        readers,
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
    readers: Readers, labelled: LabelledTracks, shape: InputShape, config: DataConfig, engine: Engine, *, seed: int
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
        readers,
        part,
        shape,
        config,
        engine,
        mode="random",
        shuffle=True,
        seed=seed,
        crops_per_track=config.crops_per_track,
        distinct=config.distinct_crops,
        start_grid=shape.grid,
        drop_last=len(part) * config.crops_per_track >= config.batch_size,
    )


def evaluation_loader(
    readers: Readers, part: SplitTracks, shape: InputShape, config: DataConfig, engine: Engine, *, windows: int = 0
) -> BatchLoader:
    """Windows of each track of a split, in the table's order: all that cover it, or about so many, spread over it."""
    settings: dict[str, Any] = {"mode": "windows", "shuffle": False, "window_stride": shape.stride}
    if windows:
        first = next(iter(readers.values()))
        excerpt = shape.n_frames if getattr(first, "clip_frames", None) else 1  # lengths are counted in excerpts
        room = int(_lengths(first, part.track_ids).max()) * excerpt - shape.n_frames
        apart = max(room // (windows - 1), 1) if windows > 1 else room + 1
        apart = -(-apart // excerpt) * excerpt
        settings |= {"window_stride": max(shape.stride, apart), "tail": "drop"}
    return _loader(readers, part, shape, config, engine, **settings)


def input_norm(readers: Readers, labelled: LabelledTracks, how: str) -> torch.nn.Module | None:
    """Statistics of the training split as a module (one for each of several inputs); None where none are wanted."""
    if how == "none":
        return None
    norms = {name: _norm_of(reader, labelled, how) for name, reader in readers.items()}
    return norms[INPUT] if INPUT in norms else torch.nn.ModuleDict(norms)


def _norm_of(reader: Any, labelled: LabelledTracks, how: str) -> InputNorm:
    statistics = band_statistics(reader, labelled.splits["train"].track_ids)
    mean, std = statistics.mean, statistics.std
    if how == "global":
        variance = float(np.mean(std**2 + mean**2) - np.mean(mean) ** 2)
        mean, std = np.full_like(mean, mean.mean()), np.full_like(std, variance**0.5)
    return InputNorm(mean, std)
