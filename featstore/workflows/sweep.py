"""A grid of training runs: one after the other, or side by side through Dask; each resumes by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featstore.cluster import cpu_count
from featstore.errors import FeatstoreError, PlanError
from featstore.log import progress_bar
from featstore.specs import parse_feature

__all__ = ["PlannedRun", "plan_runs", "run_sweep"]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One training run of a grid, as plain values that travel to a worker.

    Attributes
    ----------
    store, feature, model, out, tracks : str
    seed : int
    settings : dict
        Of training, by section.
    epochs : int
        At most, for the progress bar.
    """

    store: str
    feature: str
    model: str
    out: str
    tracks: str
    seed: int
    settings: dict[str, Any]
    epochs: int

    @property
    def is_finished(self) -> bool:
        """Whether the run has its result."""
        return (Path(self.out) / "result.json").is_file()


def plan_runs(
    folder: str | Path, features: Sequence[str], model: str, seeds: Sequence[int], settings: Mapping[str, Any]
) -> list[PlannedRun]:
    """Runs of every feature with every seed, below ``folder/runs``; cheap features first: results come early."""
    folder = Path(folder)
    epochs = int(settings.get("loop", {}).get("epochs", 50))
    return [
        PlannedRun(
            str(folder / "store.zarr"),
            feature,
            model,
            str(folder / "runs" / model / slug_of(feature) / f"seed-{seed}"),
            str(folder / "tracks.parquet"),
            seed,
            dict(settings),
            epochs,
        )
        for feature in sorted(features, key=_work)
        for seed in seeds
    ]


def _work(feature: str) -> float:
    spec = parse_feature(feature).spec
    return getattr(spec, "n_mels", 1) * spec.sample_rate / spec.frame_step


def slug_of(feature: str) -> str:
    """Folder name of a feature: readable, and unique by the end of its key."""
    request = parse_feature(feature)
    spec = request.spec
    words = [spec.kind, f"{spec.sample_rate}hz"]
    words += [
        f"{getattr(spec, name)}{unit}"
        for name, unit in (("n_mels", "mels"), ("hop_length", "hop"))
        if hasattr(spec, name)
    ]
    words += [spec.scale.name] if hasattr(spec, "scale") else []
    words += [request.encoding.name if request.encoding else "float32", spec.key(str(request.encoding))[-6:]]
    return "-".join(words)


def _train(run: PlannedRun) -> str:
    """Carry out one run in this process."""
    from featstore.datasets import TrackTable
    from featstore.training import TrainConfig, train

    config = TrainConfig.resolve(run.settings, seed=run.seed)
    train(run.store, run.feature, run.model, run.out, tracks=TrackTable.read(run.tracks), config=config)
    return run.out


def _train_quietly(run: PlannedRun) -> str:
    """The same in a worker: its progress is read from its files, and it keeps to one core."""
    import torch

    os.environ["FEATSTORE_PROGRESS"] = "0"
    torch.set_num_threads(1)
    return _train(run)


def run_sweep(runs: Sequence[PlannedRun], *, jobs: int | None = None, scheduler: str | None = None) -> None:
    """Carry out all runs that have no result yet.

    Raises
    ------
    PlanError
        When some runs failed, with the reason of each; all others are finished first.
    """
    waiting = [run for run in runs if not run.is_finished]
    jobs = min(jobs or cpu_count(), max(1, len(waiting)))
    with progress_bar(total=sum(run.epochs for run in runs), desc="train", unit="epoch") as bar:
        bar.update(sum(run.epochs for run in runs if run.is_finished))
        failures = [failure for failure in _carry_out(waiting, jobs, scheduler, bar) if failure is not None]
    if failures:
        listed = "; ".join(f"{run.out}: {error}" for run, error in failures[:5])
        raise PlanError(f"{len(failures)} of {len(runs)} runs failed: {listed}", "", "Mend the cause and run again")


def _carry_out(
    runs: Sequence[PlannedRun], jobs: int, scheduler: str | None, bar: Any
) -> Iterator[tuple[PlannedRun, Exception] | None]:
    if jobs == 1 and scheduler is None:
        for run in runs:
            try:
                _train(run)
                yield None
            except FeatstoreError as error:
                yield run, error
            bar.update(run.epochs)
        return
    from featstore.cluster import dask_client

    with dask_client(jobs, scheduler) as client:
        futures: dict[Any, PlannedRun] = {client.submit(_train_quietly, run, pure=False): run for run in runs}
        seen = dict.fromkeys(futures, 0)
        while futures:
            time.sleep(0.5)
            for future, run in list(futures.items()):
                epochs = run.epochs if future.done() else min(run.epochs, _epochs_done(run))
                bar.update(epochs - seen[future])
                seen[future] = epochs
                if future.done():
                    del futures[future]
                    reason = future.exception()
                    yield None if reason is None else (run, reason)


def _epochs_done(run: PlannedRun) -> int:
    """Epochs that a run in progress has written."""
    try:
        with open(Path(run.out) / "metrics.jsonl", encoding="utf-8") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0
