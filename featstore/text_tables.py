"""Tables of text that fit: the least important columns go first."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = ["fit_columns", "text_table", "text_width"]

_GAP = 2  # blanks between two columns


def text_width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit_columns(
    heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, first_to_go: Sequence[str] = ()
) -> tuple[list[int], list[str]]:
    """Choose the columns of a table that fit into a width; two are always left.

    Parameters
    ----------
    heads, rows : sequence of str, and sequences of as many
    width : int or None
        Of the terminal; None keeps all.
    first_to_go : sequence of str
        Heads in the order in which they are left out; then come the others, the last one first.

    Returns
    -------
    kept : list of int
        Places of the columns to show, in their order.
    left_out : list of str
        Heads of the others.

    Examples
    --------
    >>> fit_columns(["name", "size", "note"], [["a", "1 MB", "x" * 80]], 80, ["note"])
    ([0, 1], ['note'])
    """
    kept = list(range(len(heads)))
    if width is None:
        return kept, []
    widths = [max(map(text_width, [heads[i], *(row[i] for row in rows)])) for i in kept]
    order = [heads.index(name) for name in first_to_go if name in heads]
    order += [i for i in reversed(range(len(heads))) if i not in order]
    for place in order:
        if len(kept) <= 2 or sum(widths[i] + _GAP for i in kept) - _GAP <= width:
            break
        kept.remove(place)
    return kept, [head for i, head in enumerate(heads) if i not in kept]


def text_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Sequence[bool],
    *,
    rule: str = "-",
    width: int | None = None,
    first_to_go: Sequence[str] = (),
) -> str:
    """Columns aligned under their heads, as many as fit; a last line names the others.

    Parameters
    ----------
    heads, rows, width, first_to_go
        As ``fit_columns`` takes them.
    left : sequence of bool
        Which columns are aligned to the left, as words are; the others to the right, as numbers are.
    rule : str
        Character of the line below the heads.

    Examples
    --------
    >>> print(text_table(["name", "size"], [["a", "10"], ["bcdef", "7"]], [True, False]))
    name   size
    -----  ----
    a        10
    bcdef     7
    """
    kept, left_out = fit_columns(heads, rows, width, first_to_go)
    widths = {i: max(map(text_width, [heads[i], *(row[i] for row in rows)])) for i in kept}

    def line(cells: Sequence[str]) -> str:
        blanks = {i: " " * (widths[i] - text_width(cells[i])) for i in kept}
        return "  ".join(cells[i] + blanks[i] if left[i] else blanks[i] + cells[i] for i in kept).rstrip()

    lines = [line(heads), "  ".join(rule * widths[i] for i in kept).rstrip(), *map(line, rows)]
    lines += [f"(not shown: {', '.join(filter(None, left_out))}; --wide shows all)"] if left_out else []
    return "\n".join(lines)
