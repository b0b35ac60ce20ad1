"""The resolution study's tables from measured runs, and what can be told apart in its grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError
from featstore.plain import is_missing
from featstore.results.fronts import pareto
from featstore.results.labels import field_text
from featstore.results.reference import read_reference
from featstore.results.significance import TestName, compare, holm
from featstore.results.tables import cost_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StudyTable", "against_best", "against_float", "paper_tables", "resolution_rows", "verdict"]

GEOMETRY = ("sample_rate", "n_mels", "hop_multiple", "scale")
# number, what the paper shows in it, its data set, models as the paper names them, hop multiples
_TABLES = (
    ("IV", "MUSICNN, decibels", "MTAT", ("musicnn",), (1,)),
    ("V", "VGG-CNN and MUSICNN, decibels", "MSD", ("vgg-cnn", "musicnn"), (1, 2)),
)
_MELS, _RATES, _METRICS = (128, 96, 48), (12000, 16000), ("roc_auc", "pr_auc")


@dataclass(frozen=True, slots=True)
class StudyTable:
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
    note: str = field(default="")


def resolution_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows of a summary that are mel configurations of the grid.

    Raises
    ------
    ConfigError
        When there are none.
    """
    rows = summary[summary["n_mels"].notna() & summary["hop_multiple"].notna()].reset_index(drop=True)
    if not len(rows):
        raise ConfigError("no run has mel bands and a hop multiple", "study", "Train on mel features")
    return rows


def against_best(summary: pd.DataFrame, metric: str, test: TestName) -> tuple[pd.DataFrame, dict[str, str]]:
    """Every configuration against the best of its model, by Holm over that model's grid.

    Returns
    -------
    frame : DataFrame
        The summary's rows, best first within a model, with the columns of ``ParetoFront.frame`` and ``verdict``.
    statements : dict of str to str
        Model to the sentence that says which test, on how many values, with which correction.
    """
    import pandas as pd

    frames, statements = [], {}
    for model, rows in resolution_rows(summary).groupby("model", sort=True):
        front = pareto(rows, "bytes_alone", metric, test=test)
        frame = front.frame.assign(verdict=[verdict(row) for row in front.frame.to_dict("records")])
        frame.loc[front.best, "verdict"] = "best mean"
        frames.append(frame.sort_values(f"{metric}_mean", ascending=False, kind="stable"))
        statements[str(model)] = front.statement
    return pd.concat(frames, ignore_index=True), statements


def verdict(row: Any) -> str:
    """What a test says, in words: of rows with ``told_apart`` and ``in_doubt``.

    Examples
    --------
    >>> verdict({"told_apart": True, "in_doubt": False}), verdict({"told_apart": None, "in_doubt": False})
    ('differs', 'not tested')
    """
    if row["told_apart"] is None or is_missing(row["told_apart"]):
        return "not tested"
    if row["told_apart"]:
        return "differs"
    return "in doubt" if row["in_doubt"] else "not told apart"


def against_float(summary: pd.DataFrame, metric: str, test: TestName) -> pd.DataFrame:
    """Quantised features against float32 in the same geometry, by Holm over all these comparisons.

    Returns
    -------
    DataFrame
        A row a pair: ``model``, the geometry, ``encoding``, ``n``, ``n_float32``, ``difference`` (quantised minus
        float32), ``low``, ``high`` (95 %), ``p``, ``p_holm``, ``bytes_ratio``, ``run_ids`` of both sides. Empty when
        nothing was quantised.
    """
    import pandas as pd

    rows = resolution_rows(summary)
    exact = {_geometry(row): row for row in rows.to_dict("records") if row["encoding"] in (None, "float32")}
    found = []
    for row in rows.to_dict("records"):
        base = exact.get(_geometry(row))
        if base is None or row["encoding"] in (None, "float32"):
            continue
        result = compare(row[f"{metric}_values"], base[f"{metric}_values"], test=test)
        found.append(
            {"model": row["model"], **{name: row[name] for name in GEOMETRY}}
            | {"encoding": row["encoding"], "n": result.n_a, "n_float32": result.n_b, "difference": result.difference}
            | {"low": result.low, "high": result.high, "p": result.p}
            | {"bytes_ratio": row["bytes_alone"] / base["bytes_alone"], "run_ids": row["run_ids"] + base["run_ids"]}
        )
    if not found:
        return pd.DataFrame()
    frame = pd.DataFrame(found).assign(p_holm=holm([pair["p"] for pair in found]))
    order = ["model", "n_mels", "hop_multiple", "sample_rate", "scale", "encoding"]
    rising = [True, False, True, False, True, False]
    return frame.sort_values(order, ascending=rising, kind="stable", ignore_index=True)


def _geometry(row: Any) -> tuple[Any, ...]:
    return (row["model"], row["dataset"], *(row[name] for name in GEOMETRY))


def paper_tables(summary: pd.DataFrame) -> list[StudyTable]:
    """Tables IV and V in the paper's layout: measured numbers, and the published ones in columns of their own."""
    rows = resolution_rows(summary)
    plain = rows[(rows["scale"] == "db") & rows["encoding"].isin(["float32", None])].to_dict("records")
    published = read_reference("ferraro2020")
    return [_paper_table(plain, published, *each) for each in _TABLES]


def _paper_table(
    rows: Sequence[Any],
    published: pd.DataFrame,
    number: str,
    what: str,
    dataset: str,
    models: tuple[str, ...],
    hops: tuple[int, ...],
) -> StudyTable:
    heads = ["model", "mels", "hop", "rate", "ROC AUC", "PR AUC", "n", f"ROC AUC, {dataset}", f"PR AUC, {dataset}"]
    cells, runs = [], []
    for model in models:
        for mels in _MELS:
            for hop in hops if model == "vgg-cnn" else (1,):
                for rate in _RATES:
                    own = [row for row in rows if _is(row, model, mels, hop, rate)]
                    theirs = published[
                        (published["model"] == model)
                        & (published["dataset"] == dataset)
                        & (published["n_mels"] == mels)
                        & (published["hop_multiple"] == hop)
                        & (published["sample_rate"] == rate)
                        & (published["scale"] == "db")
                    ]
                    named = [own[0]["model"] if own else model, str(mels), f"×{hop}", field_text("sample_rate", rate)]
                    measured = [_score(own, metric) for metric in _METRICS]
                    paper = [_published(theirs, metric) for metric in _METRICS]
                    cells.append([*named, *measured, str(int(own[0]["n"])) if own else "0", *paper])
                    runs.append(tuple(own[0]["run_ids"]) if own else ())
    missing = sum(not each for each in runs)
    note = f"Columns with {dataset} are the paper's own numbers, on its data; the others are measured here."
    note += f" {missing} of {len(runs)} rows were not run." if missing else ""
    return StudyTable(f"Table {number}: {what}", heads, cells, runs, note)


def _is(row: dict[str, Any], model: str, mels: int, hop: int, rate: int) -> bool:
    same = row["model"] == model or (model == "musicnn" and str(row["model"]).startswith("musicnn"))
    return same and (row["n_mels"], row["hop_multiple"], row["sample_rate"]) == (mels, hop, rate)


def _score(rows: Sequence[Any], metric: str) -> str:
    """Percent as the paper prints them, with the deviation over n - 1."""
    if not rows or is_missing(rows[0].get(f"{metric}_mean")):
        return "not run"
    mean, std = rows[0][f"{metric}_mean"], rows[0][f"{metric}_std"]
    return f"{100 * mean:.2f}" + (f" ± {100 * std:.2f}" if np.isfinite(std) else "")


def _published(rows: pd.DataFrame, metric: str) -> str:
    values = rows[rows["metric"] == metric]["value"].dropna()
    return f"{100 * float(values.iloc[0]):.2f}" if len(values) else "–"


def grid_table(frame: pd.DataFrame, metric: str, statements: dict[str, str]) -> StudyTable:
    """All configurations with cost, scores, and whether they can be told apart from the best of their model."""
    heads = ["model", "rate", "mels", "hop", "scale", "encoding", "n", "ROC AUC", "PR AUC"]
    heads += ["against the best", "difference", "p", "p (Holm)", "alone", "added", "GMACs"]
    rows = []
    for row in frame.to_dict("records"):
        fields = ("sample_rate", "n_mels", "hop_multiple", "scale", "encoding")
        named = [row["model"], *(field_text(name, row[name]) for name in fields), str(int(row["n"]))]
        costs = [_cost(name, row[name]) for name in ("bytes_alone", "bytes_added", "gmacs")]
        tests = [row["verdict"], f"{100 * row['difference']:+.2f}", *(_p(row[name]) for name in ("p", "p_holm"))]
        rows.append([*named, *(_score([row], each) for each in _METRICS), *tests, *costs])
    notes = " ".join(f"{model}: {statement}" for model, statement in statements.items())
    return StudyTable(
        "Every configuration",
        heads,
        rows,
        [tuple(ids) for ids in frame["run_ids"]],
        f"Differences in {metric}. {notes}",
    )


def _cost(name: str, value: float) -> str:
    return "–" if is_missing(value) else cost_text(name, value)


def _p(value: float) -> str:
    return "–" if is_missing(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
