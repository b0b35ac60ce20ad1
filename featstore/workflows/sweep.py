"""A grid of training runs: one after the other, or side by side through Dask; each resumes by itself."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featstore.cluster import cpu_count
from featstore.errors import FeatstoreError
from featstore.log import progress_bar
from featstore.specs import parse_feature
from featstore.workflows.side_by_side import one_core_quietly

__all__ = [
    "PlannedRun",
    "RunOutcome",
    "carry_out",
    "failures",
    "forecast_run",
    "forecast_sweep",
    "grid_of_runs",
    "slug_of",
]

logger = logging.getLogger(__name__)

_MOST_LOSSES = 2  # worker processes that a run may lose: one that always kills its worker must not go on for ever


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One training run of a grid, as plain values that travel to a worker.

    Attributes
    ----------
    store, feature, model, out : str
        Several features that become one input are joined by `` + ``, as in run records.
    tracks : str
        A track table's file; empty for what the store remembers.
    seed : int
    settings : dict
        Of training, by section.
    """

    store: str
    feature: str
    model: str
    out: str
    tracks: str
    seed: int
    settings: dict[str, Any]

    @property
    def features(self) -> list[str]:
        """The features that are its input."""
        return self.feature.split(" + ")

    @property
    def epochs(self) -> int:
        """At most, for the progress bar."""
        return int(self.settings.get("loop", {}).get("epochs", 50))

    @property
    def short(self) -> str:
        """Short names of the features, joined by ``+``."""
        return " + ".join(parse_feature(each).spec.short() for each in self.features)

    @property
    def is_finished(self) -> bool:
        """Whether the run has its result."""
        return (Path(self.out) / "result.json").is_file()


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What became of a planned run.

    Attributes
    ----------
    run : PlannedRun
    state : {"finished", "finished before", "failed"}
    error : str
        Why it failed; one line.
    scores : dict of str to dict of str to float
        By split, of a finished run.
    seconds : float
        What a finished run took to train, to validate and to score.
    """

    run: PlannedRun
    state: str
    error: str = ""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0


def grid_of_runs(
    store: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    features: Sequence[str],
    models: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    tracks: str = "",
    label: str = "",
) -> list[PlannedRun]:
    """Every feature with every model and seed, in ``out/LABEL/FEATURE/seed-N``; cheap features first.

    Features that become one input are joined by `` + ``.
    The label is the model's name where none is given. Where ``data.split`` is ``folds`` and no fold is chosen, there is
    a run for each fold, in ``FEATURE/fold-K/seed-N``.
    """
    return [
        PlannedRun(
            os.fspath(store),
            feature,
            model,
            str(Path(out) / (label or model) / slug_of(feature) / place / f"seed-{seed}"),
            tracks,
            seed,
            own,
        )
        for feature in sorted(features, key=_work)
        for model in models
        for place, own in _by_fold(settings)
        for seed in seeds
    ]


def _by_fold(settings: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Folder and settings of each fold of a cross-validation; otherwise the settings as they are."""
    data = settings.get("data", {})
    if data.get("split") != "folds" or "fold" in data:
        return [("", dict(settings))]
    n_folds = int(data.get("folds", 5))
    return [(f"fold-{fold}", {**settings, "data": {**data, "fold": fold}}) for fold in range(n_folds)]


def _work(feature: str) -> float:
    specs = [parse_feature(each).spec for each in feature.split(" + ")]
    return sum(getattr(spec, "n_mels", 1) * spec.sample_rate / spec.frame_step for spec in specs)


def slug_of(feature: str) -> str:
    """Folder name of a feature, or of several that are one input: readable, and unique by the end of its key."""
    return "+".join(map(_slug, feature.split(" + ")))


def _slug(feature: str) -> str:
    request = parse_feature(feature)
    spec = request.spec
    units = {"n_mels": "mels", "hop_length": "hop"}
    words = [spec.kind, f"{spec.sample_rate}hz"]
    words += [f"{getattr(spec, name)}{unit}" for name, unit in units.items() if hasattr(spec, name)]
    words += [spec.scale.name] if hasattr(spec, "scale") else []
    words += [request.encoding.name if request.encoding else "float32", spec.key(str(request.encoding))[-6:]]
    return "-".join(words)


def _sources(run: PlannedRun) -> dict[str, Any]:
    """Settings and tracks of a run, as training and its forecast take them."""
    from featstore.datasets import TrackTable
    from featstore.training import TrainConfig

    table = TrackTable.read(run.tracks) if run.tracks else None
    return {"tracks": table, "config": TrainConfig.resolve(run.settings, seed=run.seed)}


def _train(run: PlannedRun) -> None:
    """Carry out one run in this process."""
    from featstore.training import train

    train(run.store, run.features, run.model, run.out, **_sources(run))


def _train_quietly(run: PlannedRun) -> list[tuple[str, str]]:
    """The same in a worker: its progress is read from its files, its warnings come back with their loggers' names."""
    one_core_quietly()
    kept = _KeptWarnings(logging.WARNING)
    logging.getLogger().addHandler(kept)
    try:
        _train(run)
    finally:
        logging.getLogger().removeHandler(kept)
    return kept.found


class _KeptWarnings(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.found: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep logger and text."""
        self.found.append((record.name, record.getMessage()))


def failures(outcomes: Sequence[RunOutcome]) -> list[str]:
    """Each cause of failed runs once, with the first run that it ended and how many more."""
    causes: dict[str, list[str]] = {}
    for one in outcomes:
        if one.state == "failed":
            causes.setdefault(str(one.error), []).append(one.run.out)
    others = {cause: f" and {len(outs) - 1} more" if len(outs) > 1 else "" for cause, outs in causes.items()}
    return [f"{outs[0]}{others[cause]}: {cause}" for cause, outs in causes.items()]


def forecast_sweep(runs: Sequence[PlannedRun], *, jobs: int | None = None) -> dict[str, Any]:
    """What a grid would take: each configuration is forecast once, from a few timed steps of one of its runs.

    Returns
    -------
    dict
        ``runs``, ``finished``, ``jobs``, ``steps``, ``bytes_read`` and ``seconds`` of what is left, and
        ``configurations``: ``model``, ``feature``, ``runs`` left, ``seconds`` of each. Models that are fitted at once
        count with no seconds.
    """
    jobs = min(jobs or cpu_count(), max(1, len(runs)))
    waiting: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        if not run.is_finished:
            waiting.setdefault((run.model, run.feature), []).append(run)
    rows: list[dict[str, Any]] = [_forecast_of(group) for group in waiting.values()]
    return {
        "runs": len(runs),
        "finished": len(runs) - sum(map(len, waiting.values())),
        "jobs": jobs,
        "steps": sum(row.pop("steps") * row["runs"] for row in rows),
        "bytes_read": sum(row.pop("bytes_read") for row in rows),
        "seconds": sum((row["seconds"] or 0.0) * row["runs"] for row in rows) / jobs,
        "configurations": rows,
    }


def forecast_run(run: PlannedRun) -> dict[str, Any] | None:
    """Time a few steps of a run, as ``featstore.training.forecast`` does; None for a model that is fitted at once."""
    from featstore.models import MODELS
    from featstore.training.forecast import forecast

    return None if MODELS.load(run.model).fitter else forecast(run.store, run.features, run.model, **_sources(run))


def _forecast_of(group: Sequence[PlannedRun]) -> dict[str, Any]:
    from featstore.store import open_store

    first = group[0]
    row: dict[str, Any] = {"model": first.model, "feature": first.short, "runs": len(group), "seconds": None}
    found = forecast_run(first)
    if found is None:
        store = open_store(first.store)
        return row | {"steps": 0, "bytes_read": sum(store[each].bytes_alone for each in first.features)}
    steps = found["epochs"] * found["steps_per_epoch"]
    return row | {"seconds": 3600 * found["hours"], "steps": steps, "bytes_read": found["bytes_read"]}


def carry_out(runs: Sequence[PlannedRun], *, jobs: int | None = None, scheduler: str | None = None) -> list[RunOutcome]:
    """Carry out all runs that have no result yet, one after the other or through Dask.

    Called again, finished runs are left as they are and stopped ones go on with their next batch. A run that fails does
    not end the others.

    Parameters
    ----------
    runs : sequence of PlannedRun
    jobs : int, optional
        Processes on this machine; 1 works in this process. By default the cores that there are.
    scheduler : str, optional
        Address of a running Dask scheduler; where its workers announce ``GPU``, a run asks for one.

    Returns
    -------
    list of RunOutcome
        In the order of ``runs``.
    """
    waiting = [run for run in runs if not run.is_finished]
    before = {run.out for run in runs} - {run.out for run in waiting}
    jobs = min(jobs or cpu_count(), max(1, len(waiting)))
    errors: dict[str, str] = {}
    with progress_bar(total=sum(run.epochs for run in runs), desc="train", unit="epoch") as bar:
        bar.update(sum(run.epochs for run in runs if run.out in before))
        for run, error in _side_by_side(waiting, jobs, scheduler, bar) if waiting else ():
            if error is not None:
                errors[run.out] = " ".join(str(error).split()) or type(error).__name__
                logger.error("%s failed: %s", run.out, errors[run.out])
    return [_outcome(run, run.out in before, errors.get(run.out)) for run in runs]


def _outcome(run: PlannedRun, before: bool, error: str | None) -> RunOutcome:
    if error is not None:
        return RunOutcome(run, "failed", error)
    try:
        result = json.loads((Path(run.out) / "result.json").read_text(encoding="utf-8"))
        scores, times = dict(result["scores"]), dict(result.get("seconds") or {})
        seconds = sum(float(times.get(name) or 0.0) for name in ("train", "validate", "inference"))
    except (OSError, ValueError, KeyError) as problem:
        return RunOutcome(run, "failed", f"its result cannot be read: {problem}")
    return RunOutcome(run, "finished before" if before else "finished", "", scores, seconds)


def _side_by_side(
    runs: Sequence[PlannedRun], jobs: int, scheduler: str | None, bar: Any
) -> Iterator[tuple[PlannedRun, BaseException | None]]:
    """Each run and what went wrong with it, as they end."""
    if jobs == 1 and scheduler is None:
        yield from _one_by_one(runs, bar)
        return
    from distributed.scheduler import KilledWorker

    from featstore.cluster import GPU, dask_client, gpu_count

    with dask_client(jobs, scheduler) as client:
        settings: dict[str, Any] = {"pure": False}
        if gpu_count(client):
            settings["resources"] = {GPU: 1}
        futures: dict[Any, PlannedRun] = {client.submit(_train_quietly, run, **settings): run for run in runs}
        seen, losses = {run.out: 0 for run in runs}, Counter[str]()
        while futures:
            time.sleep(0.5)
            for future, run in list(futures.items()):
                epochs = run.epochs if future.done() else min(run.epochs, _epochs_done(run))
                bar.update(epochs - seen[run.out])
                seen[run.out] = epochs
                if not future.done():
                    continue
                del futures[future]
                error = future.exception()
                if isinstance(error, KilledWorker) and losses[run.out] < _MOST_LOSSES:
                    losses[run.out] += 1  # its worker died, or only held it: the run goes on with its next batch
                    logger.warning("%s lost its worker process and goes on in another", run.out)
                    futures[client.submit(_train_quietly, run, **settings)] = run
                else:
                    for name, text in [] if error else future.result():
                        logging.getLogger(name).warning("%s", text)
                    yield run, error


def _one_by_one(runs: Sequence[PlannedRun], bar: Any) -> Iterator[tuple[PlannedRun, BaseException | None]]:
    for run in runs:
        try:
            _train(run)
        except Exception as error:  # whatever it is, the other runs have nothing to do with it
            if not isinstance(error, FeatstoreError):
                logger.exception("%s failed in a way that was not foreseen", run.out)
            yield run, error
        else:
            yield run, None
        bar.update(run.epochs)


def _epochs_done(run: PlannedRun) -> int:
    """Epochs that a run in progress has written."""
    try:
        with open(Path(run.out) / "metrics.jsonl", encoding="utf-8") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0
