"""Summaries as text, Markdown, CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from featstore.errors import check_known
from featstore.metrics import in_points, lower_is_better, title_of
from featstore.plain import inert_cell, is_missing, plain
from featstore.results.costs import COSTS, cost_text
from featstore.results.drop_columns import drop_cell, drop_head, drops_in
from featstore.results.frames import FIELDS, OUTSIDE, metrics_of
from featstore.results.fronts import standing
from featstore.results.labels import field_text, models_by_representation, row_text
from featstore.results.losses import loss_number
from featstore.text_tables import text_table
from featstore.units import format_span

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "HEADS",
    "STYLES",
    "TableStyle",
    "csv_text",
    "display_table",
    "field_cell",
    "format_rows",
    "format_table",
    "plain_rows",
]

TableStyle = Literal["text", "markdown", "csv", "json", "latex"]
STYLES: tuple[TableStyle, ...] = ("text", "markdown", "csv", "json", "latex")

HEADS = {
    "label": "configuration",
    "sample_rate": "rate",
    "n_mels": "mels",
    "hop_multiple": "hop",
    "hop_length": "hop",
    OUTSIDE: "outside data",
    **{name: cost.head for name, cost in COSTS.items()},
}
# heads in the order in which a narrow table leaves them out: what follows from the others goes first
_FIRST_TO_GO = (
    *("parameters", "extraction", "inference", "training", "per track", "per hour", "GMACs", "of audio", "added"),
    *("against the best", "at least", "n", "n (runs)", "n (seeds)", "n (folds)", "front", "configurations"),
)
_MAIN_COSTS = ("rate_bps", "bytes_alone", "bytes_added", "ratio_to_audio", "gmacs", "seconds_train")
_SHOWN_COSTS = tuple(name for name in COSTS if name != "bytes_per_track")


def format_table(
    summary: pd.DataFrame,
    style: TableStyle = "text",
    *,
    costs: Sequence[str] | None = None,
    wide: bool = False,
    width: int | None = None,
) -> str:
    """Print a summary.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``, or the frame of a ``ParetoFront``.
    style : str
        ``text`` and ``markdown`` and ``latex`` (booktabs) round and use units; ``csv`` and ``json`` hold every
        number in full.
    costs : sequence of str, optional
        Columns of cost to show; by default the usual ones, as far as they have values.
    wide : bool
        Show every cost, and the interval and loss of every metric.
    width : int, optional
        Columns of the terminal: text leaves out what does not fit, the least telling columns first, and names it.

    Raises
    ------
    ConfigError
        For an unknown style or cost.
    """
    check_known(style, STYLES, f"unknown style {style!r}", "report table")
    if style == "json":
        return json.dumps(plain_rows(summary), indent=1, ensure_ascii=False)
    if style == "csv":
        full = plain_rows(summary)
        lists = ([" ".join(map(str, c)) if isinstance(c, list) else c for c in row.values()] for row in full)
        return csv_text([list(full[0]) if full else [], *lists])
    heads, rows, notes = display_table(summary, costs=costs, wide=wide)
    scores = [title for metric in metrics_of(summary) if (title := title_of(metric)) in heads]
    drops = [head for head in reversed(heads) if head.startswith(("drop, ", "tokens changed, "))]
    order = [*_FIRST_TO_GO, *reversed(scores[1:]), *drops, "alone", HEADS[OUTSIDE]]
    return format_rows(heads, rows, style, note=notes, width=width, first_to_go=order)


def display_table(
    summary: pd.DataFrame, *, costs: Sequence[str] | None = None, wide: bool = False
) -> tuple[list[str], list[list[str]], str]:
    """Headings, cells as a person reads them, and what all rows have in common.

    Columns that are the same in every row are left out and named once; columns without values are left out.
    """
    for name in costs or ():
        check_known(name, COSTS, f"{name!r} is no cost", "report table")
    fields, common = _fields(summary)
    records: list[Any] = summary.to_dict("records")
    columns: list[tuple[str, list[str]]] = [
        (HEADS.get(name, name.removeprefix("config.")), [field_cell(name, row) for row in records]) for name in fields
    ]
    units = summary["over"].unique()
    head = f"n ({units[0]}s)" if len(units) == 1 else "n"
    columns += [(head, [str(int(value)) for value in summary["n"]])]
    if summary["n_configurations"].gt(1).any():
        columns += [("configurations", [str(int(value)) for value in summary["n_configurations"]])]
    columns += _metric_columns(summary, wide)
    shown = [name for name in costs or (_SHOWN_COSTS if wide else _MAIN_COSTS) if summary[name].notna().any()]
    for name in shown:
        cells = ["–" if is_missing(value) else cost_text(name, value) for value in summary[name]]
        if costs is None and len(cells) > 1 and len(set(cells)) == 1:
            common = [*common, f"{HEADS[name]} {cells[0]}"]
        else:
            columns += [(HEADS[name], cells)]
    columns += _drop_columns(summary, _metric_shown(summary))
    if OUTSIDE in summary and not set(summary[OUTSIDE].dropna()) <= {"none"}:  # scores with and without do not compare
        columns += [(HEADS[OUTSIDE], [field_cell(OUTSIDE, row) for row in records])]
    for column in map(str, summary.columns):
        if column.startswith("published "):
            columns += [(column, ["" if is_missing(value) else str(value) for value in summary[column]])]
    if "loss_most" in summary:
        columns += _bound_columns(summary)
    heads = [head for head, _ in columns]
    notes = [f"All: {', '.join(common)}"] if common else []
    notes += _warnings(summary)
    return heads, [list(row) for row in zip(*(cells for _, cells in columns), strict=True)], "\n".join(notes)


def _drop_columns(summary: pd.DataFrame, metric: str) -> list[tuple[str, list[str]]]:
    """What is lost on altered test tracks, in the metric that the table is about; the share of tokens that change."""
    shown = [
        name for name in drops_in(summary) if name.endswith((f"_{metric}", "_tokens")) and summary[name].notna().any()
    ]
    return [(drop_head(name), [drop_cell(name, value) for value in summary[name]]) for name in shown]


def _metric_shown(summary: pd.DataFrame) -> str:
    """The metric that a table is about."""
    metrics = metrics_of(summary)
    usual = next((metric for metric in metrics if metric != "loss"), metrics[0] if metrics else "")
    return str(summary.attrs.get("metric") or usual)


def _bound_columns(summary: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """What a front says of its rows: bounds on the loss, in points where the score lies in [0, 1], and the fronts."""
    metric = _metric_shown(summary)
    rows = summary.to_dict("records")

    def cell(value: float, *, up: bool) -> str:
        return "" if is_missing(value) else loss_number(metric, value, up=up)

    columns = [
        ("at most", [cell(row["loss_most"], up=True) for row in rows]),
        ("at least", [cell(row["loss_least"], up=False) if row["loss_least"] > 0 else "" for row in rows]),
        ("against the best", [standing(row) for row in rows]),
    ]
    if "on_front" in summary:
        names = (("measured", "on_front"), ("guaranteed", "guaranteed"))
        fronts = [" and ".join(word for word, key in names if row[key]) for row in rows]
        columns.insert(2, ("front", fronts))
    return [(head, cells) for head, cells in columns if any(cells)]


def _metric_columns(summary: pd.DataFrame, wide: bool) -> list[tuple[str, list[str]]]:
    """A column a metric; the interval of the first one only, unless asked for all."""
    metrics = metrics_of(summary)
    shown = metrics if wide else [m for m in metrics if m != "loss"] or metrics
    if "loss_most" in summary and not wide:  # a front is about one metric, and about the bounds on its loss
        metric = _metric_shown(summary)
        return [(title_of(metric), _score_cells(summary, metric, interval=False))]
    return [
        (title_of(metric), _score_cells(summary, metric, interval=wide or not position))
        for position, metric in enumerate(shown)
    ]


def _warnings(summary: pd.DataFrame) -> list[str]:
    """What a reader of the numbers has to know."""
    found = []
    if "balanced" in summary and not summary["balanced"].all():
        count = int((~summary["balanced"].astype(bool)).sum())
        found.append(f"Warning: {count} of {len(summary)} rows lack some seeds or folds of their configurations")
    if "loss_most" in summary and summary["loss_most"].notna().any():
        metric = _metric_shown(summary)
        unit, side = ("points " if in_points(metric) else "", "above" if lower_is_better(metric) else "below")
        found.append(f"at most, at least: {unit}{side} the best")
    counts = [summary[name] for name in drops_in(summary) if name.endswith("_tracks")]
    if counts:
        tracks = format_span(int(count) for each in counts for count in (each.min(), each.max()))
        unit = ", in points" if in_points(_metric_shown(summary)) else ""
        found.append(
            f"drop: what is lost on altered copies of {tracks} test tracks{unit}, by runs that were not retrained"
        )
    if any(str(name).startswith("published ") for name in summary):
        found.append("published: the papers' own numbers, on their own data; no measured number contains them")
    return found


def format_rows(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    style: TableStyle,
    *,
    note: str = "",
    width: int | None = None,
    first_to_go: Sequence[str] = (),
) -> str:
    """Lay out ready-made cells: as aligned text, of the columns that fit, or as Markdown, CSV or LaTeX (booktabs)."""
    if style == "markdown":
        lines = [
            _markdown(heads),
            "|" + "|".join("---" if left else "---:" for left in _left(rows, len(heads))) + "|",
        ]
        return "\n".join(([note.replace("\n", "  \n"), ""] if note else []) + lines + [_markdown(row) for row in rows])
    if style == "latex":
        return _latex(heads, rows, note)
    if style == "csv":
        return csv_text([heads, *rows])
    shown = text_table(heads, rows, _left(rows, len(heads)), rule="─", width=width, first_to_go=first_to_go)
    return f"{note}\n{shown}" if note else shown


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values for JSON and CSV: no NumPy types, None for what is missing."""
    return [plain(row) for row in frame.to_dict("records")]


def _fields(summary: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Columns that name a row, and what is the same in all rows, in words."""
    end = list(summary.columns).index("n_runs") if "n_runs" in summary else 0
    names = [str(name) for name in summary.columns[:end] if name != OUTSIDE]  # has a column of its own
    if {"configuration", "label"} <= set(names):  # the label says what differs; the long names would say all
        shown = ("dataset", "model", "representation", "sample_rate", "n_mels", "hop_multiple", "scale", "encoding")
        constant = [n for n in shown if n in names and summary[n].astype(str).nunique() == 1]
        varying = ["label"]
    else:
        names = [name for name in names if name not in ("label", "configuration") and summary[name].notna().any()]
        constant = [n for n in names if len(summary) > 1 and summary[n].astype(str).nunique() == 1]
        varying = [n for n in names if n not in constant and not (n == "hop_length" and "hop_multiple" in names)]
        varying = varying or names[:1]
    same = {n: summary[n].iloc[0] for n in FIELDS if n in summary and summary[n].astype(str).nunique() == 1}
    texts = [row_text(n, {n: summary[n].iloc[0], **same}) for n in constant if n not in varying]
    if varying == ["label"]:
        texts += [f"{model} on {kind}" for kind, model in models_by_representation(summary).items()]
    return varying, [text for text in texts if text]


def field_cell(name: str, row: Mapping[str, Any]) -> str:
    """One field of a row under a head that names it."""
    value = row.get(name)
    if is_missing(value):
        return "–"
    if name in ("hop_length", "hop_multiple"):
        return row_text(name, row).removeprefix("hop ")
    return field_text(name, value) if name in ("sample_rate", "scale") else str(value)


def _score_cells(summary: pd.DataFrame, metric: str, *, interval: bool) -> list[str]:
    """Mean ± deviation [interval], as far as there are enough values."""
    cells = []
    for row in summary[[f"{metric}_{part}" for part in ("mean", "std", "low", "high")]].itertuples(index=False):
        mean, std, low, high = (float(value) for value in row)
        text = "–" if math.isnan(mean) else f"{mean:.4f}"
        if not math.isnan(std):
            text += f" ± {std:.4f}" + (f" [{low:.4f}, {high:.4f}]" if interval else "")
        cells.append(text)
    return cells


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV: every number in full, no cell that a spreadsheet takes for a formula."""
    out = io.StringIO()
    cells = [[inert_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    csv.writer(out, lineterminator="\n").writerows(cells)
    return out.getvalue().rstrip("\n")


_NUMBER = re.compile(r"(|–|[×<+-]?[0-9.,]+(e[+-]?\d+)?( ?(%|[kMGTP]?B|kbit/s|ms|s|min|h))?( ± .*| \([0-9.]+ ms\))?)")


def _left(rows: Sequence[Sequence[str]], count: int) -> list[bool]:
    """Which columns are words: numbers, with or without a unit, go to the right."""
    return [not all(_NUMBER.fullmatch(row[i]) for row in rows) if rows else True for i in range(count)]


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "–": "--",
        "−": "$-$",
    }
)


def _latex(heads: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    """A booktabs tabular; what a cell holds is escaped."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(_TEX) for cell in cells) + r" \\"

    alignment = "".join("l" if left else "r" for left in _left(rows, len(heads)))
    comment = [f"% {line}" for line in note.splitlines()]
    body = [r"\toprule", line(heads), r"\midrule", *[line(row) for row in rows], r"\bottomrule"]
    begin = ["% needs \\usepackage{booktabs}", *comment, rf"\begin{{tabular}}{{{alignment}}}"]
    return "\n".join([*begin, *body, r"\end{tabular}"])
