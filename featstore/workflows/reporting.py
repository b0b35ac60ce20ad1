"""The report of a recipe: table, front, figure and page from its run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featstore.atomic import write_text

__all__ = ["write_report"]


def write_report(
    folder: str | Path, settings: Mapping[str, Any], *, title: str = "", commands: Sequence[str] = ()
) -> tuple[str, list[dict[str, Any]], list[Path]]:
    """Write a recipe's ``report/``: ``table.txt``, ``table.csv``, ``pareto.png``, ``.svg``, ``index.html``.

    Parameters
    ----------
    folder : path
        With ``runs/`` in it.
    settings : mapping
        ``metric`` (default ``roc_auc``), ``cost`` (default ``bytes_alone``) and ``test`` (default ``welch``); with
        ``tables`` or ``figures`` also the paper's page that they describe.
    title : str
        Heading of the pages.
    commands : sequence of str
        What was typed to make them.

    Returns
    -------
    table : str
        For people.
    rows : list of dict
        The same for programs.
    files : list of Path
    """
    from featstore.results import format_table, pareto, plot_pareto, read_results, summarise, write_html

    folder = Path(folder)
    metric, cost = settings.get("metric", "roc_auc"), settings.get("cost", "bytes_alone")
    runs = read_results(folder / "runs")
    summary = summarise(runs)
    test = settings.get("test", "welch")
    front = pareto(summary, x=cost, y=metric, test=test)
    target = folder / "report"
    target.mkdir(parents=True, exist_ok=True)
    table = format_table(summary)
    write_text(target / "table.txt", table + "\n")
    write_text(target / "table.csv", format_table(summary, "csv"))
    files = plot_pareto(front, [target / "pareto.png", target / "pareto.svg"], title=title)
    files.append(write_html(runs, target / "index.html", title=title or "featstore report"))
    if settings.get("tables") or settings.get("figures"):
        from featstore.results.paper_page import write_page

        files += write_page(runs, target, settings, title=title, commands=commands)
    return table, front.as_json()["rows"], [target / "table.csv", *files]
