"""The work of one process of a run: build what the loop needs, train, and score the weights that were kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from featstore.errors import CheckpointError, ConfigError
from featstore.log import progress
from featstore.models import MODELS, create
from featstore.models.checkpoint_file import load_checkpoint, load_module, norm_of, scored_prefix
from featstore.training import OBJECTIVES
from featstore.training.config import ObjectiveConfig, TrainConfig
from featstore.training.engines import Engine, process_settings, seed_everything
from featstore.training.feeding import evaluation_loader, input_norm, training_loader
from featstore.training.fitting import fit_run
from featstore.training.input_shape import InputShape
from featstore.training.job import HEADER_KEYS, Job, Outcome
from featstore.training.loop import Loop, LoopParts
from featstore.training.normed_model import NormedModel
from featstore.training.objectives import Objective, Scored
from featstore.training.optimizers import make_optimizer
from featstore.training.progress import Progress
from featstore.training.settings import from_mapping
from featstore.training.starting import layer_scales, load_published, load_start, start_tensors
from featstore.training.trackers import TRACKERS, Tracker
from featstore.training.trunk_probe import TrunkProbe

__all__ = ["build_model", "make_loop", "model_of_checkpoint", "score_splits", "work"]

logger = logging.getLogger(__name__)


def work(fabric: Any, job: Job) -> Outcome:
    """Train and score in this process (one of several when Fabric has launched them).

    Raises
    ------
    ConfigError
        Out of memory, with a batch size to try.
    """
    try:
        with process_settings(job.config.device, macs_per_batch=job.macs_per_batch, fabric=fabric) as engine:
            tracked = () if engine.rank else job.config.loop.trackers
            trackers: list[Tracker] = [TRACKERS.load(name)(job.run, job.config.as_mapping()) for name in tracked]
            progress, fit = _train(engine, job, trackers)
            for tracker in trackers:
                tracker.finish()
            engine.gather(None)  # nobody reads a checkpoint before the first process has written it
            names = [name for name in job.config.evaluate.splits if name in job.labelled.splits]
            return Outcome(score_splits(job, names, engine), progress, engine.device.type, fit)
    except RuntimeError as error:
        message = str(error)
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in message or "not enough memory" in message:
            raise _out_of_memory(job.config, message) from error
        raise


def _train(engine: Engine, job: Job, trackers: Sequence[Tracker]) -> tuple[Progress, dict[str, Any]]:
    """Run the loop, or fit a model that needs none; of the latter also what was chosen."""
    if not MODELS.load(job.run["model"]).fitter:
        return make_loop(engine, job, trackers).run(), {}
    seed_everything(job.config.seed)
    return fit_run(job, build_model(job.run, None))


def _out_of_memory(config: TrainConfig, reason: str) -> ConfigError:
    size, summed = config.data.batch_size, config.loop.accumulate
    fix = f"Try --set data.batch_size={max(1, size // 2)} --set loop.accumulate={2 * summed}"
    return ConfigError(f"out of memory with data.batch_size={size}: {reason.splitlines()[0]}", "training", fix)


def build_model(run: Mapping[str, Any], norm: torch.nn.Module | None, *, channels_last: bool = True) -> NormedModel:
    """Model of a run with fresh weights, behind its norm."""
    shape, kind = InputShape.from_mapping(run["input"]), MODELS.load(run["model"])
    model = create(run["model"], n_classes=max(1, len(run["classes"])), **shape.sizes(kind), **run["model_settings"])
    settings = from_mapping(ObjectiveConfig.kind_for(_objective(run)), _objective(run))
    objective: type[Objective] = OBJECTIVES.load(settings.name)
    return objective.wrap(model, shape, settings, norm=norm, names=tuple(shape.inputs), channels_last=channels_last)


def _objective(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of the objective in a run's description; runs of before version 0.4 do not name it."""
    return run.get("objective") or {"name": "masked" if run["task"] == "none" else "supervised"}


def model_of_checkpoint(run: Mapping[str, Any], path: Path) -> NormedModel:
    """Model with the weights of a checkpoint: their average where it has one.

    Raises
    ------
    CheckpointError
        The checkpoint is missing, damaged, or of another model or feature than the run.
    """
    tensors, state = load_checkpoint(path)
    for key in HEADER_KEYS[1:]:
        if state.get(key) != run.get(key):
            found = f"the checkpoint is of another run: its {key} is {state.get(key)!r}, the run's {run.get(key)!r}"
            raise CheckpointError(found, str(path), "Put the run's own checkpoint there")
    normed = build_model(run, norm_of(tensors))
    load_module(normed, tensors, scored_prefix(tensors), str(path))
    return normed


def score_splits(job: Job, names: Iterable[str], engine: Engine) -> list[Any]:
    """Score the weights that a run has kept on whole splits, every window of them; errors of the checkpoint apply."""
    found = []
    normed = model_of_checkpoint(job.run, job.kept).to(engine.device)
    objective = job.objective(job, engine, normed)
    for name in names:
        loader = evaluation_loader(job, job.labelled.splits[name], engine)
        batches = loader if engine.rank else progress(loader, desc=f"score {name}", unit="batch")
        found.append(_scored(objective, normed, batches, name, engine))
    return found


def _scored(objective: Objective, normed: NormedModel, loader: Iterable[Any], split: str, engine: Engine) -> Scored:
    normed.eval()
    with engine.autocast():
        return objective.score(normed, loader, split)


def make_loop(engine: Engine, job: Job, trackers: Sequence[Tracker]) -> Loop:
    """Build model, optimizer and loaders, and go back to the last checkpoint if there is one."""
    config, folder = job.config, job.folder
    saved = load_checkpoint(folder.last) if folder.last.is_file() else None
    if saved is not None and saved[1].get("run_id") != job.run["run_id"]:
        found = f"the checkpoint is of run {saved[1].get('run_id')}, not {job.run['run_id']}"
        raise CheckpointError(found, str(folder.last), "Delete it to start again")
    start = start_tensors(config.start.run, job.run["feature"]) if config.start.run and saved is None else None
    seed_everything(config.seed)
    normed = build_model(job.run, _norm(job, saved, start), channels_last=config.device.channels_last)
    normed = normed.to(engine.device)
    trunk = set(saved[1]["trunk"]) if saved is not None else set()
    if start is not None:
        trunk = load_start(normed.model, start, strict=config.start.strict, where=config.start.run)
    elif saved is None:
        trunk = load_published(normed.model, config.start.weights)
    if trunk and config.start.trunk_rate == 0:
        normed.fix(trunk)
    wrapped, optimizer = _set_up(engine, normed, config, trunk)
    if engine.rank:  # weights are alike everywhere; dropout and augmentation differ
        seed_everything(config.seed + 1_000_003 * engine.rank)
    objective = job.objective(job, engine, normed)
    windows = config.loop.validation_windows
    validation = evaluation_loader(job, job.labelled.splits["valid"], engine, windows=windows)
    parts = LoopParts(
        normed=normed,
        wrapped=wrapped,
        forward=torch.compile(wrapped) if config.device.compile else wrapped,
        optimizer=optimizer,
        loader=training_loader(job, engine, balanced=config.loop.class_weights == "balanced_sampler"),
        objective=objective,
        validate=lambda kept: _scored(objective, kept, validation, "valid", engine),
        trunk=trunk,
        opening=objective.opening(validation),
        probe=None if job.probe is None else TrunkProbe(job, engine),
    )
    loop = Loop(parts, job, engine, trackers)
    if saved is not None:
        loop.restore(*saved)
        logger.info("%s goes on in epoch %d, batch %d", folder.path, loop.progress.epoch, loop.progress.batch)
    if engine.rank == 0:
        folder.cut_metrics(loop.progress.epoch)
        folder.cut_probes(loop.progress.step if saved is not None else -1)
    return loop


def _set_up(
    engine: Engine, normed: NormedModel, config: TrainConfig, trunk: set[str]
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Optimizer, and the module that exchanges gradients."""
    scales = layer_scales(normed.model, config.start.layer_decay) if config.start.layer_decay < 1 else {}
    optimizer = make_optimizer(
        normed.named_parameters(),
        config.optimizer,
        trunk={f"model.{name}" for name in trunk},
        scales={f"model.{name}": scale for name, scale in scales.items()},
        rates={f"model.{name}": config.optimizer.cutoff_rate for name in normed.model.cutoff_names()},
    )
    if config.device.sync_norms and engine.world_size > 1:
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(normed)  # type: ignore[no-untyped-call]  # in place
    return engine.set_up(normed, optimizer)


def _norm(job: Job, saved: Any, start: Mapping[str, torch.Tensor] | None) -> torch.nn.Module | None:
    """Input norm: the checkpoint's own, or that of the weights to start from, or from the training split."""
    if saved is not None:
        return norm_of(saved[0])
    how: str = job.config.data.normalize
    if start is not None and how == "auto":
        given = norm_of(start)  # weights are worth what they were trained under
        if given is not None:
            return given
    if how == "auto":
        how = MODELS.load(job.run["model"]).input_norm
    return input_norm(job.readers, job.labelled, how)
