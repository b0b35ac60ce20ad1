"""The page of the resolution study: figures and tables from measured runs, with the ids of the runs behind each."""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.atomic import write_text
from featstore.results.fronts import pareto
from featstore.results.significance import TestName
from featstore.results.study import (
    StudyTable,
    against_best,
    against_float,
    grid_table,
    paper_tables,
    resolution_rows,
)
from featstore.results.tables import format_table, plain_rows

if TYPE_CHECKING:
    import pandas as pd

    from featstore.results.run_set import RunSet

__all__ = ["write_study"]

_STYLE = """
body { font: 15px/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif; color: #1d1d1f; background: #fff;
  max-width: 84rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
figure { margin: 0; } img { max-width: 100%; height: auto; } .quiet { color: #5c5c62; font-size: .85rem; }
code { background: #f5f5f3; padding: .1rem .3rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .55rem; border-bottom: 1px solid #d9d9d6; text-align: left; white-space: nowrap; }
td.runs { white-space: normal; } summary { cursor: pointer; color: #0072b2; } details { font-size: .85rem; }
.ids { font-family: ui-monospace, monospace; font-size: .78rem; }
"""


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of the page: its files, what it shows, the runs behind it."""

    path: Path
    title: str
    text: str
    run_ids: tuple[str, ...]


def write_study(
    runs: RunSet,
    folder: str | Path,
    *,
    metric: str = "roc_auc",
    cost: str = "bytes_alone",
    test: TestName = "independent",
    published: str = "MTAT",
    title: str = "",
    commands: Sequence[str] = (),
) -> list[Path]:
    """Write the study's figures, tables and page to ``folder``.

    ``study.html`` holds everything; beside it ``figure1-MODEL.png`` and ``.svg``, ``quantised.png`` and ``.svg``,
    ``front-MODEL.svg`` and ``configurations.csv``, whose rows name their runs.

    Parameters
    ----------
    runs : RunSet
        Of one data set; those that are no mel configurations are left out.
    metric, cost : str
        Of the tests, and of the front.
    test : str
        ``independent``, the study's own, or ``welch``.
    published : str
        ``MTAT`` or ``MSD``: whose published numbers are drawn as reference marks.
    title : str
        Heading.
    commands : sequence of str
        What was typed.

    Raises
    ------
    ConfigError
        When no run is of the grid, or the runs are of several data sets.
    """
    from featstore.results.summary import summarise

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    summary = resolution_rows(summarise(runs))
    frame, statements = against_best(summary, metric, test)
    pairs = against_float(summary, metric, test)
    figures = _figures(summary, pairs, folder, metric, cost, test, published)
    tables = [*paper_tables(summary), grid_table(frame, metric, statements)]
    write_text(folder / "configurations.csv", format_table(frame, "csv"))
    seeds = {row["run_id"]: row for row in plain_rows(runs.frame)}
    page = _page(title or "The resolution study", commands, summary, figures, tables, seeds)
    write_text(folder / "study.html", page)
    return [folder / "study.html", folder / "configurations.csv", *(figure.path for figure in figures)]


def _figures(
    summary: pd.DataFrame, pairs: pd.DataFrame, folder: Path, metric: str, cost: str, test: TestName, published: str
) -> list[_Figure]:
    from featstore.results.figure_encoding import plot_encoding
    from featstore.results.figure_pareto import plot_pareto
    from featstore.results.figure_study import plot_study

    found = []
    for model, rows in summary.groupby("model", sort=True):
        exact = rows[rows["encoding"].isin(["float32", None])]
        if len(exact):
            paths = [folder / f"figure1-{model}{suffix}" for suffix in (".png", ".svg")]
            plot_study(exact, paths, metrics=[m for m in ("roc_auc", "pr_auc") if f"{m}_mean" in exact],
                       published=published)  # fmt: skip
            text = f"Filled: measured here, mean and deviation. Hollow: the paper's, on {published}. On other "
            text += "data than measured here they have an axis of their own, shifted and not stretched: differences "
            text += (
                "between configurations can be compared, levels cannot. Below: multiply-accumulates of one model input."
            )
            found.append(_Figure(paths[0], f"Figure 1: {model}, float32", text, _ids(exact)))
        paths = [folder / f"front-{model}{suffix}" for suffix in (".png", ".svg")]
        plot_pareto(pareto(rows, cost, metric, test=test), paths)
        text = "Bytes of each configuration on its own, for all tracks: measured on disk, or those of the array that a "
        text += "view would be."
        found.append(_Figure(paths[0], f"Storage and score: {model}", text, _ids(rows)))
    if len(pairs):
        paths = [folder / f"quantised{suffix}" for suffix in (".png", ".svg")]
        plot_encoding(pairs, paths, metric=metric)
        text = "Whole numbers on a fixed range in place of float32, everything else equal."
        found.append(_Figure(paths[0], "Quantised features", text, _ids(pairs)))
    return found


def _ids(rows: pd.DataFrame) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run for ids in rows["run_ids"] for run in ids))


def _page(
    title: str,
    commands: Sequence[str],
    summary: pd.DataFrame,
    figures: Sequence[_Figure],
    tables: Sequence[StudyTable],
    seeds: dict[str, dict[str, Any]],
) -> str:
    """The page as text: no script, nothing loaded."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    text = html.escape
    datasets = ", ".join(sorted(map(str, summary["dataset"].unique())))
    runs = int(summary["n_runs"].sum())
    head = f"{runs} runs of {len(summary)} configurations on {datasets}."
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{text(title)}</h1><p>{text(head)}</p>",
    ]
    if commands:
        lines.append("<p>Made by</p>" + "".join(f"<p><code>{text(command)}</code></p>" for command in commands))
    lines += [_figure(each, seeds) for each in figures]
    lines += [_table(each) for each in tables]
    return "\n".join([*lines, "</body></html>"]) + "\n"


def _figure(figure: _Figure, seeds: dict[str, dict[str, Any]]) -> str:
    """A figure with its runs: id, configuration, seed and scores."""
    picture = base64.b64encode(figure.path.with_suffix(".svg").read_bytes()).decode()
    text = html.escape
    heads = "".join(f"<th>{head}</th>" for head in ("run", "folder", "seed", "ROC AUC", "PR AUC"))
    rows = []
    for run in figure.run_ids:
        row = seeds[run]
        scores = [f"{row.get(f'test.{metric}') or float('nan'):.4f}" for metric in ("roc_auc", "pr_auc")]
        folder = os.sep.join(Path(str(row["path"])).parts[-3:])
        cells = [run, folder, str(row["seed"]), *scores]
        rows.append("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in cells) + "</tr>")
    return (
        f'<section><h2>{text(figure.title)}</h2><figure><img alt="{text(figure.title)}" '
        f'src="data:image/svg+xml;base64,{picture}"><figcaption class="quiet">{text(figure.text)}</figcaption></figure>'
        f"<details><summary>The {len(rows)} runs behind this figure</summary>"
        f'<div class="wide"><table class="ids"><tr>{heads}</tr>{"".join(rows)}</table></div></details></section>'
    )


def _table(table: StudyTable) -> str:
    text = html.escape
    heads = "".join(f"<th>{text(head)}</th>" for head in [*table.heads, "runs"])
    rows = []
    for cells, ids in zip(table.rows, table.run_ids, strict=True):
        shown = f"<details><summary>{len(ids)}</summary><span class='ids'>{text(' '.join(ids))}</span></details>"
        runs = shown if ids else "–"
        rows.append("".join(f"<td>{text(cell)}</td>" for cell in cells) + f'<td class="runs">{runs}</td>')
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<section><h2>{text(table.title)}</h2><div class="wide"><table><tr>{heads}</tr>{body}</table></div>'
        f'<p class="quiet">{text(table.note)}</p></section>'
    )
