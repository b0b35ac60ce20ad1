"""What a run will take, before it is started: a few real steps are timed, and nothing is written."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from featstore.errors import ConfigError
from featstore.models import MODELS
from featstore.training.config import TrainConfig
from featstore.training.engines import Engine, make_fabric, peak_memory, process_settings
from featstore.training.folders import RunFolder
from featstore.training.job import Job
from featstore.training.loop import Loop
from featstore.training.run import prepare
from featstore.training.work import make_loop

__all__ = ["forecast"]

_STEPS = 6  # of which the first one or two warm up


def forecast(
    store: Any, feature: Any, model: str, *, tracks: Any = None, config: TrainConfig | Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Time a few steps and one pass over the validation split, and work out the whole run.

    Parameters
    ----------
    store, feature, model, tracks, config
        As for :func:`~featstore.training.train`; all of its checks are made.

    Returns
    -------
    dict
        ``hours`` at most (early stopping may end a run before), without the scores at its end, ``seconds_per_step``,
        ``steps_per_epoch``, ``epochs``, ``seconds_validate`` (one pass), ``memory_bytes`` (most so far, of the GPU
        where there is one), ``parameters``, ``tracks`` by split, ``bytes_read`` (of the features on disk), ``audio_s``
        (seconds of audio that the whole run sees).

    Raises
    ------
    ConfigError
        For a model that is fitted at once instead of step by step.
    """
    if MODELS.load(model).fitter:
        raise ConfigError("the model is fitted at once: there are no steps to time", f"model {model}", "Train it")
    with tempfile.TemporaryDirectory() as empty:
        _, job = prepare(store, feature, model, Path(empty) / "run", tracks=tracks, config=config)
        single = replace(job.config, device=replace(job.config.device, devices=1, compile=False))
        timed = replace(job, config=single, folder=RunFolder(Path(empty) / "run"))
        timed.folder.path.mkdir()
        fabric = make_fabric(single.device)
        with process_settings(single.device, macs_per_batch=timed.macs_per_batch, fabric=fabric) as engine:
            return _timed(timed, engine)


def _timed(job: Job, engine: Engine) -> dict[str, Any]:
    loop = make_loop(engine, job, [])
    steps, loader, config = _timed_steps(loop, engine.device), loop.parts.loader, job.config.loop
    per_step = median(steps[min(2, len(steps) - 1) :])
    began = time.perf_counter()
    loop.parts.validate(loop.scored_model)
    validate = time.perf_counter() - began
    passes = -(-config.epochs // config.validate_every)
    spec = next(iter(job.readers.values())).spec
    crop_s = job.shape.n_frames * spec.frame_step / spec.sample_rate
    return {
        "model": job.run["model"],
        "feature": job.run["feature"],
        "hours": (config.epochs * len(loader) * per_step + passes * validate) / 3600,
        "seconds_per_step": per_step,
        "steps_per_epoch": len(loader),
        "epochs": config.epochs,
        "seconds_validate": validate,
        "memory_bytes": peak_memory(engine.device.type),
        "parameters": job.run["parameters"],
        "tracks": {name: len(part) for name, part in job.labelled.splits.items()},
        "bytes_read": sum(reader.bytes_alone for reader in job.readers.values()),
        "audio_s": config.epochs * len(loader) * job.config.data.batch_size * crop_s,
    }


def _timed_steps(loop: Loop, device: torch.device) -> list[float]:
    """Seconds of each of the first steps, loading included."""
    loop.parts.normed.train()
    found, began = [], time.perf_counter()
    with closing(iter(loop.parts.loader)) as batches:  # type: ignore[type-var]  # a generator, with threads to be stopped
        for batch in itertools.islice(batches, _STEPS):
            loop.step(batch, len(loop.parts.loader))
            if device.type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            found.append(now - began)
            began = now
    return found
