"""All that a run is made of, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featstore.training import OBJECTIVES
from featstore.training.config import TrainConfig
from featstore.training.folders import RunFolder
from featstore.training.input_shape import InputShape, Readers
from featstore.training.labels import LabelledTracks
from featstore.training.progress import Progress

__all__ = ["HEADER_KEYS", "Job", "Outcome"]

HEADER_KEYS: tuple[str, ...] = ("run_id", "model", "feature", "model_settings", "input", "classes", "task", "objective")
"""What a checkpoint repeats of its run's description."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that a run is made of; it travels to the processes that do it.

    Attributes
    ----------
    readers : mapping of str to FeatureReader
        Inputs by name.
    labelled : LabelledTracks
    shape : InputShape
    config : TrainConfig
    folder : RunFolder
    run : mapping
        The run's description, as ``run.json`` has it.
    beside : mapping of str to FeatureReader
        What the objective reads besides the inputs, by feature.
    probe : LabelledTracks or None
        Labels of linear probes during pretraining.
    """

    readers: Readers
    labelled: LabelledTracks
    shape: InputShape
    config: TrainConfig
    folder: RunFolder
    run: Mapping[str, Any]
    beside: Readers = field(default_factory=dict)
    probe: LabelledTracks | None = None

    @property
    def objective(self) -> Any:
        """Class of the objective."""
        return OBJECTIVES.load(self.config.objective.name)

    @property
    def monitor(self) -> str:
        """The score that chooses the best weights."""
        monitor = self.config.loop.monitor
        return str(self.objective.monitor) if monitor == "auto" else monitor

    def header(self, trunk: Collection[str] = ()) -> dict[str, Any]:
        """What a checkpoint says of its run: :data:`HEADER_KEYS`, and the parameters that were taken over."""
        return {key: self.run[key] for key in HEADER_KEYS} | {"trunk": sorted(trunk)}

    @property
    def macs_per_batch(self) -> float:
        """Multiply-accumulates of one forward pass of a batch."""
        return float(self.config.data.batch_size * self.run["macs"])

    @property
    def kept(self) -> Path:
        """Path of the checkpoint that is scored in the end."""
        return self.folder.best if self.config.loop.keep == "best" else self.folder.last


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job.

    Attributes
    ----------
    parts : list of Scored
        Of each split that is scored: ``Predictions``, or what the objective makes of it.
    progress : Progress
    device : str
        Type of the device.
    fit : dict
        Of a model that was fitted: what was chosen, and what else was tried.
    """

    parts: list[Any]
    progress: Progress
    device: str
    fit: dict[str, Any] = field(default_factory=dict)
