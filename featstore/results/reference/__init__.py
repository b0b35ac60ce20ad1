"""Numbers that others published, as packaged data: shown beside measured ones, never averaged with them.

One file a paper, comments with source and reading advice on top. ``read_reference`` gives all rows in one table,
``join_published`` puts those with the same configuration beside a summary.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import takewhile
from typing import TYPE_CHECKING

from featstore.errors import check_known

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PAPERS", "join_published", "read_reference", "reference_notes"]

PAPERS = ("ferraro2020", "gafx2022", "kamuni2024", "sincresnet2021")
_JOINED = ("sample_rate", "n_mels", "hop_multiple", "scale")


def read_reference(*papers: str) -> pd.DataFrame:
    """Published results, one row per number.

    Parameters
    ----------
    *papers : str
        Some of ``PAPERS``; all by default.

    Returns
    -------
    DataFrame
        ``source`` (paper), ``place`` (table or text), ``kind`` (``own``: the paper's result, ``cited``: of others, as
        quoted, or ``chance``), ``dataset, model, representation``, fields of the feature, ``n_frames, bytes_per_clip,
        gmacs, metric, value, spread, n, detail, note``. ``value`` and ``spread`` are fractions (0.8865, not 88.65);
        ``spread`` is whatever the paper puts after ±, see ``note``; ``n`` its number of repetitions;
        ``bytes_per_clip`` float32 of a clip of 29.1 s and ``gmacs`` were computed from the configuration, not
        published.

    Raises
    ------
    ConfigError
        For an unknown paper.
    """
    import pandas as pd

    for paper in papers:
        check_known(paper, PAPERS, f"unknown paper {paper!r}", "reference")
    text = {"source": str, "place": str, "detail": str, "note": str, "scale": str}
    frames = []
    for paper in papers or PAPERS:
        with _file(paper).open(encoding="utf-8") as file:
            frames.append(pd.read_csv(file, comment="#", dtype=text))
    frame = pd.concat(frames, ignore_index=True)
    for name in ("sample_rate", "n_mels", "hop_length", "hop_multiple", "n_frames", "bytes_per_clip", "n"):
        frame[name] = pd.to_numeric(frame[name]).astype("Int64")
    return frame


def reference_notes(paper: str) -> str:
    """What the head of a paper's file says: the source, and how to read its numbers."""
    head = takewhile(lambda line: line.startswith("#"), _file(paper).read_text(encoding="utf-8").splitlines())
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in head).strip()


def join_published(summary: pd.DataFrame, metric: str = "roc_auc", papers: Sequence[str] = ()) -> pd.DataFrame:
    """Put published values of the same model and mel configuration beside measured ones.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``; its rows and numbers stay as they are.
    metric : str
        The metric to compare.

    Returns
    -------
    DataFrame
        The summary with columns ``published <data set> <metric>``, one a data set, of text: the paper's own number,
        with ± where it has one. Rows without a published counterpart are empty.
    """
    published = read_reference(*papers)
    published = published[(published["metric"] == metric) & published["value"].notna() & published["n_mels"].notna()]
    table: dict[str, dict[tuple[str, ...], str]] = {}
    for row in published.to_dict("records"):
        spread = f" ± {row['spread']:.4f}" if row["spread"] == row["spread"] else ""
        key = _key(row["model"], "mel", *(row[name] for name in _JOINED))
        table.setdefault(str(row["dataset"]), {})[key] = f"{row['value']:.4f}{spread}"
    keys = [
        _key(row["model"], row["representation"], *(row[name] for name in _JOINED)) if "model" in row else ()
        for row in summary.to_dict("records")
    ]
    joined = summary.copy()
    for dataset, values in table.items():
        found = [values.get(key) for key in keys]
        if any(found):
            joined[f"published {dataset} {metric}"] = found
    return joined


def _key(model: object, *fields: object) -> tuple[str, ...]:
    """Model and configuration in one spelling."""
    name = "".join(c for c in str(model).lower() if c.isalnum())
    return (name, *(str(field) for field in fields))


def _file(paper: str) -> Traversable:
    return files(__name__) / f"{paper}.csv"
