"""Small HTML tables for notebooks: escaped, and of bounded size whatever they show."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["MOST_ROWS", "html_card"]

MOST_ROWS = 20
_LONGEST = 200  # characters of a cell


def html_card(
    title: str, rows: Iterable[Sequence[Any]], header: Sequence[str] = (), *, total: int | None = None
) -> str:
    """A heading over a table of at most :data:`MOST_ROWS` rows.

    Parameters
    ----------
    title : str
    rows : iterable of sequences
        As many as are shown; more are not looked at.
    header : sequence of str
        Names of the columns; without, a row is a name and its value.
    total : int, optional
        How many rows there are, where ``rows`` is a part of them.

    Examples
    --------
    >>> html_card("<a>", [("tracks", 3)])
    '<div><b>&lt;a&gt;</b><table><tbody><tr><td>tracks</td><td>3</td></tr></tbody></table></div>'
    """
    taken = list(itertools.islice(rows, MOST_ROWS + 1))
    shown = [f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in taken[:MOST_ROWS]]
    head = f"<thead><tr>{''.join(f'<th>{_cell(name)}</th>' for name in header)}</tr></thead>" if header else ""
    more = (len(taken) if total is None else total) - len(shown)
    note = f"<p>… and {more:,} more</p>" if total is not None and more > 0 else "<p>… and more</p>" if more else ""
    return f"<div><b>{_cell(title)}</b><table>{head}<tbody>{''.join(shown)}</tbody></table>{note}</div>"


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return html.escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
