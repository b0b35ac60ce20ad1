"""The work of one process of a run: build what the loop needs, train, and score the weights that were kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from featstore.errors import CheckpointError, ConfigError
from featstore.models import MODELS, create
from featstore.training.augment import make_augmentation
from featstore.training.checkpoints import load_checkpoint, load_module
from featstore.training.config import TrainConfig
from featstore.training.engines import Engine, make_engine, process_settings, seed_everything
from featstore.training.feeding import InputShape, evaluation_loader, input_norm, training_loader
from featstore.training.folders import RunFolder
from featstore.training.labels import LabelledTracks
from featstore.training.loop import Loop, LoopParts, Validate
from featstore.training.losses import balanced_weights, make_loss
from featstore.training.objectives import Objective, Scored, Supervised
from featstore.training.optimizers import make_optimizer
from featstore.training.progress import Progress, shown_bar
from featstore.training.reconstruction import Masked
from featstore.training.scoring import predict
from featstore.training.starting import head_of, layer_scales, load_start, start_tensors
from featstore.training.tagger import InputNorm, Reconstructor, Tagger
from featstore.training.trackers import TRACKERS, Tracker

__all__ = ["HEADER_KEYS", "Job", "Outcome", "build_tagger", "score_splits", "tagger_of_checkpoint", "work"]

logger = logging.getLogger(__name__)

HEADER_KEYS = ("run_id", "model", "feature", "model_settings", "input", "classes", "task")
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
    """

    readers: Mapping[str, Any]
    labelled: LabelledTracks
    shape: InputShape
    config: TrainConfig
    folder: RunFolder
    run: Mapping[str, Any]

    @property
    def reader(self) -> Any:
        """The first input."""
        return next(iter(self.readers.values()))

    @property
    def is_supervised(self) -> bool:
        """Whether labels are learnt."""
        return self.config.objective.name == "supervised"

    @property
    def monitor(self) -> str:
        """The score that chooses the best weights."""
        monitor = self.config.loop.monitor
        return ("roc_auc" if self.is_supervised else "loss") if monitor == "auto" else monitor

    @property
    def macs_per_batch(self) -> float:
        """Multiply-accumulates of one forward pass of a batch."""
        return float(self.config.data.batch_size * self.run["macs"])

    @property
    def kept(self) -> Any:
        """Path of the checkpoint that is scored in the end."""
        return self.folder.best if self.config.loop.keep == "best" else self.folder.last


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job.

    Attributes
    ----------
    parts : list of Scored
        Of each split that is scored: ``Predictions``, or ``Reconstruction``.
    progress : Progress
    device : str
        Type of the device.
    """

    parts: list[Any]
    progress: Progress
    device: str


def work(fabric: Any, job: Job) -> Outcome:
    """Train and score in this process (one of several when Fabric has launched them).

    Raises
    ------
    ConfigError
        Out of memory, with a batch size to try.
    """
    engine = make_engine(fabric)
    try:
        with process_settings(job.config.device, macs_per_batch=job.macs_per_batch):
            trackers = [] if engine.rank else _trackers(job)
            progress = _make_loop(engine, job, trackers).run()
            for tracker in trackers:
                tracker.finish()
            engine.gather(None)  # nobody reads a checkpoint before the first process has written it
            tagger = tagger_of_checkpoint(job.run, job.kept).to(engine.device)
            names = [name for name in job.config.evaluate.splits if name in job.labelled.splits]
            return Outcome(score_splits(tagger, job, names, engine), progress, engine.device.type)
    except RuntimeError as error:
        message = str(error)
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in message or "not enough memory" in message:
            raise _out_of_memory(job.config, message) from error
        raise


def _trackers(job: Job) -> list[Tracker]:
    names = job.config.loop.trackers
    return [TRACKERS.load(name)(job.run, job.config.as_mapping()) for name in names]


def _out_of_memory(config: TrainConfig, reason: str) -> ConfigError:
    size, summed = config.data.batch_size, config.loop.accumulate
    fix = f"Try --set data.batch_size={max(1, size // 2)} --set loop.accumulate={2 * summed}"
    return ConfigError(f"out of memory with data.batch_size={size}: {reason.splitlines()[0]}", "training", fix)


def build_tagger(run: Mapping[str, Any], norm: torch.nn.Module | None, *, channels_last: bool = True) -> Tagger:
    """Model of a run with fresh weights."""
    shape = InputShape(**run["input"])
    takes_dict = bool(getattr(MODELS.load(run["model"]), "takes_dict", False))
    n_classes = max(1, len(run["classes"]))
    model = create(run["model"], n_classes=n_classes, **shape.sizes(takes_dict=takes_dict), **run["model_settings"])
    if run["task"] != "none":
        return Tagger(model, norm, channels_last=channels_last)
    n_values = shape.n_mels * shape.in_channels
    return Reconstructor(model, norm, n_values=n_values, head=head_of(model), channels_last=channels_last)


def tagger_of_checkpoint(run: Mapping[str, Any], path: Any) -> Tagger:
    """Model with the weights of a checkpoint: their average where it has one.

    Raises
    ------
    CheckpointError
        The checkpoint is missing, damaged, or of another model or feature than the run.
    """
    tensors, state = load_checkpoint(path)
    for key in HEADER_KEYS[1:]:
        if state.get(key) != run[key]:
            found = f"the checkpoint is of another run: its {key} is {state.get(key)!r}, the run's {run[key]!r}"
            raise CheckpointError(found, str(path), "Put the run's own checkpoint there")
    tagger = build_tagger(run, _norm_of(tensors))
    averaged = any(name.startswith("average.") for name in tensors)
    load_module(tagger, tensors, "average." if averaged else "model.", str(path))
    return tagger


def _norm_of(tensors: Mapping[str, torch.Tensor]) -> torch.nn.Module | None:
    """Input norm with a checkpoint's statistics (one for each of several inputs), if it has one."""
    prefix, found = "model.norm.", {}
    for name, mean in tensors.items():
        if name.startswith(prefix) and name.endswith("mean"):
            place = name.removeprefix(prefix).removesuffix("mean")
            std = tensors[f"{prefix}{place}std"]
            found[place.removesuffix(".")] = InputNorm(mean[..., 0].numpy(), std[..., 0].numpy())
    return found[""] if "" in found else (torch.nn.ModuleDict(found) if found else None)


def score_splits(tagger: Tagger, job: Job, names: Iterable[str], engine: Engine) -> list[Any]:
    """Score whole splits, every window of them."""
    found = []
    objective = make_objective(job, engine, tagger)
    for name in names:
        loader = evaluation_loader(job.readers, job.labelled.splits[name], job.shape, job.config.data, engine)
        with shown_bar(engine.rank, total=len(loader), desc=f"score {name}", unit="batch") as bar:
            found.append(_scored(objective, tagger, _told(loader, lambda: bar.update(1)), name, engine))
    return found


def _told(loader: Iterable[Any], on_batch: Callable[[], Any]) -> Iterable[Any]:
    for batch in loader:
        yield batch
        on_batch()


def _scored(objective: Objective, tagger: Tagger, loader: Iterable[Any], split: str, engine: Engine) -> Scored:
    tagger.eval()
    with engine.autocast():
        return objective.score(tagger, loader, split)


def make_objective(job: Job, engine: Engine, tagger: Tagger) -> Objective:
    """Objective of a run, bound to its data and device."""
    config = job.config
    if isinstance(tagger, Reconstructor):
        spec = job.reader.spec
        hop_ms = 1000 * int(spec.frame_step) / int(spec.sample_rate)
        return Masked(config.objective, hop_ms, config.seed, engine, tagger)
    labelled = job.labelled

    def scorer(judged: Tagger, loader: Iterable[dict[str, torch.Tensor]], split: str) -> Scored:
        return predict(
            judged,
            loader,
            labelled.splits[split],
            split=split,
            task=labelled.task,
            n_classes=len(labelled.classes),
            pool=config.evaluate.pool,
            loss=make_loss(labelled.task),
            engine=engine,
        )

    specs = {name: reader.spec for name, reader in job.readers.items()}
    augment = make_augmentation(config.augment, specs, len(labelled.classes))
    return Supervised(_training_loss(job, engine), scorer, augment)


def _make_loop(engine: Engine, job: Job, trackers: Sequence[Tracker]) -> Loop:
    """Build model, optimizer and loaders, and go back to the last checkpoint if there is one."""
    config, folder = job.config, job.folder
    saved = load_checkpoint(folder.last) if folder.last.is_file() else None
    if saved is not None and saved[1].get("run_id") != job.run["run_id"]:
        found = f"the checkpoint is of run {saved[1].get('run_id')}, not {job.run['run_id']}"
        raise CheckpointError(found, str(folder.last), "Delete it to start again")
    start = start_tensors(config.start.run, job.run["feature"]) if config.start.run and saved is None else None
    seed_everything(config.seed)
    tagger = build_tagger(job.run, _norm(job, saved, start), channels_last=config.device.channels_last)
    tagger = tagger.to(engine.device)
    trunk = set(saved[1]["trunk"]) if saved is not None else set()
    if start is not None:
        trunk = load_start(tagger.model, start, strict=config.start.strict, where=config.start.run)
    if trunk and config.start.trunk_rate == 0:
        tagger.fix(trunk)
    wrapped, optimizer = _set_up(engine, tagger, config, trunk)
    if engine.rank:  # weights are alike everywhere; dropout and augmentation differ
        seed_everything(config.seed + 1_000_003 * engine.rank)
    objective = make_objective(job, engine, tagger)
    parts = LoopParts(
        tagger=tagger,
        wrapped=wrapped,
        forward=torch.compile(wrapped) if config.device.compile else wrapped,
        optimizer=optimizer,
        loader=training_loader(job.readers, job.labelled, job.shape, config.data, engine, seed=config.seed),
        objective=objective,
        validate=_validation(job, engine, objective),
        monitor=job.monitor,
    )
    header = {key: job.run[key] for key in HEADER_KEYS} | {"trunk": sorted(trunk)}
    title = f"{'train' if job.is_supervised else 'pretrain'} {job.run['model']}"
    loop = Loop(parts, config, engine, folder, header=header, title=title, trackers=trackers)
    if saved is not None:
        loop.restore(*saved)
        logger.info("%s goes on in epoch %d, batch %d", folder.path, loop.progress.epoch, loop.progress.batch)
    if engine.rank == 0:
        folder.cut_metrics(loop.progress.epoch)
    return loop


def _set_up(
    engine: Engine, tagger: Tagger, config: TrainConfig, trunk: set[str]
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Optimizer and what exchanges gradients; names of the model's parameters are those behind the tagger's prefix."""
    scales = layer_scales(tagger.model, config.start.layer_decay) if config.start.layer_decay < 1 else {}
    optimizer = make_optimizer(
        tagger.named_parameters(),
        config.optimizer,
        trunk={f"model.{name}" for name in trunk},
        scales={f"model.{name}": scale for name, scale in scales.items()},
    )
    if config.device.sync_norms and engine.world_size > 1:
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(tagger)  # type: ignore[no-untyped-call]  # in place
    return engine.set_up(tagger, optimizer)


def _norm(job: Job, saved: Any, start: Mapping[str, torch.Tensor] | None) -> torch.nn.Module | None:
    """Input norm: the checkpoint's own, or that of the weights to start from, or from the training split."""
    if saved is not None:
        return _norm_of(saved[0])
    how: str = job.config.data.normalize
    if start is not None and how == "auto":
        given = _norm_of(start)  # weights are worth what they were trained under
        if given is not None:
            return given
    if how == "auto":
        how = str(getattr(MODELS.load(job.run["model"]), "input_norm", "band"))
    return input_norm(job.readers, job.labelled, how)


def _training_loss(job: Job, engine: Engine) -> Any:
    weights, loop = None, job.config.loop
    if loop.class_weights == "balanced":
        found = balanced_weights(job.labelled.splits["train"].targets, len(job.labelled.classes))
        weights = torch.from_numpy(found).to(engine.device)
    return make_loss(job.labelled.task, weights=weights, label_smoothing=loop.label_smoothing)


def _validation(job: Job, engine: Engine, objective: Objective) -> Validate:
    """Return the function that scores the validation split during training."""
    windows = job.config.loop.validation_windows
    part = job.labelled.splits["valid"]
    loader = evaluation_loader(job.readers, part, job.shape, job.config.data, engine, windows=windows)
    if isinstance(objective, Masked):
        with torch.no_grad():
            objective.baselines = objective.score(None, loader, "valid").values
    return lambda tagger: _scored(objective, tagger, loader, "valid", engine)
