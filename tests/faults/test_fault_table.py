"""docs/faults.md shows what the tests counted, and no count speaks of a loss."""

import json

from tests.faults.table import COUNTS, PAGE, render


def test_the_page_shows_the_counts() -> None:
    counts = json.loads(COUNTS.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == render(counts), "run: python -m tests.faults.table"
    assert len(counts) > 15 and sum(row["faults"] for row in counts.values()) > 300
    for name, row in counts.items():
        assert row.get("half_written_readable", 0) == 0, name
        if "random moment" in name:
            assert row["same_bytes_afterwards"] == row["faults"]
    assert sum(row["faults"] for name, row in counts.items() if "random moment" in name) >= 50
