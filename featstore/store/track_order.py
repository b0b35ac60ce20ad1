"""The frozen order of a store's tracks, and the bytes of the table that keeps it."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ordered", "parquet_bytes"]


def ordered(frame: pd.DataFrame, seed: int, first_row: int) -> pd.DataFrame:
    """Tracks in the store's order, by a hash of (seed, id): groups are mixed, the table's own order is irrelevant."""
    keys = [hashlib.sha256(f"{seed}|{track}".encode()).digest() for track in frame["track_id"]]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return frame.iloc[order].assign(row=range(first_row, first_row + len(frame)))


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a table as a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
