"""Files of columns: arrays as Parquet columns, without a Python object for every number.

See Also
--------
featstore.results.details.array_of : The way back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.atomic import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["column_of", "write_columns"]


def column_of(array: NDArray[Any]) -> pa.Array:
    """Column of numbers from ``(n,)``, of equally long lists from ``(n, width)``."""
    import pyarrow as pa

    if array.ndim == 1:
        return pa.array(array)
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    kind, index = (pa.ListArray, "int32") if array.size < 2**31 else (pa.LargeListArray, "int64")
    return kind.from_arrays((np.arange(len(array) + 1) * array.shape[1]).astype(index), values)


def write_columns(path: Path, columns: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Write columns as Parquet, whole or not at all; ``header`` is kept as JSON in the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(dict(columns)).replace_schema_metadata({"featstore": json.dumps(header)})
    with atomic_path(path) as part, pa.OSFile(str(part), "wb") as file:
        pq.write_table(table, file, compression="zstd")
