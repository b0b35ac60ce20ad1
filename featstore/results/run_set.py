"""Sets of runs: a sequence of records, and the same as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from featstore.errors import ConfigError, check_known
from featstore.html_repr import html_card
from featstore.results.frames import flatten, runs_frame
from featstore.results.records import RunRecord, SkippedRun, find_records

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunSet", "frame_of", "read_results"]


@dataclass(frozen=True)
class RunSet(Sequence[RunRecord]):
    """Runs in the order of their paths, and the folders that were skipped.

    It is a sequence of ``RunRecord``; ``frame`` is the same as a table, one row per run.
    """

    records: tuple[RunRecord, ...] = ()
    skipped: tuple[SkippedRun, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> RunRecord: ...
    @overload
    def __getitem__(self, index: slice) -> RunSet: ...
    def __getitem__(self, index: int | slice) -> RunRecord | RunSet:
        if isinstance(index, slice):
            return RunSet(self.records[index], self.skipped)
        return self.records[index]

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} folders skipped" if self.skipped else ""
        return f"<{len(self.records)} run{'s' * (len(self.records) != 1)}{skipped}>"

    def _repr_html_(self) -> str:
        def main_score(run: RunRecord) -> Any:
            return next(iter(run.scores.get("test", {}).values()), "")

        rows = ((run.model, run.short_feature, run.result.get("seed"), main_score(run)) for run in self.records)
        return html_card(repr(self)[1:-1], rows, ("model", "feature", "seed", "test"), total=len(self.records))

    def select(self, keep: Callable[[RunRecord], bool]) -> RunSet:
        """The runs for which ``keep`` is true; what was skipped stays listed."""
        return RunSet(tuple(record for record in self.records if keep(record)), self.skipped)

    def of(self, run_ids: Iterable[str]) -> RunSet:
        """The runs with these ids; what was skipped stays listed."""
        wanted = set(run_ids)
        return self.select(lambda record: record.run_id in wanted)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per run; see ``featstore.results.runs_frame`` for the columns."""
        return runs_frame(self.records)


def read_results(*roots: str | Path) -> RunSet:
    """Read every run below ``roots``, at any depth.

    Corrupt, half-written and foreign folders never stop the others: they are listed in ``RunSet.skipped``.

    Parameters
    ----------
    *roots : path
        Folders that hold runs, or runs themselves, or single ``result.json`` files. A run found twice counts once.

    Raises
    ------
    ConfigError
        When a root does not exist, or none is given.
    """
    if not roots:
        raise ConfigError("no folder of runs was given", "", "Name one or more folders that hold runs")
    records, skipped = find_records(roots)
    return RunSet(tuple(records), tuple(skipped))


def frame_of(runs: RunSet | pd.DataFrame, names: Iterable[str] = ()) -> pd.DataFrame:
    """The table behind ``runs``, which may be one already; runs get the columns ``config.<key>`` among ``names``."""
    if not isinstance(runs, RunSet):
        return runs
    frame = runs.frame
    wanted = [name for name in names if name.startswith("config.") and name not in frame]
    if not wanted:
        return frame
    flat = [flatten(record.config) for record in runs]
    known = {f"config.{key}" for settings in flat for key in settings}
    for name in wanted:
        check_known(name, known, f"no run has a setting {name!r}", "report")
    values = {name: [settings.get(name.removeprefix("config.")) for settings in flat] for name in wanted}
    plain: dict[str, Any] = {
        name: [str(v) if isinstance(v, list | dict) else v for v in column] for name, column in values.items()
    }
    import pandas as pd

    # all columns in one step: a frame of runs has a hundred already, and one by one is slow
    return pd.concat([frame, pd.DataFrame(plain, index=frame.index)], axis=1)
