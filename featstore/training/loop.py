"""The training loop: batches, steps, validation, early stopping, checkpoints; stops and goes on at any batch."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from featstore.errors import ConfigError
from featstore.loaders import BatchLoader
from featstore.log import progress_bar
from featstore.metrics import is_better
from featstore.models.checkpoint_file import load_module, save_checkpoint
from featstore.stopping import StopRequest
from featstore.training.checkpoints import (
    generator_state,
    optimizer_state,
    restore_generators,
    restore_optimizer,
    restore_streams,
    stream_tensors,
)
from featstore.training.engines import Engine
from featstore.training.events import scalars_of
from featstore.training.job import Job
from featstore.training.normed_model import ModelBatch, NormedModel, WeightAverage
from featstore.training.objectives import Forward, Objective, Scored
from featstore.training.optimizers import rate_factor, set_rate
from featstore.training.progress import LossWatch, Progress, ScaleWatch
from featstore.training.trackers import Tracker
from featstore.training.trunk_probe import TrunkProbe

__all__ = ["Loop", "LoopParts"]

logger = logging.getLogger(__name__)

_ASK_EVERY = 20  # batches between the agreements of several processes whether to stop
_SPARE_S = 3.0  # epochs shorter than this do not each write their state

Validate = Callable[[NormedModel], Scored]


@dataclass(frozen=True, slots=True)
class LoopParts:
    """What a loop works with, all of it built and on its device.

    Attributes
    ----------
    normed : NormedModel
        The module whose state is kept.
    wrapped : torch.nn.Module
        The same behind what exchanges gradients and sets the precision.
    forward : callable
        The wrapped module, or what the compiler made of it.
    optimizer : torch.optim.Optimizer
    loader : BatchLoader
        Of the training split.
    objective : Objective
        What is minimised.
    validate : callable
        Scores of the validation split by a model.
    trunk : collection of str
        Parameters that were taken over from other weights.
    opening : str
        What people should know before the first batch.
    probe : TrunkProbe or None
        Of the trunk, every ``loop.probe_every`` steps.
    """

    normed: NormedModel
    wrapped: torch.nn.Module
    forward: Forward
    optimizer: torch.optim.Optimizer
    loader: BatchLoader
    objective: Objective
    validate: Validate
    trunk: Collection[str] = ()
    opening: str = ""
    probe: TrunkProbe | None = None


class Loop:
    """Trains until the epochs are done or early stopping decides; every stop in between can be resumed.

    Parameters
    ----------
    parts : LoopParts
    job : Job
        Its folder is where checkpoints and metrics go (written by the first process alone).
    engine : Engine
    trackers : sequence of Tracker
        Receive each line of metrics.
    """

    def __init__(self, parts: LoopParts, job: Job, engine: Engine, trackers: Sequence[Tracker] = ()) -> None:
        self.parts, self.job, self.engine, self.trackers = parts, job, engine, trackers
        self.config, self.folder, self.header = job.config, job.folder, job.header(parts.trunk)
        self.progress = Progress()
        self.average = WeightAverage(parts.normed, self.config.loop.ema) if self.config.loop.ema else None
        self.watch = LossWatch(engine.device, str(self.folder.path))
        self._bar: Any = None
        self._last_saved = time.monotonic()
        self._scores: dict[str, float] = {}
        self._probed = -1  # step of the last probe
        self.scale = ScaleWatch(str(self.folder.path))

    # -- resuming -------------------------------------------------------------------------------------------------

    def restore(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Go back to where a checkpoint was taken."""
        where = str(self.folder.last)
        load_module(self.parts.normed, tensors, "model.", where)
        if self.average is not None:
            load_module(self.average.normed, tensors, "average.", where)
        restore_optimizer(self.parts.optimizer, tensors, state["optimizer"], "optimizer.")
        restore_generators(tensors, state["generators"], "generator.")
        if rank := self.engine.rank:
            same_world = state.get("world_size", 1) == self.engine.world_size
            if not (same_world and restore_streams(tensors, f"generator.rank{rank}.")):
                torch.manual_seed(self.config.seed + 1_000_003 * rank + state["progress"]["step"])
        self.engine.restore_precision(state["precision"])
        self.parts.loader.load_state_dict(state["loader"])
        self.progress = Progress(**state["progress"])
        if self.engine.rank:  # sums of all processes were kept together
            self.progress.loss_sum, self.progress.n_items = 0.0, 0
        self._scores = dict(state["scores"])

    def keep_last(self) -> None:
        """Write the state of this moment, all processes together; it must lie between two optimizer steps."""
        self.progress.loss_sum += self.watch.drain()
        self._last_saved = time.monotonic()
        rank = self.engine.rank
        mine = stream_tensors(f"generator.rank{rank}.") if rank else {}
        gathered = self.engine.gather((self.progress.loss_sum, self.progress.n_items, mine))
        if rank:
            return
        sums = {"loss_sum": sum(each[0] for each in gathered), "n_items": sum(each[1] for each in gathered)}
        average = self.average.normed.state_dict(prefix="average.") if self.average is not None else {}
        moments, optimizer = optimizer_state(self.parts.optimizer, "optimizer.")
        generators, streams = generator_state("generator.")
        state = {
            **self.header,
            "world_size": self.engine.world_size,
            "progress": dataclasses.asdict(self.progress) | sums,
            "loader": self.parts.loader.state_dict(),
            "optimizer": optimizer,
            "generators": streams,
            "precision": self.engine.precision_state(),
            "scores": self._scores,
        }
        tensors = self.parts.normed.state_dict(prefix="model.") | average | moments | generators
        for _, _, streams_of_rank in gathered:
            tensors |= streams_of_rank
        save_checkpoint(self.folder.last, tensors, state)
        self.folder.write_state({key: state[key] for key in ("progress", "loader", "scores")})

    def _keep_best(self) -> None:
        if self.engine.rank == 0:
            state = {**self.header, "epoch": self.progress.epoch, "scores": self._scores}
            save_checkpoint(self.folder.best, self.scored_model.state_dict(prefix="model."), state)

    @property
    def scored_model(self) -> NormedModel:
        """The weights that are validated and kept: the average where there is one."""
        return self.parts.normed if self.average is None else self.average.normed

    # -- training -------------------------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train to the end.

        Raises
        ------
        NonFiniteLoss
            A loss is not finite; the checkpoints are those of before.
        KeyboardInterrupt
            A signal asked to stop; the state of this batch was kept.
        """
        epochs, n_batches = self.config.loop.epochs, len(self.parts.loader)
        done = self.progress.epoch * n_batches + self.progress.batch
        title = f"{'train' if self.job.objective.needs_labels else 'pretrain'} {self.job.run['model']}"
        hidden = {"disable": True} if self.engine.rank else {}
        bar = progress_bar(total=epochs * n_batches, initial=done, desc=title, unit="batch", **hidden)
        with StopRequest() as stop, bar as self._bar:
            if self.parts.opening:
                self._bar.write(self.parts.opening, file=sys.stderr)
            self._probed = self.engine.gather(self._last_probe())[0]
            if self._probed < 0:
                self._probe()
            while self.progress.epoch < epochs and not self.progress.finished:
                self._train_epoch(stop)
                self._finish_epoch(stop)
            if self.progress.step != self._probed:
                self._probe()
        return self.progress

    def _train_epoch(self, stop: StopRequest) -> None:
        progress, loader = self.progress, self.parts.loader
        loader.set_epoch(progress.epoch)
        self.parts.normed.train()
        n_batches, every = len(loader), self.config.loop.probe_every
        with closing(iter(loader)) as batches:  # type: ignore[type-var]  # a generator, with threads to be stopped
            while progress.batch < n_batches:
                began = time.perf_counter()
                batch = next(batches)
                progress.seconds_wait += time.perf_counter() - began
                step = progress.step
                self.step(batch, n_batches)
                progress.seconds_train += time.perf_counter() - began
                if every and progress.step > step and progress.step % every == 0:
                    self._probe()
                self._bar.update(1)
                self._show()
                if progress.batch < n_batches and progress.batch % self.config.loop.accumulate == 0:
                    self._maybe_keep(stop)
        progress.loss_sum += self.watch.drain()

    def step(self, batch: dict[str, torch.Tensor], n_batches: int) -> None:
        """One batch: forward, backward, and a step of the optimizer when enough gradients are summed."""
        progress, loop, parts = self.progress, self.config.loop, self.parts
        first_of_step = progress.batch % loop.accumulate == 0
        last_of_step = (progress.batch + 1) % loop.accumulate == 0 or progress.batch + 1 == n_batches
        taken = ModelBatch.of(batch, parts.normed.names, self.engine.device)
        if first_of_step:
            parts.optimizer.zero_grad(set_to_none=True)
        loss = parts.objective.loss(parts.forward, taken, epoch=progress.epoch)
        ids = [parts.loader.track_ids[i] for i in taken.index.tolist()]
        progress.loss_sum += self.watch.add(loss, epoch=progress.epoch, batch=progress.batch, track_ids=ids, x=taken.x)
        started = progress.batch - progress.batch % loop.accumulate
        self.engine.backward(loss / min(loop.accumulate, n_batches - started))
        if last_of_step:
            if loop.clip_norm is not None:
                self.engine.clip(parts.wrapped, parts.optimizer, loop.clip_norm)
            start = self.config.start
            trunk_rate = start.trunk_rate if progress.epoch >= start.freeze_epochs else 0.0
            set_rate(parts.optimizer, self._rate(n_batches), trunk_rate=trunk_rate)
            parts.optimizer.step()
            progress.step += 1
            if self.average is not None:
                self.average.update(parts.normed)
        progress.batch += 1
        progress.n_items += len(ids)
        progress.n_seen += len(ids) * self.engine.world_size

    def _rate(self, n_batches: int) -> float:
        epoch = self.progress.epoch + (self.progress.batch + 1) / n_batches
        schedule = self.config.schedule
        if epoch > schedule.warmup_epochs:  # steps fall at the start of an epoch, not within its last batch
            epoch = self.progress.epoch + self.progress.batch / n_batches
            epoch = max(epoch, schedule.warmup_epochs)
        factor = rate_factor(schedule, epoch=epoch, epochs=self.config.loop.epochs, reductions=self.progress.reductions)
        return self.config.optimizer.learning_rate * factor

    def _maybe_keep(self, stop: StopRequest) -> None:
        """Keep the state inside an epoch, when it is due or somebody asks to stop."""
        every = self.config.loop.checkpoint_batches
        due = bool(every) and self.progress.batch % every == 0
        asked, late = self._agreed(stop)
        if asked or due or late:
            self.keep_last()
        if asked:
            raise KeyboardInterrupt(f"{self.folder.path}: stopped in epoch {self.progress.epoch}")

    def _agreed(self, stop: StopRequest) -> tuple[bool, ...]:
        """Whether to stop here, and whether the state is due by the clock.

        All processes must agree on the batch, and asking each time would cost too much.
        """
        late = time.monotonic() - self._last_saved > 60 * self.config.loop.checkpoint_minutes
        if self.engine.world_size > 1 and self.progress.batch % _ASK_EVERY:
            return False, False
        return self._any(stop.requested, late)

    def _any(self, *votes: bool) -> tuple[bool, ...]:
        """Whether one of the processes votes so, for each vote."""
        return tuple(map(any, zip(*self.engine.gather(votes), strict=True)))

    def _last_probe(self) -> int:
        """Step of the last probe that is kept; -1 where none is."""
        lines = [] if self.engine.rank or self.parts.probe is None else self.folder.read_probes()
        return int(lines[-1]["step"]) if lines else -1

    def _probe(self) -> None:
        """Score the trunk by a linear probe, and note it beside the validation loss of the same weights."""
        if self.parts.probe is None:
            return
        progress, began = self.progress, time.perf_counter()
        self.engine.share_buffers(self.scored_model)
        valid = self.parts.validate(self.scored_model).values
        found = self.parts.probe.scores(self.scored_model)
        self.parts.normed.train()
        progress.seconds_validate += time.perf_counter() - began
        self._probed = progress.step
        if self.engine.rank == 0:
            place = {"step": progress.step, "epoch": progress.epoch + progress.batch / len(self.parts.loader)}
            self.folder.append_probe({**place, "valid": valid, "probe": found})

    # -- after an epoch -------------------------------------------------------------------------------------------

    def _finish_epoch(self, stop: StopRequest) -> None:
        progress, loop = self.progress, self.config.loop
        sums = self.engine.gather((progress.loss_sum, progress.n_items))
        line: dict[str, Any] = {
            "epoch": progress.epoch,
            "step": progress.step,
            "time": time.time(),
            "train": {"loss": sum(s for s, _ in sums) / max(1, sum(n for _, n in sums))},
            "learning_rate": self.parts.optimizer.param_groups[-1]["lr"],
        }
        line |= self.scale.note(self.engine.precision_state(), epoch=progress.epoch)
        moved = self.parts.normed.model.epoch_figures()
        if moved:
            line["model"] = moved
        last = progress.epoch + 1 == loop.epochs
        if (progress.epoch + 1) % loop.validate_every == 0 or last:
            line["valid"] = self._validate()
        line |= {
            "seconds_train": progress.seconds_train,
            "seconds_validate": progress.seconds_validate,
            "samples_per_s": progress.samples_per_s,
            "waiting_share": progress.waiting_share,
        }
        progress.epoch, progress.batch, progress.loss_sum, progress.n_items = progress.epoch + 1, 0, 0.0, 0
        if self.engine.rank == 0:
            self.folder.append_metrics(line)
            for tracker in self.trackers:
                tracker.log(scalars_of(line), step=int(line["epoch"]))
        self.parts.loader.set_epoch(progress.epoch)
        logger.info("%s: %s", self.folder.path, _summary(line))
        asked, late = self._any(stop.requested, time.monotonic() - self._last_saved > _SPARE_S)
        if asked or last or progress.finished or late:
            self.keep_last()
        if asked and not (last or progress.finished):
            raise KeyboardInterrupt(f"{self.folder.path}: stopped after epoch {progress.epoch}")

    def _validate(self) -> dict[str, float]:
        """Score the validation split, keep the best weights, decide whether to stop."""
        progress, loop = self.progress, self.config.loop
        started = time.perf_counter()
        self.engine.share_buffers(self.scored_model)
        self._scores = self.parts.validate(self.scored_model).values
        progress.seconds_validate += time.perf_counter() - started
        monitor = self.job.monitor
        value = self._scores[monitor]
        if np.isnan(value):
            raise ConfigError(
                f"{monitor} has no value on the validation split: every class there is always or never true",
                str(self.folder.path),
                "Choose loop.monitor=loss, or a larger validation split",
            )
        better = progress.best_value is None or is_better(monitor, value, progress.best_value)
        if better:
            progress.best_value, progress.best_epoch = value, progress.epoch
            progress.bad_validations = progress.plateau_validations = 0
            self._keep_best()
        else:
            progress.bad_validations += 1
            progress.plateau_validations += 1
            if self.config.schedule.name == "plateau" and progress.plateau_validations > self.config.schedule.patience:
                progress.reductions, progress.plateau_validations = progress.reductions + 1, 0
            progress.finished = bool(loop.patience) and progress.bad_validations >= loop.patience
        return self._scores

    def _show(self) -> None:
        progress, monitor = self.progress, self.job.monitor
        score = f"{monitor} {self._scores[monitor]:.3f}, " if self._scores else ""
        self._bar.set_postfix_str(
            f"epoch {progress.epoch + 1}/{self.config.loop.epochs}, loss {progress.loss_sum / progress.n_items:.3f}, "
            f"{score}{progress.samples_per_s:.0f} samples/s, waiting {100 * progress.waiting_share:.0f} %",
            refresh=False,
        )


def _summary(line: Mapping[str, Any]) -> str:
    valid = line.get("valid", {})
    scores = ", ".join(f"{name} {value:.4f}" for name, value in valid.items())
    return f"epoch {line['epoch']}, train loss {line['train']['loss']:.4f}" + (f", valid {scores}" if scores else "")
