"""What is done when a worker is lost: try its shard again, suspect the track it was at, give up in the end."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from featstore.extract.limits import BLIND_DEATHS, MOST_BYSTANDS, MOST_DEATHS
from featstore.extract.report import ExtractReport
from featstore.extract.work_notes import clear_note, dead_notes, notes_of
from featstore.extract.worker import ShardTask
from featstore.store.location import FolderLocation, Location

__all__ = ["FailurePolicy"]

logger = logging.getLogger(__name__)


class FailurePolicy:
    """Remembers which tracks were in work when workers were lost.

    Parameters
    ----------
    location : Location
    run : str
        Label of this run.
    report : ExtractReport, optional
        Counts lost workers and the shards that are given up.
    """

    def __init__(self, location: Location, run: str, report: ExtractReport | None = None) -> None:
        self._location, self._run = location, run
        self._report = report or ExtractReport(str(location))
        self._deaths: Counter[int] = Counter()
        self._bystands: Counter[int] = Counter()
        self._sees_notes = isinstance(location, FolderLocation)
        self._named: dict[int, Counter[int]] = defaultdict(Counter)

    def suspect_leftovers(self) -> None:
        """Suspect the tracks that runs before this one died at: killed by force, perhaps by these very tracks."""
        for note in list(dead_notes(self._location)):
            if note.slot >= 0:
                self._named[note.shard][note.slot] = 1  # once at most: the run may have been ended for other reasons
            clear_note(note.path)

    def prepare(self, task: ShardTask) -> ShardTask:
        """Return the task with what is known of its tracks."""
        named = self._named.get(task.shard)
        return replace(task, suspects=tuple(sorted(named.items()))) if named else task

    def after_death(self, task: ShardTask) -> list[ShardTask]:
        """Return the task for another try of a shard whose worker was lost; none when it is given up."""
        named = self._named[task.shard]
        found = False
        for note in list(notes_of(self._location, self._run)):
            if note.shard == task.shard and note.attempt == task.attempt:
                found = True
                if note.slot >= 0:
                    named[note.slot] += 1
                    logger.warning("a worker was lost at track %d of shard %d", note.slot, task.shard)
                clear_note(note.path)
        (self._deaths if found or not self._sees_notes else self._bystands)[task.shard] += 1
        # shards that only waited at the worker are not counted
        self._report.lost_workers += found or not self._sees_notes
        if not self._sees_notes and self._deaths[task.shard] >= BLIND_DEATHS:
            named[-1] = 0
        if self._deaths[task.shard] >= MOST_DEATHS or self._bystands[task.shard] >= MOST_BYSTANDS:
            logger.error("shard %d has lost too many workers and is left for another run", task.shard)
            self._report.given_up.append(task.shard)
            return []
        return [self.prepare(replace(task, attempt=task.attempt + 1))]

    def after_loss(self, tasks: Sequence[ShardTask]) -> list[ShardTask]:
        """Tasks for another try after one worker was lost that had several of them."""
        before = self._report.lost_workers
        again = [task for lost in tasks for task in self.after_death(lost)]
        self._report.lost_workers = before + 1
        return again

    def clean_up(self) -> None:
        """Remove what is left of this run's notes."""
        for note in list(notes_of(self._location, self._run)):
            clear_note(note.path)
