"""All settings of a training run: one frozen dataclass a section, each key with one reader."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from featstore.atomic import canonical_json
from featstore.errors import did_you_mean
from featstore.metrics import METRICS
from featstore.training.settings import as_mapping, from_mapping, merge, parse_assignments, read_yaml, require

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "DeviceConfig",
    "EvaluateConfig",
    "LoopConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "StartConfig",
    "TrainConfig",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What is trained on.

    Parameters
    ----------
    split : {"given", "random", "folds"}
        The table's own splits; a random one drawn from ``split_seed``, whole groups at a time; or cross-validation.
    fractions : three numbers
        Shares of train, valid and test of a random split.
    folds, fold : int
        Number of folds, and which one is tested on (the next one validates).
    split_seed : int
        Of random splits and folds; apart from ``seed``, so that runs with other seeds see the same tracks.
    label_column : str
        Column of the track table; empty for the table's own labels.
    task : {"auto", "multi_label", "single_label"}
        ``auto`` goes by the table.
    classes : list of str
        Labels to learn, in order; empty for the table's list, or all that occur, sorted.
    crop_s : float or None
        Seconds of one input: as many whole frames as fit. None and no ``crop_frames``: whole tracks.
    crop_frames : int or None
        The same in frames; it goes before ``crop_s``.
    crops_per_track : int
        Random crops of each track in an epoch.
    window_stride_s : float or None
        Seconds between evaluation windows; None puts them side by side.
    batch_size : int
        Crops in one step of the optimizer's global batch.
    ragged : {"error", "skip", "pad"}
        Tracks shorter than the crop.
    missing : {"skip", "error"}
        Tracks that the store lacks (they failed in extraction): left out with a warning, or an error.
    tier : {"auto", "disk", "ram", "gpu"}
        Where the loader holds the features.
    threads : int or None
        Reading threads; None lets the loader choose.
    normalize : {"auto", "none", "band", "global"}
        Subtract mean and divide by deviation of the training split, per band or over all; ``auto`` is the model's.
    """

    split: Literal["given", "random", "folds"] = "given"
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    folds: int = 5
    fold: int = 0
    split_seed: int = 0
    label_column: str = ""
    task: Literal["auto", "multi_label", "single_label"] = "auto"
    classes: tuple[str, ...] = ()
    crop_s: float | None = None
    crop_frames: int | None = None
    crops_per_track: int = 1
    window_stride_s: float | None = None
    batch_size: int = 32
    ragged: Literal["error", "skip", "pad"] = "error"
    missing: Literal["skip", "error"] = "skip"
    tier: Literal["auto", "disk", "ram", "gpu"] = "auto"
    threads: int | None = None
    normalize: Literal["auto", "none", "band", "global"] = "auto"

    def __post_init__(self) -> None:
        right = len(self.fractions) == 3 and min(self.fractions) >= 0 and abs(sum(self.fractions) - 1) < 1e-6
        require(right, f"fractions={self.fractions} are not three shares of a whole", "data")
        require(self.fractions[0] > 0, "fractions leave nothing to train on", "data")
        require(self.folds >= 3, f"folds={self.folds}", "data", "Use at least 3: one tests, one validates")
        require(0 <= self.fold < self.folds, f"fold={self.fold} of {self.folds}", "data", "Folds count from 0")
        for name in ("crop_s", "crop_frames", "window_stride_s"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name}={value} is not positive", "data")
        for name in ("crops_per_track", "batch_size"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is not positive", "data")
        require(self.threads is None or self.threads >= 0, f"threads={self.threads} is negative", "data")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """How weights move. ``sgd`` uses Nesterov momentum; ``weight_decay`` is decoupled for ``adamw`` only."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"learning_rate={self.learning_rate} is not positive", "optimizer")
        require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} is negative", "optimizer")
        for name in ("momentum", "beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"{name}={getattr(self, name)} is not in [0, 1)", "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes.

    Parameters
    ----------
    name : {"constant", "step", "cosine", "plateau"}
        Step multiplies by ``factor`` every ``step_epochs``, or at each of ``milestones``; cosine falls to ``minimum``
        times the rate by the last epoch; plateau multiplies by ``factor`` when the monitored score has not improved
        for ``patience`` validations.
    milestones : list of int
        Epochs, counted from 0, at whose start a step schedule steps down; empty goes by ``step_epochs``.
    warmup_epochs : float
        Length of the warm-up, in (parts of) epochs, under any schedule.
    warmup_factor : float or None
        None rises in a line from zero to the full rate; a number holds the rate at that multiple and then jumps.
    minimum : float
        Smallest multiple of the learning rate.
    """

    name: Literal["constant", "step", "cosine", "plateau"] = "constant"
    step_epochs: int = 10
    milestones: tuple[int, ...] = ()
    factor: float = 0.5
    patience: int = 5
    warmup_epochs: float = 0.0
    warmup_factor: float | None = None
    minimum: float = 0.0

    def __post_init__(self) -> None:
        require(self.step_epochs >= 1, f"step_epochs={self.step_epochs} is not positive", "schedule")
        require(0 < self.factor < 1, f"factor={self.factor} is not in (0, 1)", "schedule")
        require(self.patience >= 0, f"patience={self.patience} is negative", "schedule")
        require(self.warmup_epochs >= 0, f"warmup_epochs={self.warmup_epochs} is negative", "schedule")
        require(list(self.milestones) == sorted(set(self.milestones)), f"milestones={self.milestones}", "schedule")
        require(self.warmup_factor is None or self.warmup_factor >= 0, "warmup_factor is negative", "schedule")
        require(0 <= self.minimum < 1, f"minimum={self.minimum} is not in [0, 1)", "schedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long and how.

    Parameters
    ----------
    epochs : int
        Passes over the training split at most.
    patience : int
        Stop when the monitored score has not improved for so many validations; 0 never stops early.
    monitor : str
        Metric of the validation split that chooses the best checkpoint; ``loss`` also works.
    keep : {"best", "last"}
        Which weights are scored in the end.
    validate_every : int
        Epochs between validations.
    validation_windows : int
        Windows of each track in these validations, spread over it; 0 takes all, as the final scores always do.
    accumulate : int
        Batches whose gradients are summed before a step; the effective batch is so many times larger.
    clip_norm : float or None
        Largest norm of the gradient.
    class_weights : {"none", "balanced"}
        ``balanced`` weighs classes (single-label) or positives (multi-label, at most 100 times) by their rarity.
    label_smoothing : float
        Share of the target spread evenly (single-label), or drawn towards one half (multi-label).
    ema : float
        Decay of an average of the weights, which is then what is validated and kept; 0 keeps none.
    checkpoint_batches : int
        Also keep the last state every so many batches; 0 leaves it to ``checkpoint_minutes``.
    checkpoint_minutes : float
        Keep the last state after so many minutes within an epoch.
    trackers : list of {"wandb", "mlflow"}
        Pass the metrics of each epoch on to these as well.
    """

    epochs: int = 50
    patience: int = 10
    monitor: str = "roc_auc"
    keep: Literal["best", "last"] = "best"
    validate_every: int = 1
    validation_windows: int = 0
    accumulate: int = 1
    clip_norm: float | None = None
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = 0.0
    ema: float = 0.0
    checkpoint_batches: int = 0
    checkpoint_minutes: float = 10.0
    trackers: tuple[Literal["wandb", "mlflow"], ...] = ()

    def __post_init__(self) -> None:
        for name in ("epochs", "validate_every", "accumulate"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is not positive", "loop")
        for name in ("patience", "checkpoint_batches", "validation_windows"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} is negative", "loop")
        monitors = [*METRICS, "loss"]
        require(self.monitor in monitors, f"monitor={self.monitor!r}", "loop", did_you_mean(self.monitor, monitors))
        require(self.checkpoint_minutes > 0, f"checkpoint_minutes={self.checkpoint_minutes} is not positive", "loop")
        require(self.clip_norm is None or self.clip_norm > 0, f"clip_norm={self.clip_norm} is not positive", "loop")
        for name in ("ema", "label_smoothing"):
            require(0 <= getattr(self, name) < 1, f"{name}={getattr(self, name)} is not in [0, 1)", "loop")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How training inputs are varied; nothing by default, nothing ever in evaluation.

    Parameters
    ----------
    gain_db : float
        Louder or softer by up to so many decibels.
    noise : float
        Deviation of Gaussian noise, in the feature's unit.
    band_masks, band_width : int
        Number of masks over bands of each example, and the widest one.
    time_masks, time_width : int
        The same over frames.
    mixup : float
        Parameter of the Beta distribution of mixing weights; 0 mixes nothing.
    """

    gain_db: float = 0.0
    noise: float = 0.0
    band_masks: int = 0
    band_width: int = 8
    time_masks: int = 0
    time_width: int = 16
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gain_db", "noise", "band_masks", "time_masks", "mixup"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} is negative", "augment")
        for name in ("band_width", "time_width"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} is not positive", "augment")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartConfig:
    """Where weights come from, for fine-tuning.

    Parameters
    ----------
    run : str
        Folder of a run, or a checkpoint file: every tensor of it that fits is loaded (the trunk); empty starts fresh.
    trunk_rate : float
        Multiple of the learning rate for what was loaded.
    freeze_epochs : float
        Leave it as it is for so many epochs.
    """

    run: str = ""
    trunk_rate: float = 1.0
    freeze_epochs: float = 0.0

    def __post_init__(self) -> None:
        require(self.trunk_rate >= 0, f"trunk_rate={self.trunk_rate} is negative", "start")
        require(self.freeze_epochs >= 0, f"freeze_epochs={self.freeze_epochs} is negative", "start")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How tracks are scored.

    Parameters
    ----------
    pool : {"mean_probability", "mean_logit", "majority"}
        From windows to a track: mean of probabilities (a soft vote); mean of logits (the normalised product of
        probabilities); share of the windows that decide for a class (a hard vote).
    splits : list of str
        Splits that are scored at the end.
    bootstrap : int
        Resamples of the tracks for 95 % intervals; 0 gives none.
    """

    pool: Literal["mean_probability", "mean_logit", "majority"] = "mean_probability"
    splits: tuple[str, ...] = ("valid", "test")
    bootstrap: int = 200

    def __post_init__(self) -> None:
        require(len(self.splits) > 0, "no split to evaluate", "evaluate", "Name at least one")
        require(self.bootstrap >= 0, f"bootstrap={self.bootstrap} is negative", "evaluate")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """Where it runs; of these only the precision is part of a run's identity.

    Parameters
    ----------
    accelerator : {"auto", "cpu", "cuda"}
    devices : int
        Devices of this machine, one process each.
    precision : {"32", "16-mixed", "bf16-mixed"}
    channels_last : bool
        Keep images with channels last: twice as fast on a CPU.
    threads : int or None
        Arithmetic threads of one process on the CPU; None takes one for small models and torch's choice for others.
    compile : bool
        Compile the model (takes a minute, pays on long runs).
    deterministic : bool
        Only algorithms that give the same bits every time.
    keep_memory : bool
        On the CPU, hold on to freed memory instead of giving it back after each step: a tenth faster.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    channels_last: bool = True
    threads: int | None = None
    compile: bool = False
    deterministic: bool = False
    keep_memory: bool = True

    def __post_init__(self) -> None:
        require(self.devices >= 1, f"devices={self.devices} is not positive", "device")
        require(self.threads is None or self.threads >= 1, f"threads={self.threads} is not positive", "device")


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
        for name in ("checkpoint_batches", "checkpoint_minutes", "trackers"):
            del plain["loop"][name]
        return plain

    @staticmethod
    def digest(*parts: Any) -> str:
        """Short digest of plain values, as git names a commit."""
        return hashlib.sha256(canonical_json(list(parts))).hexdigest()[:12]
