"""What a run loses on altered copies of its test tracks: a file for each alteration in the run's folder.

``shifts/NAME.json`` of a run has its scores on some test tracks and on their copies, with an interval of the drop over
these tracks; beside it lie the predictions on the copies, ``shifts/NAME.parquet``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featstore.atomic import write_json
from featstore.plain import plain

__all__ = ["SHIFTS", "read_shifts", "shift_file", "write_shift"]

logger = logging.getLogger(__name__)

SHIFTS = "shifts"
"""Folder of a run that holds them."""


def shift_file(run: str | Path, name: str, suffix: str = ".json") -> Path:
    """File of an alteration in a run's folder."""
    return Path(run) / SHIFTS / f"{name}{suffix}"


def write_shift(run: str | Path, record: Mapping[str, Any]) -> None:
    """Write what a run loses under the alteration ``record["shift"]``, in one atomic step."""
    write_json(shift_file(run, str(record["shift"])), plain(dict(record), strict=True))


def read_shifts(run: str | Path) -> list[dict[str, Any]]:
    """What a run loses under each alteration that it was scored on, by name; a file that cannot be read is left out."""
    found = []
    for path in sorted((Path(run) / SHIFTS).glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
            scores = {str(metric): dict(values) for metric, values in record["scores"].items()}
            found.append({**record, "shift": str(record["shift"]), "scores": scores})
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            logger.warning("scores on altered tracks cannot be read: %s: %s", path, error)
    return found
