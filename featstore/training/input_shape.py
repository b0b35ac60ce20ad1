"""How many frames an input has, from the readers and the settings: what a model is built with and the loaders cut."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.errors import ConfigError
from featstore.loaders.crops import frame_seconds
from featstore.loaders.stored_feature import StoredFeature
from featstore.models.input_kinds import INPUT_KINDS, SEVERAL, InputSize, kind_of, plain_inputs, read_input
from featstore.models.interface import Model
from featstore.training.config import DataConfig
from featstore.training.labels import LabelledTracks

__all__ = ["INPUT", "InputShape", "Readers", "input_names", "input_shape", "lengths_of"]

logger = logging.getLogger(__name__)

INPUT = "input"
"""Name of the input where there is one only; several are called ``input_`` and their kind (and number)."""

_SLACK = 0.9  # whole tracks may differ this much in length and still count as equally long

Readers = Mapping[str, StoredFeature]


@dataclass(frozen=True, slots=True)
class InputShape:
    """Sizes of the inputs of an example, and what the loader needs to cut them.

    Attributes
    ----------
    inputs : mapping of str to InputSize
        By name, in order. The first one's frames are what the loader counts in.
    stride : int
        Frames between evaluation windows.
    grid : int
        Frames between possible starts of random crops.
    """

    inputs: Mapping[str, InputSize]
    stride: int
    grid: int = 1

    @property
    def first(self) -> InputSize:
        """Size of the first input."""
        return next(iter(self.inputs.values()))

    @property
    def n_frames(self) -> int:
        """Frames of the first input; of a waveform, its samples."""
        return self.first.axes[-1]

    @property
    def n_values(self) -> int:
        """Values of a frame, all inputs together."""
        return sum(size.axes[0] for size in self.inputs.values())

    def sizes(self, model: type[Model]) -> dict[str, Any]:
        """Sizes that a model is built with, but for its classes.

        Raises
        ------
        ConfigError
            Inputs of different kinds or sizes for a model that would stack them.
        """
        if model.takes == SEVERAL:
            return {"inputs": dict(self.inputs)}
        if len(set(self.inputs.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in self.inputs.items())
            raise ConfigError(
                f"inputs of different shapes cannot be stacked: {listed}",
                "training",
                "Choose features of one size and hop, or a model that takes them by name",
            )
        return {**self._taken(model).sizes, "in_channels": len(self.inputs)}

    def example(self, model: type[Model], n: int = 1) -> torch.Tensor | dict[str, torch.Tensor]:
        """Batch of ``n`` examples on the device ``meta``, as the model takes it."""
        if model.takes == SEVERAL:
            return {name: size.batch(n) for name, size in self.inputs.items()}
        return self._taken(model).batch(n, channels=len(self.inputs))

    def _taken(self, model: type[Model]) -> InputSize:
        """Size of the first input as the model takes it: frames of several layers are a picture for one of spectra."""
        return self.first.as_picture if self.is_picture(model) else self.first

    def is_picture(self, model: type[Model]) -> bool:
        """Whether frames of several layers stand for a spectrum: for models that take one."""
        return model.takes == "spectrum" and self.first.kind == "embedding" and self.n_frames > 1

    def as_mapping(self) -> dict[str, Any]:
        """Plain values, as ``run.json`` has them."""
        plain = plain_inputs(self.inputs)
        return {"n_frames": self.n_frames, "stride": self.stride, "grid": self.grid, "inputs": plain}

    @classmethod
    def from_mapping(cls, plain: Any, where: str = "") -> InputShape:
        """Undo ``as_mapping``; plain values of another shape raise ``ConfigError``."""
        return cls(*read_input(plain, where))


def input_names(kinds: Sequence[str]) -> list[str]:
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


def input_shape(readers: Readers, labelled: LabelledTracks, config: DataConfig) -> InputShape:
    """Decide how many frames an input has.

    Raises
    ------
    ConfigError
        No model takes a feature like this, the settings ask for another length than the feature's own excerpts have, or
        whole tracks were asked for and they differ in length.
    """
    first = next(iter(readers.values()))
    if first.clip_frames is not None:  # an input is one of the feature's own excerpts
        n_frames = _excerpt_frames(first, first.clip_frames, config)
        return InputShape({name: _size(reader, n_frames) for name, reader in readers.items()}, n_frames)
    hop = frame_seconds(first.spec)

    def in_frames(seconds: float | None, otherwise: int) -> int:
        return otherwise if seconds is None else max(1, round(Fraction(seconds).limit_denominator(10**6) / hop))

    n_frames = config.crop_frames or 0
    if not n_frames and config.crop_s is not None:
        n_frames = max(1, int(Fraction(config.crop_s).limit_denominator(10**6) / hop))
    if not n_frames:
        whole = (_frames_of_whole_tracks(each, labelled) * frame_seconds(each.spec) / hop for each in readers.values())
        n_frames = min(map(int, whole))
    sizes = {
        name: _size(reader, max(1, round(n_frames * hop / frame_seconds(reader.spec))))
        for name, reader in readers.items()
    }
    return InputShape(sizes, in_frames(config.window_stride_s, n_frames), in_frames(config.crop_grid_s, 1))


def _size(reader: StoredFeature, n_frames: int) -> InputSize:
    """Size of an input of ``n_frames`` frames, from the axes of the feature."""
    kind = kind_of(reader.item_dims, reader.name)
    n_codes = reader.spec.vocabulary if INPUT_KINDS[kind].vocabulary else None
    return InputSize(kind, (*reader.shape_of_item, n_frames), n_codes)


def _excerpt_frames(reader: StoredFeature, frames: int, config: DataConfig) -> int:
    seconds = reader.spec.clip.length_s
    if config.crop_frames not in (None, frames) or config.crop_s not in (None, seconds):
        asked = f"crop_frames={config.crop_frames}" if config.crop_frames else f"crop_s={config.crop_s:g}"
        raise ConfigError(
            f"data.{asked}, but the feature is excerpts of {frames} frames ({seconds:g} s)",
            reader.name,
            "Leave it out: an input is one excerpt. For other lengths extract the feature with clip=whole",
        )
    return frames


def _frames_of_whole_tracks(reader: StoredFeature, labelled: LabelledTracks) -> int:
    """Length of the shortest track, when all are about as long: files of one duration differ by a frame or two."""
    lengths = lengths_of(reader, [track for part in labelled.splits.values() for track in part.track_ids])
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest < _SLACK * longest:
        raise ConfigError(
            f"whole tracks differ in length, from {shortest} to {longest} frames",
            reader.name,
            "Choose the length of an input: --set data.crop_s=3",
        )
    if shortest < longest:
        logger.info("tracks have %d to %d frames; inputs are %d frames", shortest, longest, shortest)
    return shortest


def lengths_of(reader: StoredFeature, track_ids: Sequence[str]) -> NDArray[np.int64]:
    """Frames of each track."""
    return reader.lengths[[reader.row_of(track) for track in track_ids]]
