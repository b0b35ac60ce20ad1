"""All settings of a training run: one frozen dataclass a section, each key with one reader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from featstore.atomic import canonical_json
from featstore.training.config_data import AugmentConfig, DataConfig, EvaluateConfig
from featstore.training.config_loop import (
    DeviceConfig,
    LoopConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ScheduleConfig,
    StartConfig,
)
from featstore.training.settings import as_mapping, from_mapping, merge, parse_assignments, read_yaml, require

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "DeviceConfig",
    "EvaluateConfig",
    "LoopConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "StartConfig",
    "TrainConfig",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Settings of a run, all of them.

    ``model`` holds the model's own settings by name; they are checked when it is built.

    Examples
    --------
    >>> config = TrainConfig.resolve(assignments=["loop.epochs=3", "model.width=0.125"], seed=7)
    >>> config.loop.epochs, config.model, config.seed
    (3, {'width': 0.125}, 7)
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: dict[str, Any] = field(default_factory=dict)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    start: StartConfig = field(default_factory=StartConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, f"seed={self.seed} is out of range", "training settings", "0 <= seed < 2**31")

    @classmethod
    def resolve(
        cls,
        settings: Mapping[str, Any] | None = None,
        *,
        file: str | Path | None = None,
        assignments: Iterable[str] = (),
        seed: int | None = None,
    ) -> TrainConfig:
        """Settings from, in rising order: the defaults, a YAML file, a mapping, ``section.key=value`` texts, the seed.

        Raises
        ------
        ConfigError
            For an unknown key, with near misses, or a value that cannot be.
        """
        merged: dict[str, Any] = read_yaml(file) if file is not None else {}
        merged = merge(merge(merged, settings or {}), parse_assignments(assignments))
        config = from_mapping(cls, merged)
        return config if seed is None else replace(config, seed=seed)

    def as_mapping(self) -> dict[str, Any]:
        """All settings as plain values."""
        return as_mapping(self)

    def identity(self) -> dict[str, Any]:
        """Settings that decide the result: not which device, where features are held, or how often state is kept."""
        plain = self.as_mapping()
        plain["device"] = {"precision": self.device.precision}
        for name in ("tier", "threads"):
            del plain["data"][name]
        for name in ("checkpoint_batches", "checkpoint_minutes", "probe_every", "probe_tracks", "trackers"):
            del plain["loop"][name]
        return plain

    @staticmethod
    def digest(*parts: Any) -> str:
        """Short digest of plain values, as git names a commit."""
        return hashlib.sha256(canonical_json(list(parts))).hexdigest()[:12]
