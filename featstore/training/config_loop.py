"""Settings of how a run is trained: objective, start, optimizer, schedule, loop, device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from featstore.errors import did_you_mean
from featstore.metrics import METRICS
from featstore.training import OBJECTIVES
from featstore.training.settings import Range, Section, require

__all__ = ["DeviceConfig", "LoopConfig", "ObjectiveConfig", "OptimizerConfig", "ScheduleConfig", "StartConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig(Section):
    """What is minimised; each objective has settings of its own beside its name.

    Parameters
    ----------
    name : str
        An entry of ``featstore.training.OBJECTIVES``: ``supervised`` learns the labels of the track table, ``masked``
        values of the input that were hidden, which needs no labels.
    """

    section: ClassVar[str] = "objective"

    name: str = "supervised"

    @staticmethod
    def kind_for(settings: Mapping[str, Any]) -> type[ObjectiveConfig]:
        """Type of the settings of the objective that they name."""
        name = str(settings.get("name", "supervised"))
        require(name in OBJECTIVES, f"objective.name={name!r}", "training settings", did_you_mean(name, OBJECTIVES))
        return ObjectiveConfig if name == "supervised" else OBJECTIVES.load(name).Config


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig(Section):
    """How weights move. ``sgd`` uses Nesterov momentum; ``weight_decay`` is decoupled for ``adamw`` only.

    ``cutoff_rate`` is a multiple of the learning rate for learned cut-offs of filters (of ``sincnet``,
    ``ms-sinc-resnet``): they are in Hz and hardly move at the rate of the weights.
    """

    section: ClassVar[str] = "optimizer"

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Annotated[float, Range.POSITIVE] = 1e-3
    weight_decay: Annotated[float, Range.NOT_NEGATIVE] = 0.0
    momentum: Annotated[float, Range.BELOW_ONE] = 0.9
    nesterov: bool = True
    beta1: Annotated[float, Range.BELOW_ONE] = 0.9
    beta2: Annotated[float, Range.BELOW_ONE] = 0.999
    eps: float = 1e-8
    cutoff_rate: Annotated[float, Range.NOT_NEGATIVE] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig(Section):
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

    section: ClassVar[str] = "schedule"

    name: Literal["constant", "step", "cosine", "plateau"] = "constant"
    step_epochs: Annotated[int, Range.POSITIVE] = 10
    milestones: tuple[int, ...] = ()
    factor: Annotated[float, Range.PROPER_SHARE] = 0.5
    patience: Annotated[int, Range.NOT_NEGATIVE] = 5
    warmup_epochs: Annotated[float, Range.NOT_NEGATIVE] = 0.0
    warmup_factor: Annotated[float, Range.NOT_NEGATIVE] | None = None
    minimum: Annotated[float, Range.BELOW_ONE] = 0.0

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        require(list(self.milestones) == sorted(set(self.milestones)), f"milestones={self.milestones}", "schedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig(Section):
    """How long and how.

    Parameters
    ----------
    epochs : int
        Passes over the training split at most.
    patience : int
        Stop when the monitored score has not improved for this number of validations; 0 never stops early.
    monitor : str
        Metric of the validation split that chooses the best checkpoint; ``loss`` also works. ``auto`` is ``roc_auc``
        where labels are learnt, else ``loss``.
    keep : {"best", "last"}
        Which weights are scored in the end.
    validate_every : int
        Epochs between validations.
    validation_windows : int
        Windows of each track in these validations, spread over it; 0 takes all, as the final scores always do.
    accumulate : int
        Batches whose gradients are summed before a step; the effective batch is larger by this factor.
    clip_norm : float or None
        Largest norm of the gradient.
    class_weights : {"none", "balanced", "inverse", "inverse_sqrt", "logit_adjusted", "balanced_sampler"}
        ``balanced`` weighs classes (single-label) or positives (multi-label, at most 100 times) by their rarity;
        single-label: ``inverse`` does so at most 10 times, ``inverse_sqrt`` by the square root, and ``logit_adjusted``
        adds the logarithm of each class's share to its logit in training; ``balanced_sampler`` leaves the loss alone
        and takes more crops of the tracks of rare classes, at most 10 times as many, which makes an epoch longer.
    label_smoothing : float
        Share of the target spread evenly (single-label), or drawn towards one half (multi-label).
    ema : float
        Decay of an average of the weights, which is then what is validated and kept; 0 keeps none.
    checkpoint_batches : int
        Also keep the last state at this interval, in batches; 0 leaves it to ``checkpoint_minutes``.
    checkpoint_minutes : float
        Keep the last state at this interval within an epoch, in minutes.
    probe_every : int
        Optimizer steps between linear probes of the trunk on the labels, for pretraining: ``probes.jsonl`` keeps their
        scores beside the validation loss. 0 probes nothing.
    probe_tracks : int
        Training tracks that a probe is fitted to, at most.
    trackers : list of {"wandb", "mlflow"}
        Pass the metrics of each epoch on to these as well.
    """

    section: ClassVar[str] = "loop"

    epochs: Annotated[int, Range.POSITIVE] = 50
    patience: Annotated[int, Range.NOT_NEGATIVE] = 10
    monitor: str = "auto"
    keep: Literal["best", "last"] = "best"
    validate_every: Annotated[int, Range.POSITIVE] = 1
    validation_windows: Annotated[int, Range.NOT_NEGATIVE] = 0
    accumulate: Annotated[int, Range.POSITIVE] = 1
    clip_norm: Annotated[float, Range.POSITIVE] | None = None
    class_weights: Literal["none", "balanced", "inverse", "inverse_sqrt", "logit_adjusted", "balanced_sampler"] = "none"
    label_smoothing: Annotated[float, Range.BELOW_ONE] = 0.0
    ema: Annotated[float, Range.BELOW_ONE] = 0.0
    checkpoint_batches: Annotated[int, Range.NOT_NEGATIVE] = 0
    checkpoint_minutes: Annotated[float, Range.POSITIVE] = 10.0
    probe_every: Annotated[int, Range.NOT_NEGATIVE] = 0
    probe_tracks: Annotated[int, Range.POSITIVE] = 1000
    trackers: tuple[Literal["wandb", "mlflow"], ...] = ()

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        monitors = [*METRICS, "loss", "auto"]
        require(self.monitor in monitors, f"monitor={self.monitor!r}", "loop", did_you_mean(self.monitor, monitors))


@dataclass(frozen=True, slots=True, kw_only=True)
class StartConfig(Section):
    """Where weights come from, for fine-tuning.

    Parameters
    ----------
    run : str
        Folder of a run, or a checkpoint file, whose weights are taken over; empty starts fresh. The head (the layer
        that names the classes) is taken over where it fits; every other parameter (the trunk) must fit.
    weights : dict of str to str
        Local files with weights from elsewhere, by the part of the model that they fill, in place of ``run``: for
        ``resnet18``, ``trunk`` is an ImageNet ResNet-18. ``featstore models show NAME`` lists a model's parts. The
        folder of a run gives its part of the same name, and nothing else of it.
    strict : bool
        False takes over what fits of ``run``, if that is half of the parameters at least.
    trunk_rate : float
        Multiple of the learning rate for what was taken over. 0 freezes it for good, its norms and dropout included:
        what is trained is then a probe on a fixed trunk.
    freeze_epochs : float
        Keep it constant for this number of epochs.
    layer_decay : float in (0, 1]
        Multiple of the learning rate from each block of the trunk to the one before it.
    """

    section: ClassVar[str] = "start"

    run: str = ""
    weights: dict[str, str] = field(default_factory=dict)
    strict: bool = True
    trunk_rate: Annotated[float, Range.NOT_NEGATIVE] = 1.0
    freeze_epochs: Annotated[float, Range.NOT_NEGATIVE] = 0.0
    layer_decay: Annotated[float, Range.SHARE] = 1.0

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        both = bool(self.run) and bool(self.weights)
        require(not both, "run and weights are both given", "start", "A run holds weights of the whole trunk: drop one")

    @property
    def places(self) -> list[str]:
        """Runs and files that weights come from."""
        return [place for place in (self.run, *self.weights.values()) if place]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig(Section):
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
    sync_norms : bool
        Several CUDA devices: batch norms see the whole global batch instead of each device's part.
    keep_memory : bool
        On the CPU, hold on to freed memory instead of giving it back after each step: a tenth faster.
    """

    section: ClassVar[str] = "device"

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Range.POSITIVE] = 1
    precision: Literal["32", "16-mixed", "bf16-mixed"] = "32"
    channels_last: bool = True
    threads: Annotated[int, Range.POSITIVE] | None = None
    compile: bool = False
    deterministic: bool = False
    sync_norms: bool = False
    keep_memory: bool = True
