"""Rows of a store's tracks, without the rest of the table: what a worker needs of a collection of any size."""

from __future__ import annotations

from typing import Any

import numpy as np

from featstore.arrays import IntArray

__all__ = ["TrackIndex"]


class TrackIndex:
    """Ids and files by row; about a hundred bytes a track.

    Parameters
    ----------
    content : bytes
        Of ``tracks.parquet``.

    Raises
    ------
    OSError, ValueError
        When it is no such file.
    """

    def __init__(self, content: bytes) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(pa.BufferReader(content), columns=["row", "track_id", "path"])
        if not (np.diff(table["row"].to_numpy()) > 0).all():
            table = table.sort_by("row")
        self.rows: IntArray = table["row"].to_numpy().astype(np.int64)
        self._table: Any = table

    @property
    def n_rows(self) -> int:
        """One more than the last row."""
        return int(self.rows[-1]) + 1 if len(self.rows) else 0

    def within(self, first: int, count: int) -> range:
        """Rows from ``first`` on that hold tracks, of the next ``count``."""
        stop = np.searchsorted(self.rows, first + count)
        begin = np.searchsorted(self.rows, first)
        return range(first, int(self.rows[stop - 1]) + 1) if stop > begin else range(first, first)

    def tracks(self, rows: range) -> list[tuple[str, str]]:
        """(track id, path) of some rows."""
        begin, stop = (int(at) for at in np.searchsorted(self.rows, (rows.start, rows.stop)))
        part = self._table.slice(begin, stop - begin)
        return list(zip(part["track_id"].to_pylist(), part["path"].to_pylist(), strict=True))
