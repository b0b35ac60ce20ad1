"""A store's track table: its frozen order, rows and files by shard, and what is known of the data set behind it."""

from __future__ import annotations

import hashlib
import io
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.arrays import IntArray
from featstore.arrow_files import arrow_file
from featstore.atomic import damage
from featstore.store.location import Location
from featstore.store.table_info import StoredTable, table_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TRACKS", "StoredTracks", "ordered", "parquet_bytes"]

TRACKS = "tracks.parquet"


_NEEDED = ["row", "track_id", "path"]


class StoredTracks:
    """The table ``tracks.parquet`` of a store.

    Workers need ids, rows and files alone: those are read without the other columns, about a hundred bytes per track.
    ``frame`` reads all of it.

    Parameters
    ----------
    location : Location

    Raises
    ------
    CorruptFeature
        When something is read of a table that is missing or damaged.
    """

    def __init__(self, location: Location) -> None:
        self._location = location

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All columns, indexed by track id."""
        import pandas as pd
        import pyarrow as pa

        def read(content: bytes) -> pd.DataFrame:
            whole = pd.read_parquet(arrow_file(content))
            # what has to be in it is checked, and kept: every reader needs it, and the file is read once
            self.__dict__.setdefault("_columns", _in_order(pa.Table.from_pandas(whole[_NEEDED], preserve_index=False)))
            return whole.set_index("track_id")

        frame: pd.DataFrame = self._read(read)
        return frame

    @property
    def content(self) -> bytes:
        """Bytes of the file."""
        content: bytes = self._read(bytes)
        return content

    @property
    def facts(self) -> StoredTable | None:
        """What the table says of its data set; None where it says nothing, or nothing that makes sense."""
        return table_of(self.frame)

    @cached_property
    def _columns(self) -> Any:
        import pyarrow.parquet as pq

        def read(content: bytes) -> Any:
            return _in_order(pq.read_table(arrow_file(content), columns=_NEEDED))

        return self._read(read)

    def _read(self, parse: Any) -> Any:
        with damage("the track table cannot be read", f"{self._location}/{TRACKS}", "Restore it from a copy"):
            return parse(self._location.read(TRACKS))

    @cached_property
    def rows(self) -> IntArray:
        """Rows that hold tracks, ascending."""
        rows: IntArray = self._columns["row"].to_numpy().astype(np.int64)
        return rows

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each track by its id."""
        return dict(zip(self._columns["track_id"].to_pylist(), self.rows.tolist(), strict=True))

    @property
    def n_rows(self) -> int:
        """One more than the last row."""
        return int(self.rows[-1]) + 1 if len(self.rows) else 0

    def within(self, first: int, count: int) -> range:
        """Rows from ``first`` on that hold tracks, of the next ``count``."""
        begin, stop = np.searchsorted(self.rows, (first, first + count))
        return range(first, int(self.rows[stop - 1]) + 1) if stop > begin else range(first, first)

    @property
    def files(self) -> pd.DataFrame:
        """Columns ``track_id`` and ``path`` of all tracks, in the order of their rows."""
        files: pd.DataFrame = self._columns.select(["track_id", "path"]).to_pandas()
        return files

    def pairs(self, rows: range) -> list[tuple[str, str]]:
        """(track id, audio file) of some rows."""
        begin, stop = (int(at) for at in np.searchsorted(self.rows, (rows.start, rows.stop)))
        part = self._columns.slice(begin, stop - begin)
        return list(zip(part["track_id"].to_pylist(), part["path"].to_pylist(), strict=True))


def _in_order(table: Any) -> Any:
    """Columns of a store, by row; any others are refused. Whether rows and ids are unique is for ``verify`` to say."""
    import pyarrow.types as kinds

    rows = table["row"].to_numpy()
    if rows.dtype.kind not in "iu" or (rows < 0).any() or (rows >= (len(rows) << 16)).any():
        raise ValueError("rows of tracks are no counting numbers")
    texts = [table[name] for name in ("track_id", "path")]
    types = [one.type.value_type if kinds.is_dictionary(one.type) else one.type for one in texts]
    if any(one.null_count for one in texts) or not all(kinds.is_string(t) or kinds.is_large_string(t) for t in types):
        raise ValueError("ids or files of tracks are no text")
    return table if (np.diff(rows) > 0).all() else table.sort_by("row")


def ordered(frame: pd.DataFrame, seed: int, first_row: int) -> pd.DataFrame:
    """Tracks in the store's order, by a hash of (seed, id): groups are mixed, the table's own order is irrelevant."""
    keys = b"".join(hashlib.sha256(f"{seed}|{track}".encode()).digest() for track in frame["track_id"])
    order = np.frombuffer(keys, "S32").argsort(kind="stable")
    return frame.iloc[order].assign(row=range(first_row, first_row + len(frame)))


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a table as a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
