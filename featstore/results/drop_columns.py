"""Columns about altered test tracks in tables of runs: ``drop_SHIFT_METRIC`` and ``shifted_SHIFT_(tracks|tokens)``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from featstore.metrics import METRICS, in_points
from featstore.plain import is_missing

__all__ = ["drop_cell", "drop_columns", "drop_head", "drops_in", "is_drop"]

_DROP, _SHIFTED = "drop_", "shifted_"


def drop_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of a table of runs: ``drop_SHIFT_METRIC``, ``shifted_SHIFT_tracks`` and ``shifted_SHIFT_tokens``.

    The last is the share of tokens that change, of runs on tokens.
    """
    columns: dict[str, Any] = {}
    for record in records:
        name = _column_part(record["shift"])
        columns |= {f"{_DROP}{name}_{metric}": values.get("drop") for metric, values in record["scores"].items()}
        columns[f"{_SHIFTED}{name}_tracks"] = record.get("n_tracks")
        if record.get("changed") is not None:
            columns[f"{_SHIFTED}{name}_tokens"] = record["changed"]
    return columns


def drops_in(names: Iterable[Any]) -> list[str]:
    """Those of some columns that :func:`drop_columns` made."""
    return [name for name in map(str, names) if is_drop(name)]


def is_drop(name: str) -> bool:
    """Whether a column is about altered test tracks."""
    return name.startswith((_DROP, _SHIFTED))


def drop_head(name: str) -> str:
    """Head of a column of altered test tracks.

    Examples
    --------
    >>> drop_head("drop_mp3_64k_roc_auc"), drop_head("shifted_mp3_64k_tokens")
    ('drop, mp3_64k', 'tokens changed, mp3_64k')
    """
    if name.startswith(_SHIFTED):
        shift, _, what = name.removeprefix(_SHIFTED).rpartition("_")
        return f"{'tokens changed' if what == 'tokens' else 'tracks'}, {shift}"
    return f"drop, {name.removeprefix(_DROP).removesuffix(f'_{_metric_of(name)}')}"


def drop_cell(name: str, value: Any) -> str:
    """A value of a column of altered test tracks: shares in points and percent.

    Examples
    --------
    >>> drop_cell("drop_mp3_64k_roc_auc", 0.0123), drop_cell("shifted_mp3_64k_tokens", 0.5)
    ('+1.23', '50.0 %')
    """
    if is_missing(value):
        return "–"
    if name.startswith(_SHIFTED):
        return f"{100 * value:.1f} %" if name.endswith("_tokens") else str(round(value))
    return f"{100 * value:+.2f}" if in_points(_metric_of(name)) else f"{value:+.4f}"


def _metric_of(name: str) -> str:
    """The metric of a drop."""
    return next((metric for metric in (*METRICS, "loss") if name.endswith(f"_{metric}")), "")


def _column_part(name: str) -> str:
    """The name of an alteration as a part of the name of a column, which SQL takes without quotes.

    Examples
    --------
    >>> _column_part("mp3-64k"), _column_part("gain-1.5dB")
    ('mp3_64k', 'gain_1_5dB')
    """
    return re.sub(r"\W", "_", name)
