"""Tables of a paper's recipe, as its YAML describes them: measured rows, and the published ones beside."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError, check_known
from featstore.metrics import in_points, lower_is_better, title_of
from featstore.plain import is_missing
from featstore.results.conditions import selected, where
from featstore.results.costs import COSTS, cost_text
from featstore.results.drop_columns import drop_cell, drop_head, is_drop
from featstore.results.labels import hops_by_multiple, row_text
from featstore.results.paper_tests import judged, verdict
from featstore.results.probes import probe_table, run_correlations
from featstore.results.reference import read_reference
from featstore.results.significance import TestName
from featstore.results.summary import summarise
from featstore.results.tables import HEADS, field_cell
from featstore.typed_values import converted

if TYPE_CHECKING:
    import pandas as pd

    from featstore.results.run_set import RunSet

__all__ = ["RUN_FIGURES", "TESTS", "PaperTable", "against_best", "paper_table", "stage_of", "texts_of"]

TESTS = {"verdict": "against the best", "difference": "difference", "p": "p", "p_holm": "p (Holm)"}
RUN_FIGURES = {
    "overfitting": "train − valid",
    "skill": "skill",
    "baseline": "to beat",
    "target_perplexity": "perplexity of targets",
    "probe": "probe",
    "rank_correlation": "ρ of loss and probe",
}
_SPECIAL = ("label", "where", "published", "chance")  # keys of a row that are no columns of a run


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of the page.

    Attributes
    ----------
    title, note : str
    heads : list of str
    rows : list of list of str
        Cells as a person reads them.
    run_ids : list of tuple of str
        Runs behind each row.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]
    run_ids: list[tuple[str, ...]]
    note: str = ""


def texts_of(spec: Mapping[str, Any], key: str = "where") -> list[str]:
    """The texts under a key, which holds one or a list of them: conditions by default."""
    found = spec.get(key) or []
    texts: list[str] = converted(list[str], [found] if isinstance(found, str) else found, key, "report")
    return texts


def stage_of(spec: Mapping[str, Any]) -> str:
    """The split that a table or figure is about: runs of pretraining have no test scores."""
    return "valid" if spec.get("stage") == "pretraining" else "test"


def paper_table(spec: Mapping[str, Any], runs: RunSet, settings: Mapping[str, Any]) -> PaperTable | None:
    """One entry of ``report.tables``; see ``docs/reports.md`` for its keys.

    Parameters
    ----------
    spec : mapping
        ``title, stage, where, rows, columns, metrics, reference, within, note``.
    runs : RunSet
        Of the table's stage.
    settings : mapping
        ``metric``, ``cost`` and ``test`` of the whole report.

    Returns
    -------
    PaperTable or None
        None when no run meets ``where`` and no row is planned.

    Raises
    ------
    ConfigError
        For an unknown column or reference.
    """
    chosen = selected(runs, texts_of(spec))
    summary = summarise(chosen, split=stage_of(spec)) if len(chosen) else None
    rows = spec["rows"]
    if all(isinstance(name, str) for name in rows):
        return None if summary is None else _found_table(spec, rows, chosen, summary, settings)
    records: list[Any] = [] if summary is None else summary.to_dict("records")
    planned = [one for entry in rows for one in _crossed(entry)]
    return _planned_table(spec, planned, chosen, records, settings["metric"])


def against_best(
    summary: pd.DataFrame, metric: str, *, cost: str = "bytes_alone", test: TestName = "welch", within: str = "model"
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Every configuration against the best of its group, by Holm over that group.

    Returns
    -------
    frame : DataFrame
        The summary's rows, best first within a group, with the columns of ``judged`` and ``verdict``.
    statements : dict of str to str
        Group to the sentence that says which test, on how many values, with which correction.
    """
    import pandas as pd

    check_known(within, [*map(str, summary)], f"runs have no column {within!r}", "report: within")
    frames, statements = [], {}
    for group, rows in summary.groupby(within, sort=True):
        known = rows[rows[cost].notna() & rows[f"{metric}_mean"].notna()]
        ordered = known.sort_values(cost, kind="stable", ignore_index=True)
        frame, best, statements[str(group)] = judged(ordered, metric, test=test)
        frame = frame.assign(verdict=[verdict(row) for row in frame.to_dict("records")])
        frame.loc[best, "verdict"] = "best mean"
        frames.append(frame.sort_values(f"{metric}_mean", ascending=lower_is_better(metric), kind="stable"))
    return pd.concat(frames, ignore_index=True), statements


def _found_table(
    spec: Mapping[str, Any], names: Sequence[str], runs: RunSet, summary: pd.DataFrame, settings: Mapping[str, Any]
) -> PaperTable:
    """One row per measured configuration."""
    columns, notes = _columns(spec), [spec.get("note", "")]
    for name in names:
        check_known(name, [*map(str, summary)], f"runs have no column {name!r}", "report: rows")
    frame = summary
    if set(columns) & set(TESTS):
        metric, within = settings["metric"], spec.get("within", "model")
        frame, said = against_best(summary, metric, cost=settings["cost"], test=settings["test"], within=within)
        notes += [f"Differences in {metric}.", *(f"{group}: {statement}" for group, statement in said.items())]
    records: list[Any] = frame.to_dict("records")
    published = _Published.of(spec)
    cells = [
        [
            *(row_text(name, row) for name in names),
            *(_cell(row, column, settings["metric"], runs) for column in columns),
            *published.cells({name: row.get(name) for name in names}),
        ]
        for row in records
    ]
    heads = [*(HEADS.get(name, name) for name in names), *map(_head, columns), *published.heads]
    return PaperTable(spec["title"], heads, cells, list(frame["run_ids"]), " ".join(filter(None, notes)))


def _planned_table(
    spec: Mapping[str, Any],
    rows: Sequence[dict[str, Any]],
    runs: RunSet,
    records: Sequence[dict[str, Any]],
    metric: str,
) -> PaperTable:
    """The rows that the paper has, whether they were measured or not."""
    columns, published = _columns(spec), _Published.of(spec)
    names = [name for name in rows[0] if name not in ("where", "published", "chance")]
    cells: list[list[str]] = []
    ids: list[tuple[str, ...]] = []
    several, guesses = 0, 0
    known = [*records, *published.frame.to_dict("records")]
    hops = {str(multiple): hop for multiple, hop in hops_by_multiple(known).items()}
    weak, faint = float(spec.get("undertrained", -np.inf)), 0
    for row in rows:
        if "chance" in row:
            named = [str(row.get(name, "")) for name in names]
            cells.append([*named, *_chance_cells(row["chance"], runs, columns), *([""] * len(published.heads))])
            ids.append(())
            guesses += 1
            continue
        fields = {name: value for name, value in row.items() if name not in _SPECIAL}
        conditions = [*(f"{name}={value}" for name, value in fields.items()), *texts_of(row)]
        kept = set(where(runs, conditions)["run_id"]) if records else set()
        own = [record for record in records if set(record["run_ids"]) <= kept]
        several += len(own) > 1
        shown = {**row, **({name: own[0].get(name, row[name]) for name in fields} if own else {})}
        shown = {name: _first(value) for name, value in shown.items()}
        shown["hop_length"] = shown.get("hop_length", hops.get(str(shown.get("hop_multiple"))))
        measured = [_cell(own[0], column, metric, runs) if own else _empty(column) for column in columns]
        named = [field_cell(name, shown) for name in names]
        if own and float(own[0].get(f"{metric}_mean", np.inf)) < weak:
            named[0], faint = f"{named[0]} (undertrained)", faint + 1
        cells.append([*named, *measured, *published.cells(fields, texts_of(row, "published"))])
        ids.append(tuple(own[0]["run_ids"]) if own else ())
    missing = sum(not each for each in ids) - guesses
    notes = [spec.get("note", ""), published.note]
    notes += [f"{missing} of {len(ids)} rows were not run."] if missing else []
    notes += [f"Undertrained are rows below {weak:g} in {metric}: guessing is too near."] if faint else []
    notes += [f"Several configurations meet {several} of the rows: the best of them is shown."] if several else []
    heads = [*("configuration" if name == "label" else HEADS.get(name, name) for name in names), *map(_head, columns)]
    return PaperTable(spec["title"], [*heads, *published.heads], cells, ids, " ".join(filter(None, notes)))


@dataclass(frozen=True)
class _Published:
    """The published rows that a table shows beside measured ones."""

    frame: Any
    metrics: tuple[str, ...]
    name: str

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> _Published:
        """Rows of ``reference``: its paper, and those that equal its other keys."""
        reference = dict(spec.get("reference") or {})
        if not reference:
            return cls(read_reference()[:0], (), "")
        frame = where(read_reference(reference.pop("paper")), [f"{name}={value}" for name, value in reference.items()])
        return cls(frame, _metrics(spec), str(reference.get("dataset", "published")))

    @property
    def heads(self) -> list[str]:
        """A head for each published metric."""
        return [f"{title_of(metric)}, {self.name}" for metric in self.metrics]

    @property
    def note(self) -> str:
        """What the reader has to know about these columns."""
        text = f"Columns with {self.name} are the paper's own numbers, on its data; the others are measured here."
        return text if self.metrics else ""

    def cells(self, fields: Mapping[str, Any], conditions: Sequence[str] = ()) -> list[str]:
        """The paper's values for the fields of a row, or for the conditions on the reference that the row names."""
        if not self.metrics:
            return []
        if not conditions and not fields:
            return ["" for _ in self.metrics]
        known = {name: value for name, value in fields.items() if name in self.frame and not is_missing(value)}
        rows = where(self.frame, conditions or [f"{name}={value}" for name, value in known.items()])
        return [
            self._value(rows[(rows["metric"] == metric) & rows["value"].notna()], metric) for metric in self.metrics
        ]

    @staticmethod
    def _value(rows: pd.DataFrame, metric: str) -> str:
        return "–" if not len(rows) else _score(metric, float(rows["value"].iloc[0]), float(rows["spread"].iloc[0]))


def _first(value: Any) -> Any:
    """The first of alternatives such as ``musicnn|musicnn-f16``."""
    return value.partition("|")[0] if isinstance(value, str) else value


def _crossed(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the values of a row's columns, the last column fastest."""
    axes = [value if isinstance(value, list) and name not in _SPECIAL else [value] for name, value in entry.items()]
    return [dict(zip(entry, values, strict=True)) for values in itertools.product(*axes)]


def _metrics(spec: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(texts_of(spec, "metrics") or ("roc_auc", "pr_auc"))


def _columns(spec: Mapping[str, Any]) -> list[str]:
    return list(texts_of(spec, "columns") or (*_metrics(spec), "n"))


def _head(column: str) -> str:
    if is_drop(column):
        return drop_head(column)
    return TESTS.get(column) or RUN_FIGURES.get(column) or HEADS.get(column) or title_of(column)


def _empty(column: str) -> str:
    if column == "n":
        return "0"
    return "–" if is_drop(column) or column in (*TESTS, *COSTS, *RUN_FIGURES) else "not run"


def _chance_cells(guess: str, runs: RunSet, columns: Sequence[str]) -> list[str]:
    """Cells of a way to guess: its macro F1 on the test labels of these runs, which all have the same."""
    known: Any = next((record.result["chance"]["test"] for record in runs if record.result.get("chance")), {})
    if guess not in known:
        return ["–" for _ in columns]
    score = _score("macro_f1_all", known[guess]["mean"], known[guess]["deviation"])
    return [score if column == "macro_f1_all" else "–" for column in columns]


def _cell(row: Mapping[str, Any], column: str, metric: str, runs: RunSet) -> str:
    """A measured cell: a count, a cost, what a test says, a figure of the runs, or a score."""
    if column == "n":
        return str(int(row["n"]))
    if is_drop(column):
        return drop_cell(column, row.get(column))
    if column in COSTS:
        return "–" if is_missing(row[column]) else cost_text(column, row[column])
    if column in RUN_FIGURES:
        return _run_figure(column, runs.of(row["run_ids"]), metric)
    if column == "verdict":
        return str(row[column])
    if column == "difference":
        return f"{_scale(metric) * row[column]:+.2f}"
    if column in TESTS:
        value = row[column]
        return "–" if is_missing(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
    if f"{column}_mean" not in row:
        raise ConfigError(f"no run has the column {column!r}", "report.tables", "Name a metric, a cost, n, or a test")
    mean = row[f"{column}_mean"]
    return "not run" if is_missing(mean) else _score(column, mean, row[f"{column}_std"])


def _run_figure(column: str, runs: RunSet, metric: str) -> str:
    """A figure of the runs of one row that is no test score."""
    frame, scale = runs.frame, _scale(metric)
    if column == "overfitting":
        names = [f"{split}.{metric}" for split in ("train", "valid")]
        return _mean(scale * (frame[names[0]] - frame[names[1]]), 2) if set(names) <= set(frame) else "–"
    if column == "skill" and "valid.skill" in frame:
        low, high = frame["valid.skill_low"].min(), frame["valid.skill_high"].max()
        return f"{frame['valid.skill'].mean():.3f} [{low:.3f}, {high:.3f}]"
    if column == "baseline":
        least = frame[[name for name in frame if str(name).startswith("valid.") and str(name).endswith("_baseline")]]
        return _mean(least.min(axis=1), 3) if least.shape[1] else "–"
    if column == "target_perplexity" and "valid.target_perplexity" in frame:
        return _mean(frame["valid.target_perplexity"], 1)
    probes = probe_table(runs, metric)
    if column == "probe" and len(probes):
        ordered = probes.sort_values("step").groupby("run_id")["score"]
        return f"{_mean(scale * ordered.last(), 2)} (first weights {_mean(scale * ordered.first(), 2)})"
    found = [value for value in run_correlations(probes).values() if np.isfinite(value)]
    if column == "rank_correlation" and found:
        return f"{np.mean(found):+.2f} ({min(found):+.2f} to {max(found):+.2f})"
    return "–"


def _mean(values: pd.Series, digits: int) -> str:
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _scale(metric: str) -> int:
    """Shares are printed in percent, as papers do."""
    return 100 if in_points(metric) else 1


def _score(metric: str, mean: float, std: float) -> str:
    """A score with its deviation over n − 1, where it has one."""
    scale = _scale(metric)
    return f"{scale * mean:.2f}" + (f" ± {scale * std:.2f}" if np.isfinite(std) else "")
