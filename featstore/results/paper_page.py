"""The page of a paper's recipe: figures and tables from measured runs, with the ids of the runs behind each."""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featstore.atomic import write_json, write_text
from featstore.errors import ConfigError, check_keys, check_known
from featstore.metrics import METRICS, title_of
from featstore.plain import plain
from featstore.results.claims import check_claim, claim_table, judge_claims
from featstore.results.conditions import parse_conditions, selected
from featstore.results.costs import COSTS
from featstore.results.drop_columns import is_drop
from featstore.results.figure_encoding import against_float
from featstore.results.figures import KINDS, draw
from featstore.results.frames import metrics_in, score_column
from featstore.results.fronts import MARGIN
from featstore.results.page import fill_template
from featstore.results.paper_tables import (
    RUN_FIGURES,
    TESTS,
    PaperTable,
    against_best,
    paper_table,
    stage_of,
    texts_of,
)
from featstore.results.reference import PAPERS
from featstore.results.run_set import RunSet, frame_of
from featstore.results.summary import summarise
from featstore.results.tables import format_rows, format_table, plain_rows
from featstore.typed_values import converted

__all__ = ["DEFAULTS", "check_report", "write_page"]

DEFAULTS = {
    "metric": "roc_auc",
    "cost": "bytes_alone",
    "margin": MARGIN,
    "late_gain": None,
    "test": "welch",
    "published": "",
    "page": "page.html",
}
_TEXTS = ("metric", "cost", "test", "published", "page")
_KEYS = (*DEFAULTS, "where", "tables", "figures", "claims")
_TABLE_KEYS = ("title", "stage", "where", "rows", "columns", "metrics", "reference", "within", "note", "undertrained")
_FIGURE_KEYS = ("kind", "title", "text", "stage", "where", "each", "file", "metric", "colour")


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of the page: its file, what it shows, and the runs behind it with their scores as a table."""

    path: Path
    title: str
    text: str
    heads: list[str]
    rows: list[list[str]]

    @property
    def picture(self) -> str:
        """The figure as SVG, in base64."""
        return base64.b64encode(self.path.with_suffix(".svg").read_bytes()).decode()


def check_report(settings: Mapping[str, Any], where: str = "report") -> None:
    """Check the ``report`` section of a recipe, before any work is done for it.

    Raises
    ------
    ConfigError
        For an unknown key, kind or paper, a table without title or rows, a faulty claim, or text that is no condition.
    """
    check_keys(settings, _KEYS, where)
    for name, kind in (("margin", float), ("late_gain", float | None), *((name, str) for name in _TEXTS)):
        converted(kind, settings.get(name, DEFAULTS[name]), name, where)
    parse_conditions(texts_of(settings))
    columns = ("n", *METRICS, "loss", *COSTS, *TESTS, *RUN_FIGURES)
    for place, spec in _entries(settings, "tables", where):
        check_keys(spec, _TABLE_KEYS, place)
        rows = spec.get("rows")
        if not spec.get("title") or not isinstance(rows, list) or len({isinstance(row, str) for row in rows}) != 1:
            fix = "Rows are a list of columns, or a list of mappings: docs/reports.md"
            raise ConfigError("a table needs a title and rows", place, fix)
        parse_conditions([*texts_of(spec), *(text for row in rows for text in _conditions(row, place))])
        for name in (name for key in ("columns", "metrics") for name in texts_of(spec, key)):
            if not is_drop(name):
                check_known(name, columns, f"unknown column {name!r}", place)
        reference = converted(dict[str, Any], spec.get("reference") or {}, "reference", place)
        paper = reference.get("paper", PAPERS[0])
        check_known(paper, PAPERS, f"unknown paper {paper!r}", place)
    for place, spec in _entries(settings, "claims", where):
        check_claim(spec, place)
    for place, spec in _entries(settings, "figures", where):
        check_keys(spec, _FIGURE_KEYS, place)
        check_known(spec.get("kind"), KINDS, f"unknown figure {spec.get('kind')!r}", place)
        parse_conditions(texts_of(spec))


def _entries(settings: Mapping[str, Any], key: str, where: str) -> list[tuple[str, Any]]:
    """The tables or figures, each with its place in the recipe."""
    found = settings.get(key) or []
    if not isinstance(found, list):
        raise ConfigError(f"{key} is not a list", where, "Begin each entry with a dash")
    return [(f"{where}.{key}[{i}]", spec) for i, spec in enumerate(found)]


def _conditions(row: Any, place: str) -> list[str]:
    if isinstance(row, str):
        return []
    if not isinstance(row, Mapping):
        raise ConfigError(f"the row {row!r} is not a mapping", place, "Write column: value")
    return [*texts_of(row), *texts_of(row, "published")]


def write_page(
    runs: RunSet,
    folder: str | Path,
    settings: Mapping[str, Any],
    *,
    before: RunSet | None = None,
    title: str = "",
    commands: Sequence[str] = (),
    further: Sequence[PaperTable] = (),
) -> list[Path]:
    """Write the figures, tables and page that a recipe's ``report`` section describes to ``folder``.

    The page holds everything; beside it are the figures as PNG and SVG, ``configurations.csv``, every configuration
    against the best of its model, whose rows name their runs, and the claims as ``claims.md`` and ``claims.json``.

    Parameters
    ----------
    runs : RunSet
        Of one data set; those that do not meet ``where`` are left out.
    settings : mapping
        The ``report`` section; ``docs/reports.md`` describes its keys.
    before : RunSet, optional
        Runs of pretraining, for tables and figures whose ``stage`` is ``pretraining``.
    title : str
        Heading.
    commands : sequence of str
        What was typed.
    further : sequence of PaperTable
        Ready-made tables for the end of the page.

    Raises
    ------
    ConfigError
        When no run meets ``where`` or has the metric, or the runs are of several data sets.
    """
    check_report(settings)
    settings, folder = {**DEFAULTS, **settings}, Path(folder)
    runs = selected(runs, texts_of(settings))
    if not len(runs):
        raise ConfigError(f"no run meets {', '.join(texts_of(settings))}", "report.where", "Train such runs")
    score_column(runs.frame, settings["metric"])  # refuses a metric that no run has
    summary = summarise(runs)
    frame, _ = against_best(summary, settings["metric"], cost=settings["cost"], test=settings["test"])
    write_text(folder / "configurations.csv", format_table(frame, "csv"))
    stages = {"test": runs, "valid": RunSet() if before is None else before}
    figures = list(_figures(settings, stages, folder))
    tables = [paper_table(spec, stages[stage_of(spec)], settings) for _, spec in _entries(settings, "tables", "report")]
    claims, written = _claims(settings, runs, folder)
    datasets = ", ".join(sorted(map(str, summary["dataset"].unique())))
    head = f"{int(summary['n_runs'].sum())} runs of {len(summary)} configurations on {datasets}."
    shown = [table for table in (*claims, *tables, *further) if table]
    page = folder / settings["page"]
    about: Any = {"title": title or "Report", "head": head, "commands": commands, "figures": figures}
    write_text(page, fill_template("paper_page", tables=shown, **about))
    return [page, folder / "configurations.csv", *written, *(figure.path for figure in figures)]


def _claims(settings: Mapping[str, Any], runs: RunSet, folder: Path) -> tuple[list[PaperTable], list[Path]]:
    """The table of claims, where there are any, and its files for other programs and pages."""
    specs = [spec for _, spec in _entries(settings, "claims", "report")]
    if not specs:
        return [], []
    results = judge_claims(runs, specs, metric=settings["metric"])
    table, files = claim_table(results), [folder / "claims.md", folder / "claims.json"]
    text = format_rows(table.heads, table.rows, "markdown")
    write_text(files[0], f"{text}\n\n{table.note}\n")
    write_json(files[1], plain(results))
    return [table], files


def _figures(settings: Mapping[str, Any], stages: Mapping[str, RunSet], folder: Path) -> Iterator[_Figure]:
    """Draw the figures; neighbours that are drawn for each value of one column alternate."""
    entries = [spec for _, spec in _entries(settings, "figures", "report")]
    for (column, split), specs in itertools.groupby(entries, lambda spec: (spec.get("each", ""), stage_of(spec))):
        chosen, runs = list(specs), stages[split]
        if not len(runs):
            continue
        frame = frame_of(runs, [column])
        if column:
            check_known(column, [*map(str, frame)], f"runs have no column {column!r}", "report: each")
        values = sorted(map(str, frame[column].dropna().unique())) if column else [""]
        for value, spec in itertools.product(values, chosen):
            conditions = [*texts_of(spec), *([f"{column}={value}"] if column else [])]
            part = selected(runs, conditions)
            rows = summarise(part, split=split) if len(part) else None
            if rows is not None and spec["kind"] == "encoding":
                rows = against_float(rows, spec.get("metric", settings["metric"]), settings["test"])
            if rows is None or not len(rows):
                continue
            name, title, text = (
                str(spec.get(key, default))
                .replace(f"{{{column}}}", value)
                .replace("{published}", settings["published"])
                for key, default in (("file", spec["kind"]), ("title", spec["kind"]), ("text", ""))
            )
            options = {key: settings[key] for key in ("metric", "cost", "margin", "test", "published", "late_gain")}
            options |= {key: spec[key] for key in ("metric", "colour") if key in spec}
            paths = draw(part, spec["kind"], [folder / f"{name}{suffix}" for suffix in (".png", ".svg")], **options)
            ids = dict.fromkeys(run for ids in rows["run_ids"] for run in ids)
            yield _Figure(paths[0], title, text, *_runs_behind(ids, runs, split))


def _runs_behind(run_ids: Iterable[str], runs: RunSet, split: str) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table of runs: id, folder, seed and scores."""
    metrics = metrics_in(runs.frame, split)[:2]
    known = {row["run_id"]: row for row in plain_rows(runs.frame)}
    rows = []
    for run in run_ids:
        row = known[run]
        scores = [f"{row.get(f'{split}.{metric}') or float('nan'):.4f}" for metric in metrics]
        rows.append([run, os.sep.join(Path(str(row["path"])).parts[-3:]), str(row["seed"]), *scores])
    return ["run", "folder", "seed", *map(title_of, metrics)], rows
