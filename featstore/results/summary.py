"""Groups of runs: means, deviations and intervals over seeds or folds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from featstore.arrays import IntArray
from featstore.errors import ConfigError, check_known
from featstore.metrics import bounds_of, lower_is_better
from featstore.plain import is_missing
from featstore.results.costs import COSTS
from featstore.results.drop_columns import drops_in
from featstore.results.frames import FIELDS, metrics_in, score_column
from featstore.results.labels import labels_of
from featstore.results.run_set import RunSet, frame_of
from featstore.results.significance import interval, mean_and_std

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Over", "summarise"]

Over = Literal["auto", "run", "seed", "fold"]
CONFIGURATION = ("dataset", "model", "feature", "configuration")


def summarise(
    runs: RunSet | pd.DataFrame,
    by: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    split: str = "test",
    over: Over = "auto",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Average runs in groups.

    Parameters
    ----------
    runs : RunSet or DataFrame
        Runs, or rows of ``RunSet.frame``.
    by : sequence of str, optional
        Columns that make a group, also ``config.<setting>`` with dots inside. By default a group is a configuration:
        runs that differ in nothing but seed and fold.
    metrics : sequence of str, optional
        Metrics to average; all that there are on ``split`` by default.
    over : str
        What is repeated: ``run`` takes each run as one value; ``seed`` first averages the folds of each seed, and
        ``fold`` the seeds of each fold, so that n counts what was repeated independently. ``auto`` takes ``seed``
        where a group has several seeds and, besides, several folds or configurations, and ``run`` otherwise.
        A run that was repeated with the same configuration, seed and fold counts once, the last one.
    confidence : float in (0, 1)
        Level of the intervals (Student's t with n − 1 degrees of freedom, clipped to what the metric can be).

    Returns
    -------
    DataFrame
        One row per group, by data set, best first: the columns of ``by``, the fields of the feature that are the same
        in the whole group, ``label``, ``n_runs``, ``n_configurations``, ``balanced`` (every configuration has every
        seed and fold), ``over``, ``n``; ``<metric>_mean``, ``_std`` (n − 1), ``_low``, ``_high``, ``_n`` and
        ``_values`` (a tuple) for each metric; the mean of each column of ``COSTS``, and of the columns of altered test
        tracks; ``run_ids`` (a tuple).

    Raises
    ------
    ConfigError
        For an unknown column, metric or split, or when there are no runs.
    """
    frame = frame_of(runs, by or ())
    if not len(frame):
        raise ConfigError("there are no runs to summarise", "report", "Check the folder, or loosen the conditions")
    check_known(over, get_args(Over), f"cannot average over {over!r}", "report")
    by = list(CONFIGURATION if by is None else by)
    for name in by:
        check_known(name, [*map(str, frame)], f"runs have no column {name!r}", "report")
    chosen = list(metrics) if metrics is not None else metrics_in(frame, split)
    columns = {metric: score_column(frame, metric, split) for metric in chosen}
    kept = _without_repeats(frame.assign(label=labels_of(frame)))
    return _ordered(list(_group_rows(kept, by, columns, over, confidence)), chosen)


def _without_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """Without runs that were done again: the same configuration, seed and fold is not another sample."""
    newest = frame.sort_values("finished", kind="stable", na_position="first")
    return newest.drop_duplicates(["configuration", "seed", "fold"], keep="last").sort_index()


def _group_rows(
    frame: pd.DataFrame, by: list[str], columns: dict[str, str], over: Over, confidence: float
) -> Iterator[dict[str, Any]]:
    """The summary of each group; from plain arrays, so that thousands of groups are summed in a moment."""
    constant = [*by, *[name for name in (*FIELDS, "label") if name not in by]]
    plain = {name: frame[name].to_numpy(dtype=object) for name in (*constant, "run_id")}
    numbers = {name: frame[name].to_numpy(dtype=float) for name in (*columns.values(), *COSTS, *drops_in(frame))}
    coded = (*constant, "seed", "fold", "configuration")
    codes = {name: frame[name].astype(object).astype(str).factorize()[0] for name in coded}
    group = frame.groupby(by, dropna=False, sort=False).ngroup().to_numpy()
    order = np.argsort(group, kind="stable")
    for index in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        counts = {name: len(set(codes[name][index].tolist())) for name in coded}
        row: dict[str, Any] = {}
        for name in constant:
            value = plain[name][index[0]]
            row[name] = value if counts[name] == 1 and not is_missing(value) else None
        seeds, folds, configurations = (counts[name] for name in ("seed", "fold", "configuration"))
        unit = over if over != "auto" else "seed" if seeds > 1 and (folds > 1 or configurations > 1) else "run"
        repeated = None if unit == "run" else codes[unit]
        row |= {"n_runs": len(index), "n_configurations": configurations}
        row |= {"balanced": configurations * seeds * folds == len(index), "over": unit}
        found = {metric: _values(index, numbers[column], repeated) for metric, column in columns.items()}
        row["n"] = max(map(len, found.values()), default=len(index))
        for metric, values in found.items():
            mean, std = mean_and_std(values)
            low, high = np.clip(interval(mean, std, len(values), confidence=confidence), *bounds_of(metric)).tolist()
            parts = {"mean": mean, "std": std, "low": low, "high": high, "n": len(values), "values": values}
            row |= {f"{metric}_{name}": value for name, value in parts.items()}
        for name in (*COSTS, *drops_in(frame)):
            known = numbers[name][index][~np.isnan(numbers[name][index])]
            row[name] = float(known.mean()) if len(known) else math.nan
        yield row | {"run_ids": tuple(plain["run_id"][index])}


def _values(index: IntArray, numbers: npt.NDArray[np.float64], codes: IntArray | None) -> tuple[float, ...]:
    """One value per repetition: the mean of the rows with one code, or each row where there are no codes."""
    known = index[~np.isnan(numbers[index])]
    if codes is None:
        return tuple(float(value) for value in numbers[known])
    return tuple(float(numbers[known[codes[known] == code]].mean()) for code in np.unique(codes[known]))


def _ordered(rows: list[dict[str, Any]], metrics: list[str]) -> pd.DataFrame:
    """The rows as a table, best score of the first metric first, smallest first among equals."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    if not metrics:
        return frame.sort_values("bytes_alone", kind="stable", ignore_index=True)
    ascending = {f"{metrics[0]}_mean": lower_is_better(metrics[0]), "bytes_alone": True}
    if "dataset" in frame:  # scores of two sets do not compare
        ascending = {"dataset": True} | ascending
    return frame.sort_values(list(ascending), ascending=list(ascending.values()), kind="stable", ignore_index=True)
