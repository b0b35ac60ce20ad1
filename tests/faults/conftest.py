"""Counts of the fault table: what the tests did is written down when FEATSTORE_FAULT_TABLE names a file."""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_COUNTS: dict[str, Counter] = {}


@pytest.fixture
def tally() -> Callable[..., None]:
    """Count what became of faults: ``tally("row of the table", injected=1, noticed=1, …)``."""

    def note(row: str, **counts: int) -> None:
        _COUNTS.setdefault(row, Counter()).update(counts)

    return note


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: flushes by the thousand cost nothing there."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="featstore-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def write_counts() -> Iterator[None]:
    yield
    target = os.environ.get("FEATSTORE_FAULT_TABLE")
    if target and _COUNTS:
        with open(target, "w", encoding="utf-8") as file:
            json.dump({row: dict(counts) for row, counts in sorted(_COUNTS.items())}, file, indent=1)
