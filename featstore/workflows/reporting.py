"""The report of a recipe: answer, table, fronts, figure and page from its run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featstore.atomic import write_json, write_text

__all__ = ["write_report"]


def write_report(
    folder: str | Path,
    settings: Mapping[str, Any],
    *,
    title: str = "",
    commands: Sequence[str] = (),
    width: int | None = None,
) -> tuple[str, dict[str, Any], list[Path]]:
    """Write a recipe's ``report/``: answer (JSON), table (text, CSV), figure (PNG, SVG) and page.

    Parameters
    ----------
    folder : path
        With ``runs/`` in it, and maybe ``pretraining/``, or the rows that a budget was divided among.
    settings : mapping
        ``metric`` (default ``roc_auc``), ``cost`` (default ``bytes_alone``) and ``margin`` (default 0.02, the loss
        that is accepted); ``late_gain``, beyond which rows are undertrained (see
        :func:`featstore.results.mark_undertrained`); with ``tables``, ``figures`` or ``claims`` also the
        paper's page that they describe.
    title : str
        Heading of the pages.
    commands : sequence of str
        What was typed to make them.
    width : int, optional
        Columns of the terminal that the text is for; the file has the whole table.

    Returns
    -------
    text : str
        For people: the answer in words, then the table.
    answer : dict
        The same for programs: see ``sentences.answer_json``.
    files : list of Path
    """
    from featstore.results import (
        format_table,
        mark_undertrained,
        pareto,
        plot_pareto,
        read_results,
        summarise,
        write_html,
    )
    from featstore.results.fronts import MARGIN
    from featstore.results.sentences import answer_json
    from featstore.results.tables import format_rows
    from featstore.workflows.recipe_budget import selection_table

    folder = Path(folder)
    metric, cost = settings.get("metric", "roc_auc"), settings.get("cost", "bytes_alone")
    runs = read_results(folder / "runs")
    late_gain = settings.get("late_gain")
    summary = mark_undertrained(summarise(runs), runs, metric, late_gain)
    front = pareto(summary, x=cost, y=metric, runs=runs, margin=settings.get("margin", MARGIN))
    target = folder / "report"
    answer = answer_json(front)
    rows = selection_table(folder)
    chosen = [] if rows is None else ["", f"{rows.title}:", format_rows(rows.heads, rows.rows, "text"), "", rows.note]

    def text(columns: int | None) -> str:
        shown = format_table(front.frame, width=columns)
        return "\n".join([*answer["sentences"], "", shown, "", front.statement, *chosen])

    write_text(target / "table.txt", text(None) + "\n")
    write_text(target / "table.csv", format_table(front.frame, "csv"))
    if rows is not None:
        answer["selection"] = [dict(zip(rows.heads, row, strict=True)) for row in rows.rows]
        write_text(target / "selection.csv", format_rows(rows.heads, rows.rows, "csv") + "\n")
    write_json(target / "answer.json", answer)
    files = plot_pareto(front, [target / "pareto.png", target / "pareto.svg"], title=title)
    page, heading = target / "index.html", title or "featstore report"
    files.append(write_html(runs, page, title=heading, margin=front.margin, late_gain=late_gain))
    if any(settings.get(key) for key in ("tables", "figures", "claims")):
        from featstore.results.paper_page import write_page

        started = folder / "pretraining"
        before = read_results(started) if started.is_dir() else None
        further = [] if rows is None else [rows]
        files += write_page(runs, target, settings, before=before, title=title, commands=commands, further=further)
    return text(width), answer, [target / "answer.json", target / "table.csv", *files]
