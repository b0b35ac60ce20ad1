"""Experiment trackers of others, for those who use them: each line of metrics is passed on as it is written."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featstore.errors import MissingDependency
from featstore.registry import Registry

__all__ = ["TRACKERS", "Tracker", "track_with_mlflow", "track_with_wandb"]

TRACKERS = Registry(
    "tracker",
    {
        "mlflow": "featstore.training.trackers:track_with_mlflow",
        "wandb": "featstore.training.trackers:track_with_wandb",
    },
)


@dataclass(frozen=True, slots=True)
class Tracker:
    """Receives the metrics of a run.

    Attributes
    ----------
    log : callable
        Takes the numbers of an epoch by their tags, and ``step``, the epoch.
    finish : callable
        Closes the run.
    """

    log: Callable[..., Any]
    finish: Callable[[], Any]


def track_with_wandb(run: Mapping[str, Any], config: Mapping[str, Any]) -> Tracker:
    """Weights & Biases; account and project are what ``wandb`` itself is set to (project ``featstore`` otherwise)."""
    name, settings = f"{run['model']} {run['run_id']}", {**config, "run": dict(run)}
    opened = _imported("wandb").init(id=run["run_id"], name=name, config=settings, resume="allow")
    return Tracker(opened.log, opened.finish)


def track_with_mlflow(run: Mapping[str, Any], config: Mapping[str, Any]) -> Tracker:
    """MLflow; the server and the experiment are what ``mlflow`` itself is set to."""
    mlflow = _imported("mlflow")
    mlflow.start_run(run_name=f"{run['model']} {run['run_id']}", tags={"featstore.run_id": run["run_id"]})
    flat = {f"{section}.{key}": value for section, inner in config.items() for key, value in _items(inner)}
    mlflow.log_params(flat | {"feature": run["feature"], "dataset": run["dataset"]})
    return Tracker(mlflow.log_metrics, mlflow.end_run)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"the tracker {name!r} needs the package {name!r}"
        raise MissingDependency(what, "loop.trackers", f"Install it: pip install {name}") from error


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else [("value", value)]
