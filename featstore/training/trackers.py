"""Experiment trackers of others, for those who use them: each line of metrics is passed on as it is written."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

from featstore.errors import MissingDependency
from featstore.registry import Registry
from featstore.training.events import scalars_of

__all__ = ["TRACKERS", "MlflowTracker", "Tracker", "WandbTracker"]

TRACKERS = Registry(
    "tracker",
    {
        "mlflow": "featstore.training.trackers:MlflowTracker",
        "wandb": "featstore.training.trackers:WandbTracker",
    },
)


class Tracker(Protocol):
    """Receives the lines of a run; made from its description and settings when it starts or goes on."""

    def log(self, line: Mapping[str, Any]) -> None:
        """Take the metrics of an epoch."""

    def finish(self) -> None:
        """Close the run."""


class WandbTracker:
    """Weights & Biases; account and project are what ``wandb`` itself is set to (project ``featstore`` otherwise)."""

    def __init__(self, run: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        name = f"{run['model']} {run['run_id']}"
        self._run = _imported("wandb").init(
            id=run["run_id"], name=name, config={**config, "run": dict(run)}, resume="allow"
        )

    def log(self, line: Mapping[str, Any]) -> None:
        """Take the metrics of an epoch."""
        self._run.log(scalars_of(line), step=int(line["epoch"]))

    def finish(self) -> None:
        """Close the run."""
        self._run.finish()


class MlflowTracker:
    """MLflow; the server and the experiment are what ``mlflow`` itself is set to."""

    def __init__(self, run: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._mlflow = mlflow = _imported("mlflow")
        mlflow.start_run(run_name=f"{run['model']} {run['run_id']}", tags={"featstore.run_id": run["run_id"]})
        flat = {f"{section}.{key}": value for section, inner in config.items() for key, value in _items(inner)}
        mlflow.log_params(flat | {"feature": run["feature"], "dataset": run["dataset"]})

    def log(self, line: Mapping[str, Any]) -> None:
        """Take the metrics of an epoch."""
        self._mlflow.log_metrics(scalars_of(line), step=int(line["epoch"]))

    def finish(self) -> None:
        """Close the run."""
        self._mlflow.end_run()


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"the tracker {name!r} needs the package {name!r}"
        raise MissingDependency(what, "loop.trackers", f"Install it: pip install {name}") from error


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else [("value", value)]
