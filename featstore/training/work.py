"""The work of one process of a run: build what the loop needs, train, and score the weights that were kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
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
from featstore.training.optimizers import make_optimizer
from featstore.training.progress import Progress, shown_bar
from featstore.training.scoring import Predictions, predict
from featstore.training.starting import load_start
from featstore.training.tagger import InputNorm, Tagger
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
    reader : FeatureReader
    labelled : LabelledTracks
    shape : InputShape
    config : TrainConfig
    folder : RunFolder
    run : mapping
        The run's description, as ``run.json`` has it.
    """

    reader: Any
    labelled: LabelledTracks
    shape: InputShape
    config: TrainConfig
    folder: RunFolder
    run: Mapping[str, Any]

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
    parts : list of Predictions
        Of each split that is scored.
    progress : Progress
    device : str
        Type of the device.
    """

    parts: list[Predictions]
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


def build_tagger(run: Mapping[str, Any], norm: InputNorm | None, *, channels_last: bool = True) -> Tagger:
    """Model of a run with fresh weights."""
    sizes = {"n_mels": run["input"]["n_mels"], "n_frames": run["input"]["n_frames"], "n_classes": len(run["classes"])}
    return Tagger(create(run["model"], **sizes, **run["model_settings"]), norm, channels_last=channels_last)


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


def _norm_of(tensors: Mapping[str, torch.Tensor]) -> InputNorm | None:
    """Input norm with a checkpoint's statistics, if it has one."""
    mean, std = tensors.get("model.norm.mean"), tensors.get("model.norm.std")
    return None if mean is None or std is None else InputNorm(mean[:, 0].numpy(), std[:, 0].numpy())


def score_splits(tagger: Tagger, job: Job, names: Iterable[str], engine: Engine) -> list[Predictions]:
    """Score whole splits, every window of them."""
    found = []
    for name in names:
        loader = evaluation_loader(job.reader, job.labelled.splits[name], job.shape, job.config.data, engine)
        with shown_bar(engine.rank, total=len(loader), desc=f"score {name}", unit="batch") as bar:
            found.append(_predict(tagger, loader, job, name, engine, lambda: bar.update(1)))
    return found


def _predict(tagger: Tagger, loader: Any, job: Job, split: str, engine: Engine, on_batch: Any) -> Predictions:
    tagger.eval()
    with engine.autocast():
        return predict(
            tagger,
            loader,
            job.labelled.splits[split],
            split=split,
            task=job.labelled.task,
            n_classes=len(job.labelled.classes),
            pool=job.config.evaluate.pool,
            loss=make_loss(job.labelled.task),
            engine=engine,
            on_batch=on_batch,
        )


def _make_loop(engine: Engine, job: Job, trackers: Sequence[Tracker]) -> Loop:
    """Build model, optimizer and loaders, and go back to the last checkpoint if there is one."""
    config, folder = job.config, job.folder
    saved = load_checkpoint(folder.last) if folder.last.is_file() else None
    if saved is not None and saved[1].get("run_id") != job.run["run_id"]:
        found = f"the checkpoint is of run {saved[1].get('run_id')}, not {job.run['run_id']}"
        raise CheckpointError(found, str(folder.last), "Delete it to start again")
    seed_everything(config.seed)
    norm = _norm_of(saved[0]) if saved is not None else input_norm(job.reader, job.labelled, _normalisation(job))
    tagger = build_tagger(job.run, norm, channels_last=config.device.channels_last).to(engine.device)
    trunk = load_start(tagger.model, config.start.run, job.run) if config.start.run and saved is None else set()
    if saved is not None:
        trunk = set(saved[1]["trunk"])
    optimizer = make_optimizer(tagger.model.named_parameters(), config.optimizer, trunk=trunk)
    wrapped, optimizer = engine.set_up(tagger, optimizer)
    parts = LoopParts(
        tagger=tagger,
        wrapped=wrapped,
        forward=torch.compile(wrapped) if config.device.compile else wrapped,
        optimizer=optimizer,
        loader=training_loader(job.reader, job.labelled, job.shape, config.data, engine, seed=config.seed),
        loss=_training_loss(job, engine),
        validate=_validation(job, engine),
        augment=make_augmentation(config.augment, job.reader.spec, len(job.labelled.classes)),
    )
    header = {key: job.run[key] for key in HEADER_KEYS} | {"trunk": sorted(trunk)}
    title = f"train {job.run['model']}"
    loop = Loop(parts, config, engine, folder, header=header, title=title, trackers=trackers)
    if saved is not None:
        loop.restore(*saved)
        logger.info("%s goes on in epoch %d, batch %d", folder.path, loop.progress.epoch, loop.progress.batch)
    if engine.rank == 0:
        folder.cut_metrics(loop.progress.epoch)
    return loop


def _normalisation(job: Job) -> str:
    how = job.config.data.normalize
    return str(getattr(MODELS.load(job.run["model"]), "input_norm", "band")) if how == "auto" else how


def _training_loss(job: Job, engine: Engine) -> Any:
    weights, loop = None, job.config.loop
    if loop.class_weights == "balanced":
        found = balanced_weights(job.labelled.splits["train"].targets, len(job.labelled.classes))
        weights = torch.from_numpy(found).to(engine.device)
    return make_loss(job.labelled.task, weights=weights, label_smoothing=loop.label_smoothing)


def _validation(job: Job, engine: Engine) -> Validate:
    """Return the function that scores the validation split during training."""
    windows = job.config.loop.validation_windows
    part = job.labelled.splits["valid"]
    loader = evaluation_loader(job.reader, part, job.shape, job.config.data, engine, windows=windows)
    return lambda tagger: _predict(tagger, loader, job, "valid", engine, lambda: None)
