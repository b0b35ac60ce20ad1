"""The cost of quantising: each quantised configuration against float32 in the same geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError
from featstore.metrics import bounds_of, title_of
from featstore.results.figure_style import INK, draw_marks, footnote, new_figure
from featstore.results.labels import row_text
from featstore.results.significance import TestName, compare, holm
from featstore.units import format_span

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["against_float", "draw_encoding"]

_GEOMETRY = ("sample_rate", "n_mels", "hop_multiple", "scale")
_FIELDS = ("model", "n_mels", "hop_multiple", "sample_rate", "scale")


def against_float(summary: pd.DataFrame, metric: str, test: TestName) -> pd.DataFrame:
    """Quantised features against float32 in the same geometry, by Holm over all these comparisons.

    Returns
    -------
    DataFrame
        One row per pair: ``model``, the geometry, ``encoding``, ``n``, ``n_float32``, ``difference`` (quantised minus
        float32), ``low``, ``high`` (95 %), ``p``, ``p_holm``, ``bytes_ratio``, ``run_ids`` of both sides. Empty when
        nothing was quantised.
    """
    import pandas as pd

    rows = summary[summary["n_mels"].notna() & summary["hop_multiple"].notna()]
    exact = {_geometry(row): row for row in rows.to_dict("records") if row["encoding"] in (None, "float32")}
    found = []
    for row in rows.to_dict("records"):
        base = exact.get(_geometry(row))
        if base is None or row["encoding"] in (None, "float32"):
            continue
        result = compare(row[f"{metric}_values"], base[f"{metric}_values"], test=test, bounds=bounds_of(metric))
        found.append(
            {"model": row["model"], "hop_length": row["hop_length"], **{name: row[name] for name in _GEOMETRY}}
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
    return (row["model"], row["dataset"], *(row[name] for name in _GEOMETRY))


def draw_encoding(pairs: pd.DataFrame, *, metric: str) -> Figure:
    """Draw the pairs of ``against_float``: a line for each geometry, a colour for each encoding, 95 % intervals.

    Raises
    ------
    ConfigError
        When there are no pairs.
    """
    if not len(pairs):
        raise ConfigError("no quantised feature has a float32 one beside it", "report", "Train both encodings")
    varying = [name for name in _FIELDS if pairs[name].astype(str).nunique() > 1] or ["n_mels"]
    records: list[Any] = pairs.to_dict("records")
    names = [", ".join(row_text(name, row) for name in varying) for row in records]
    lines = list(dict.fromkeys(names))
    encodings = sorted(pairs["encoding"].unique(), reverse=True)
    figure, axes = new_figure(6.6, 1.5 + 0.26 * len(lines))
    axes.axvline(0, color=INK, linewidth=0.8)
    for number, encoding in enumerate(encodings):
        rows = np.flatnonzero(pairs["encoding"] == encoding)
        part = pairs.iloc[rows]
        y = np.array([lines.index(names[row]) for row in rows]) + (number - (len(encodings) - 1) / 2) * 0.28
        middle = 100 * part["difference"].to_numpy(dtype=float)
        reach = np.vstack([middle - 100 * part["low"].to_numpy(float), 100 * part["high"].to_numpy(float) - middle])
        draw_marks(axes, middle, y, number, xerr=reach, label=f"{encoding}, {_share(part)} of float32's bytes")
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    title = title_of(metric)
    axes.set_xlabel(f"{title} minus that of float32, percentage points")
    figure.legend(loc="outside upper left", ncols=2)
    found = int((pairs["p_holm"] < 0.05).sum())
    span = format_span([*pairs["n"].astype(int), *pairs["n_float32"].astype(int)])
    note = f"whiskers: 95 % intervals of the difference, n = {span} on each side; after Holm's correction over "
    note += f"{len(pairs)} comparisons {found or 'none'} differ{'s' if found == 1 else ''} (p < 0.05)"
    footnote(figure, note)
    return figure


def _share(rows: pd.DataFrame) -> str:
    low, high = 100 * rows["bytes_ratio"].min(), 100 * rows["bytes_ratio"].max()
    return f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f} to {high:.0f} %"
