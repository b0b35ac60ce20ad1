"""Runs scored on altered copies of their test tracks, without training: what each representation loses by a shift.

Copies, their features and the scores are kept, so a second call does only what is missing. What fails is reported, and
ends nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from featstore.datasets import TrackTable
from featstore.errors import ConfigError, FeatstoreError
from featstore.extract import ExtractOptions, extract
from featstore.log import progress
from featstore.results.details import prediction_file
from featstore.results.shift_records import read_shifts, shift_file, write_shift
from featstore.results.shifts import shift_scores
from featstore.specs import FeatureRequest
from featstore.store import Store, open_store
from featstore.workflows.alter import alter_tracks, first_tracks
from featstore.workflows.derive import derive
from featstore.workflows.selection import Selection
from featstore.workflows.shift_plan import ShiftPlan
from featstore.workflows.side_by_side import one_core_quietly, side_by_side

__all__ = ["changed_tokens", "extract_copies", "run_shifts"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    """One run that is scored on one store of copies, as plain values that travel to a worker."""

    run: str
    store: str
    record: dict[str, Any]


def run_shifts(
    plan: ShiftPlan,
    runs: Sequence[str],
    *,
    table: TrackTable,
    selection: Selection,
    folder: Path,
    options: ExtractOptions,
) -> list[str]:
    """Alter test tracks, extract the features of the copies, and score runs on them.

    Parameters
    ----------
    plan : ShiftPlan
    runs : sequence of str
        Folders of finished runs.
    table : TrackTable
        Of the originals.
    selection : Selection
        What the recipe extracts: the same is extracted from the copies.
    folder : path
        Of the recipe; ``shifts/`` in it gets a folder for each alteration: ``audio/``, ``tracks.parquet``,
        ``store.zarr``.
    options : ExtractOptions
        Its ``jobs`` are the processes that score, too.

    Returns
    -------
    list of str
        What failed: alteration or run, and the reason.
    """
    failed: list[str] = []
    tested: dict[str, list[str]] = {}
    for run in runs:
        try:
            tested[run] = _tested(run)
        except FeatstoreError as error:
            failed.append(f"{run}: {error}")
    chosen = first_tracks((track for tracks in tested.values() for track in tracks), plan.tracks)
    if not chosen:
        return [*failed, "no finished run of these seeds has predictions of test tracks"]
    originals = open_store(folder / "store.zarr")
    share = cache(lambda store, feature: changed_tokens(originals, open_store(store), feature))
    works = []
    part = TrackTable(table.frame[table.frame["track_id"].isin(chosen)].reset_index(drop=True), table.info)
    for name in plan.names:
        place = folder / "shifts" / name / "store.zarr"
        try:
            failed += _make_copies(plan, name, part, place.parent, options)
            extract_copies(place, selection, folder / "store.zarr", options)
        except FeatstoreError as error:
            failed.append(f"{name}: {error}")
            continue
        copies = sorted(TrackTable.read(place.with_name("tracks.parquet")).frame["track_id"].astype(str))
        digest = hashlib.sha256("\n".join(copies).encode()).hexdigest()[:16]
        about = {"shift": name, "seed": plan.seed, "tracks": digest}
        for run in tested:
            try:
                if not _is_scored(run, about):
                    changed = _changed(run, str(place), share)
                    works.append(_Task(run, str(place), about | {"changed": changed}))
            except FeatstoreError as error:
                failed.append(f"{run} on {name}: {error}")
    errors = side_by_side(_score, works, jobs=options.jobs, start=one_core_quietly)
    shown = progress(errors, total=len(works), desc="shifts", unit="run")
    for task, reason in zip(works, shown, strict=True):
        if reason:
            failed.append(f"{task.run} on {task.record['shift']}: {reason}")
    return failed


def _tested(run: str) -> list[str]:
    """Test tracks that a run has predictions of."""
    parts = prediction_file(Path(run) / "predictions.parquet")
    if "test" not in parts:
        raise ConfigError("the run's predictions have no test tracks", run, "Score it again: featstore evaluate RUN")
    return list(parts["test"].track_ids)


def _make_copies(plan: ShiftPlan, name: str, table: TrackTable, folder: Path, options: ExtractOptions) -> list[str]:
    """Altered copies of tracks with their table; what cannot be altered."""
    altered = alter_tracks(table, name, folder / "audio", seed=plan.seed, jobs=options.jobs)
    altered.table.write(folder / "tracks.parquet")
    if not altered.failed:
        return []
    track, reason = next(iter(altered.failed.items()))
    return [f"{name}: {len(altered.failed)} of {len(table)} tracks cannot be altered, such as {track}: {reason}"]


def extract_copies(place: Path, selection: Selection, originals: Path, options: ExtractOptions) -> None:
    """Features of the copies as those of the originals are, in the ranges that were measured there."""
    extract(TrackTable.read(place.with_name("tracks.parquet")), selection.stored, place, options)
    if selection.derived:
        store = open_store(originals)
        known = [store[each] for each in selection.derived]
        derive(str(place), [FeatureRequest(each.spec, each.encoding) for each in known])


def _is_scored(run: str, about: Mapping[str, Any]) -> bool:
    there = next((each for each in read_shifts(run) if each["shift"] == about["shift"]), {})
    result = Path(run) / "result.json"
    made = shift_file(run, str(about["shift"]))
    newer = made.is_file() and made.stat().st_mtime_ns >= result.stat().st_mtime_ns
    return newer and all(there.get(key) == value for key, value in about.items())


def _changed(folder: str, store: str, share: Callable[[str, str], float | None]) -> float | None:
    """Mean share of changed tokens over the tokens that a run reads; None where it reads none."""
    from featstore.training.folders import RunFolder

    run = RunFolder(folder).read_run() or {}
    shares = [share(store, feature) for feature in str(run.get("feature", "")).split(" + ") if feature]
    known = [each for each in shares if each is not None]
    return float(np.mean(known)) if known else None


def changed_tokens(store: Store, shifted: Store, feature: str) -> float | None:
    """Share of a feature's tokens that differ, over the tracks and frames that both stores have; None for others."""
    tokens = store[feature].spec.stored_as
    if tokens.vocabulary is None:
        return None
    before, after = store[tokens], shifted[tokens]
    differing = total = 0
    for track in (each for each in after if each in before):
        one, two = before[track], after[track]
        n = min(one.shape[-1], two.shape[-1])
        differing += int((one[..., :n] != two[..., :n]).sum())
        total += one[..., :n].size
    return differing / total if total else None


def _score(task: _Task) -> str:
    """Score one run on the copies; return what went wrong, or nothing."""
    from featstore.training import evaluate

    target = shift_file(task.run, task.record["shift"], ".parquet")
    try:
        evaluate(task.run, store=task.store, splits=["test"], settings={"device": {"devices": 1}}, predictions=target)
        clean, shifted = (prediction_file(place)["test"] for place in (Path(task.run) / "predictions.parquet", target))
        found = {"n_tracks": len(shifted.track_ids), "scores": shift_scores(clean, shifted)}
        write_shift(task.run, task.record | found)
    except FeatstoreError as error:
        return str(error)
    except Exception as error:  # whatever it is, the other runs have nothing to do with it
        logger.exception("%s cannot be scored on %s", task.run, task.record["shift"])
        return f"{type(error).__name__}: {error}"
    return ""
