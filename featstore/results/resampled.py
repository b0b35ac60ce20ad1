"""Scores over resampled test tracks, the same resamples for all configurations: the test noise that they share."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featstore.errors import FeatstoreError
from featstore.log import progress
from featstore.metrics import METRICS, bootstrap_values
from featstore.results.details import Predictions, read_predictions
from featstore.results.records import RunRecord

if TYPE_CHECKING:
    import pandas as pd

    from featstore.results.run_set import RunSet

__all__ = ["SharedNoise", "TestTracks", "rows_of", "shared_tracks"]

logger = logging.getLogger(__name__)

_RESAMPLES = (60, 400)  # the fewest and the most
_MOST_RESAMPLES = 20_000  # over all runs: many runs take fewer resamples each


@dataclass(frozen=True)
class SharedNoise:
    """Test noise of some configurations.

    Attributes
    ----------
    covariance : float64 (configurations, configurations), or None
        Of their mean scores over resampled test tracks; None where it is unknown.
    units : int
        Tracks that were resampled, or groups of them.
    words : str
        What was resampled, or why nothing was.
    """

    covariance: npt.NDArray[np.float64] | None
    units: int
    words: str


class TestTracks:
    """Predictions of runs on their test tracks, read once for any number of metrics."""

    __test__ = False  # not a test of pytest's

    def __init__(self, runs: RunSet, split: str = "test") -> None:
        self._records = {record.run_id: record for record in runs}
        self._split = split
        self._read: dict[str, Predictions | None] = {}

    def noise(self, frame: pd.DataFrame, metric: str, *, seed: int = 0) -> SharedNoise:
        """Resample the test tracks that all runs share, in groups (works, artists) where the runs recorded them.

        Scores are averaged over the seeds of a fold, then over folds; folds have test tracks of their own.

        Parameters
        ----------
        frame : DataFrame
            Rows of a summary: ``run_ids`` names the runs of each.
        metric : str
        """
        if metric not in METRICS:
            return SharedNoise(None, 0, f"{metric} cannot be computed on resampled tracks")
        ids = [run for row in frame["run_ids"] for run in row]
        lacking = self._read_all(ids)
        if lacking:
            return SharedNoise(None, 0, f"{lacking} of {len(ids)} runs kept no predictions")
        resamples = int(np.clip(_MOST_RESAMPLES // len(ids), *_RESAMPLES))
        drawn: dict[str, npt.NDArray[np.float64]] = {}
        units, grouped = 0, False
        for number, members in enumerate(self._folds(ids)):
            shared = self._shared(members)
            if shared is None:
                return SharedNoise(None, 0, "the runs do not share their test tracks and classes")
            groups = self._groups(members, shared)
            units += len(set(shared if groups is None else groups))
            grouped = grouped or (groups is not None and len(set(groups)) < len(shared))
            for run in members:
                target, score = rows_of(self._predictions(run), shared)
                drawn[run] = bootstrap_values(
                    METRICS.load(metric), target, score, n_resamples=resamples, seed=seed + number, groups=groups
                )
        scores = np.array([self._mean_over_folds(row, drawn) for row in frame["run_ids"]])
        if not np.isfinite(scores).all():
            return SharedNoise(None, 0, f"{metric} has no value on the shared test tracks")
        kind = "groups of test tracks" if grouped else "test tracks"
        words = f"{units} {kind} resampled {resamples} times, the same for all"
        return SharedNoise(np.atleast_2d(np.cov(scores)), units, words)

    def _read_all(self, ids: Sequence[str]) -> int:
        """Read what is not read yet; the number of runs without predictions."""
        waiting = [run for run in ids if run not in self._read]
        if waiting and not _kept(self._records[waiting[0]]):  # one file that is missing settles it
            return sum(not _kept(self._records[run]) for run in ids)
        for run in progress(waiting, desc="predictions", unit="run") if len(waiting) > 100 else waiting:
            try:
                self._read[run] = read_predictions(self._records[run], self._split)
            except FeatstoreError as error:
                logger.warning("%s", error)
                self._read[run] = None
        return sum(self._read[run] is None for run in ids)

    def _predictions(self, run: str) -> Predictions:
        found = self._read[run]
        assert found is not None  # checked by the caller
        return found

    def _shared(self, members: Sequence[str]) -> list[str] | None:
        """Tracks that all have predicted, in the order of their names; None without any, or when classes differ."""
        sides = [self._predictions(run) for run in members]
        shared = shared_tracks(sides)
        return shared if len(shared) > 1 and len({side.classes for side in sides}) == 1 else None

    def _groups(self, members: Iterable[str], shared: Sequence[str]) -> npt.NDArray[Any] | None:
        """The group of each track as some run recorded it; None where none did."""
        for run in members:
            known = _recorded_groups(self._records[run])
            if known:
                return np.array([known.get(track) or track for track in shared], dtype=object).astype(str)
        return None

    def _mean_over_folds(self, ids: Sequence[str], drawn: dict[str, Any]) -> npt.NDArray[np.float64]:
        means = [np.mean([drawn[run] for run in fold], axis=0) for fold in self._folds(ids)]
        return np.asarray(np.mean(means, axis=0))

    def _folds(self, ids: Iterable[str]) -> list[list[str]]:
        """Runs of each fold, in the order in which folds come."""
        folds: dict[str, list[str]] = {}
        for run in ids:
            folds.setdefault(str(self._records[run].result.get("fold")), []).append(run)
        return list(folds.values())


def shared_tracks(sides: Sequence[Predictions]) -> list[str]:
    """Tracks that all have predicted, in the order of their names."""
    return sorted(set.intersection(*(set(side.track_ids) for side in sides)))


def rows_of(predictions: Predictions, track_ids: Sequence[str]) -> tuple[Any, Any]:
    """Targets and scores of some tracks, in their order."""
    if predictions.track_ids == tuple(track_ids):
        return predictions.target, predictions.score
    place = {track: row for row, track in enumerate(predictions.track_ids)}
    rows = [place[track] for track in track_ids]
    return predictions.target[rows], predictions.score[rows]


def _kept(record: RunRecord) -> bool:
    return (record.path / "predictions.parquet").is_file()


def _recorded_groups(record: RunRecord) -> dict[str, str]:
    """Group of each track in ``labels.parquet`` of a run; empty without the file."""
    path = record.path / "labels.parquet"
    if not path.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pa.OSFile(str(path), "rb") as file:
            table = pq.read_table(file, columns=["track_id", "group"])
    except (OSError, pa.ArrowException, LookupError, ValueError) as error:
        logger.warning("groups of tracks cannot be read: %s: %s", path, error)
        return {}
    return dict(zip(table["track_id"].to_pylist(), table["group"].to_pylist(), strict=True))
