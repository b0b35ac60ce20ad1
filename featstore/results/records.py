"""Run records: the results of finished runs, read from any number of folders.

A folder is a run when it holds ``result.json``. Nothing is cached: what is on disk is what is read, so there is no
index that could be stale, and many writers on many machines need no server.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featstore.errors import ConfigError
from featstore.html_repr import html_card
from featstore.results.schema import RESULT_NAME, problems_of
from featstore.results.shift_records import read_shifts
from featstore.specs import parse_feature

__all__ = ["RunRecord", "SkippedRun", "find_records"]

logger = logging.getLogger(__name__)

# a folder with one of these but without a result is an unfinished run
_TRACES = frozenset({"metrics.jsonl", "config.yaml", "predictions.parquet", "checkpoints"})
# never a place for runs: parts of a run; and stores, which hold many files
_CLOSED, _STORE = frozenset({"checkpoints", "__pycache__"}), frozenset({"zarr.json", ".zgroup"})
_READERS = 8  # threads: a local disk needs one, a network file system answers eight at once


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One finished run.

    Attributes
    ----------
    path : Path
        The run's folder.
    result : dict
        Its ``result.json``, and under ``shifts`` what it loses on altered tracks, where it was scored on such.
    run_id : str
        Its name in reports, unique within the ``RunSet`` it came with.
    """

    path: Path
    result: dict[str, Any]
    run_id: str

    @property
    def model(self) -> str:
        """Name of the model, such as ``vgg-cnn``."""
        return str(self.result["model"])

    @property
    def feature(self) -> str:
        """Canonical name of the feature with its encoding."""
        return str(self.result["feature"])

    @property
    def short_feature(self) -> str:
        """The feature, or several joined by ``+``, with the fields that differ from the defaults."""
        return " + ".join(parse_feature(each).spec.short() for each in self.feature.split(" + "))

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return str(self.result["dataset"])

    @property
    def config(self) -> dict[str, Any]:
        """The resolved settings; empty when the run did not record them."""
        config = self.result.get("config")
        return dict(config) if isinstance(config, Mapping) else {}

    @property
    def _store(self) -> Mapping[str, Any]:
        store = self.result.get("store")
        return store if isinstance(store, Mapping) else {"path": store}

    @property
    def store_path(self) -> str:
        """Location of the store that the run read, empty when it is not recorded."""
        return str(self._store.get("path") or "")

    @property
    def store_fingerprint(self) -> str:
        """Digest of that store, empty when it is not recorded."""
        return str(self._store.get("fingerprint") or "")

    @property
    def shifts(self) -> list[dict[str, Any]]:
        """What the run loses on altered copies of its test tracks: ``shift, seed, n_tracks, changed, scores``."""
        return list(self.result.get("shifts") or [])

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Metrics by split."""
        return {split: dict(values) for split, values in self.result["scores"].items()}

    def _repr_html_(self) -> str:
        rows = [(f"{split} {name}", value) for split, values in self.scores.items() for name, value in values.items()]
        return html_card(f"{self.model} on {self.short_feature}: {self.path}", rows, total=len(rows))

    def score(self, metric: str, split: str = "test") -> float:
        """Value of ``metric`` on ``split``; NaN when the run has none."""
        value = self.result["scores"].get(split, {}).get(metric)
        return float("nan") if value is None else float(value)


@dataclass(frozen=True, slots=True)
class SkippedRun:
    """A folder that looks like a run and cannot be used, with the reason."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def find_records(roots: Sequence[str | Path]) -> tuple[list[RunRecord], list[SkippedRun]]:
    """Every run below ``roots``, and every folder that looks like one and cannot be used; by path."""
    found: dict[str, bool] = {}
    for root in roots:
        found.update(_run_folders(root))
    complete = [folder for folder, finished in found.items() if finished]
    with ThreadPoolExecutor(_READERS) as pool:
        loaded = list(pool.map(_load, complete, chunksize=64))
    lacking = f"has no {RESULT_NAME}: the run has not finished, or was interrupted"
    outcomes: dict[str, dict[str, Any] | str] = dict.fromkeys(found, lacking)
    outcomes |= zip(complete, loaded, strict=True)
    pairs = [(folder, result) for folder, result in outcomes.items() if isinstance(result, dict)]
    skipped = [SkippedRun(Path(folder), reason) for folder, reason in outcomes.items() if isinstance(reason, str)]
    records = [
        RunRecord(Path(folder), result, run_id)
        for (folder, result), run_id in zip(pairs, _unique_ids(pairs), strict=True)
    ]
    logger.info("%d runs read, %d folders skipped", len(records), len(skipped))
    return sorted(records, key=lambda record: record.path), sorted(skipped, key=lambda skip: skip.path)


def _run_folders(root: str | Path) -> dict[str, bool]:
    """Folders below ``root`` that are runs (True) or have the traces of one (False)."""
    top = Path(root).expanduser()
    if top.name == RESULT_NAME and top.is_file():
        top = top.parent
    if not top.is_dir():
        raise ConfigError("there is no such folder of runs", str(root), "Check the path, or train a model first")
    found: dict[str, bool] = {}
    seen: set[tuple[int, int]] = set()
    for folder, inner, files in os.walk(os.path.realpath(top), followlinks=True, onerror=_tell_unreadable):
        try:
            status = os.stat(folder)
        except OSError as error:
            _tell_unreadable(error)
            continue
        names, place = {*inner, *files}, (status.st_dev, status.st_ino)
        skipped = place in seen or bool(names & _STORE)  # loops of links are followed once
        seen.add(place)
        if not skipped and names & {RESULT_NAME, *_TRACES}:
            found[folder] = RESULT_NAME in names
        closed = skipped or RESULT_NAME in names  # the folders inside a finished run are its own
        inner[:] = [] if closed else [name for name in inner if name not in _CLOSED and not name.startswith(".")]
    return found


def _tell_unreadable(error: OSError) -> None:
    """Warn of a folder that cannot be read, such as one without permission: it does not hide the others."""
    logger.warning("%s cannot be read: %s", error.filename, error.strerror)


def _load(folder: str) -> dict[str, Any] | str:
    """The result in ``folder``, or the reason why there is none."""
    try:
        data = Path(folder, RESULT_NAME).read_bytes()
    except OSError as error:
        return f"{RESULT_NAME} cannot be read: {error.strerror}"
    if not data.strip():
        return f"{RESULT_NAME} is empty"
    try:
        result = json.loads(data, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        return f"{RESULT_NAME} is not valid JSON: {error}"
    problems = problems_of(result)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        return f"{RESULT_NAME} is not a result of featstore: {'; '.join(problems[:3])}{more}"
    shifts = read_shifts(folder)
    return {**result, "shifts": shifts} if shifts else dict(result)


def _unique_ids(pairs: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """A name for each run: its ``run_id``, or as much of its path as it takes to tell it from all others."""
    names = [str(result.get("run_id") or Path(folder).name) for folder, result in pairs]
    counts = Counter(names)
    if len(counts) == len(names):
        return names
    taken = {name for name, count in counts.items() if count == 1}
    parts = [Path(folder).parts for folder, _ in pairs]
    ends = Counter(part[-depth:] for part in parts for depth in range(1, len(part) + 1))
    for position, part in enumerate(parts):
        if names[position] not in taken:
            tails = (part[-depth:] for depth in range(1, len(part)))
            tail = next((tail for tail in tails if ends[tail] == 1 and "/".join(tail) not in taken), part)
            names[position] = "/".join(tail)
    return names
