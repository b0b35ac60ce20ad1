"""From windows to tracks to scores: predictions that any metric can be computed from again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.metrics import METRICS, bootstrap_interval, class_metrics, one_hot
from featstore.metrics.decisions import confusion_matrix
from featstore.training.columns import column_of, write_columns
from featstore.training.engines import Engine
from featstore.training.labels import SplitTracks
from featstore.training.losses import probabilities
from featstore.training.normed_model import ModelBatch

__all__ = [
    "Predictions",
    "confusion_of",
    "intervals_of",
    "per_class_of",
    "track_scores",
    "track_sums",
    "window_shares",
    "window_weights",
    "write_predictions",
]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Scores of the tracks of one split.

    Attributes
    ----------
    split : str
    tracks : SplitTracks
    scores : float32 (n_tracks, n_classes)
        Probabilities, or shares of votes.
    loss : float
        Mean over windows.
    n_windows : int
    seconds : float
        Wall time, loading included.
    """

    split: str
    tracks: SplitTracks
    scores: NDArray[np.float32]
    loss: float
    n_windows: int
    seconds: float

    @property
    def n_tracks(self) -> int:
        """Tracks that were scored."""
        return len(self.tracks)

    @property
    def values(self) -> dict[str, float]:
        """Every registered metric and the loss, by name."""
        values = {name: METRICS.load(name)(self.tracks.targets, self.scores).value for name in METRICS}
        return {**values, "loss": self.loss}


def window_shares(logits: torch.Tensor, task: str, pool: str) -> torch.Tensor:
    """What each window adds to its track, float64 ``(windows, classes)``: their mean over the track is its share.

    See Also
    --------
    track_scores : From that mean to the scores of a track.
    """
    if pool == "mean_logit":
        return logits.double()
    windows = probabilities(logits.double(), task)
    if pool == "mean_probability":
        return windows
    if task == "single_label":
        return torch.nn.functional.one_hot(windows.argmax(dim=1), windows.shape[1]).double()
    return (windows >= 0.5).double()


def window_weights(fresh: torch.Tensor | None, n_windows: int, weigh: str) -> NDArray[np.float64]:
    """What each window counts in the mean over its track; ``weigh`` as ``evaluate.weigh``."""
    if weigh == "windows" or fresh is None:
        return np.ones(n_windows)
    return np.asarray(fresh, dtype=np.float64)


def track_scores(means: torch.Tensor, task: str, pool: str) -> torch.Tensor:
    """Scores of tracks from the mean of their windows' shares ``(tracks, classes)``."""
    return probabilities(means, task) if pool == "mean_logit" else means


def track_sums(
    loader: Iterable[Mapping[str, torch.Tensor]],
    names: Sequence[str],
    n_tracks: int,
    engine: Engine,
    figures: Callable[[ModelBatch], dict[str, torch.Tensor]],
) -> dict[str, NDArray[np.float64]]:
    """Sums over the crops of each track, on all processes, float64 ``(n_tracks, …)`` by name.

    Parameters
    ----------
    loader, names, engine
        Batches of a split, with inputs of these names.
    n_tracks : int
        Tracks of the split.
    figures : callable
        A batch to what is summed: a value ``(batch, …)`` for each crop, by name; ``windows`` counts the crops.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    for batch in ModelBatch.each(loader, names, engine.device):
        for name, part in (figures(batch) | {"windows": torch.ones(len(batch))}).items():
            values = part.double().cpu().numpy()
            np.add.at(sums.setdefault(name, np.zeros((n_tracks, *values.shape[1:]))), batch.index.numpy(), values)
    found = engine.gather(sums)
    found_names = dict.fromkeys(name for each in found for name in each)
    return {name: sum(each[name] for each in found if name in each) for name in found_names}


def per_class_of(
    targets: NDArray[Any], scores: NDArray[Any], classes: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Metrics of each class by its name, with the number of its tracks; None where the targets do not determine it."""
    columns: dict[str, NDArray[Any]] = {"n": one_hot(targets, len(classes)).sum(axis=0)}
    columns |= {name: metric(targets, scores).per_class for name, metric in class_metrics().items()}
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return {
        name: {label: None if value != value else value for label, value in zip(columns, row, strict=True)}
        for name, row in zip(classes, rows, strict=True)
    }


def confusion_of(predictions: Predictions) -> list[list[int]] | None:
    """Tracks by true class (row) and decided class; None for multi-label predictions."""
    if predictions.tracks.targets.ndim != 1:
        return None
    found: list[list[int]] = confusion_matrix(predictions.tracks.targets, predictions.scores).tolist()
    return found


def intervals_of(predictions: Predictions, *, n_resamples: int, seed: int) -> dict[str, list[float]]:
    """Bootstrap intervals (95 %) of every metric over the split's groups of tracks."""
    tracks, found = predictions.tracks, {}
    options: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed, "groups": np.array(tracks.groups)}
    for name in METRICS:
        interval = bootstrap_interval(METRICS.load(name), tracks.targets, predictions.scores, **options)
        found[name] = [interval.low, interval.high]
    return found


def write_predictions(path: Path, parts: Sequence[Predictions], *, classes: Sequence[str], task: str) -> None:
    """Write predictions as Parquet: ``track_id``, ``split``, ``target``, ``scores``; classes in the file's metadata."""
    import pyarrow as pa

    columns = {
        "track_id": pa.array([track for part in parts for track in part.tracks.track_ids], pa.string()),
        "split": pa.array([part.split for part in parts for _ in range(len(part.tracks))], pa.string()),
        "target": column_of(np.concatenate([part.tracks.targets for part in parts])),
        "scores": column_of(np.concatenate([part.scores for part in parts])),
    }
    write_columns(path, columns, {"format": 1, "classes": list(classes), "task": task})
