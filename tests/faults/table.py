"""Write docs/faults.md from what the tests of this folder counted: ``python -m tests.faults.table`` runs them.

Given files that ``FEATSTORE_FAULT_TABLE`` named in earlier runs, it takes their counts instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE, COUNTS = ROOT / "docs" / "faults.md", ROOT / "docs" / "benchmarks" / "faults.json"
TEXT = """# Faults and what becomes of them

Every row is a test of `tests/faults` that does the thing and counts; the page is written from the counts by
`python -m tests.faults.table`, and nothing in it is typed by hand.

- **reported**: an error or `featstore store verify` names it. A kill has no report; a harmless fault needs none:
  nothing depends on a refused flush of a folder.
- **half-written and readable**: how often a reader or `verify` was shown something that was not whole.
- **as undisturbed afterwards**: after running again (or `featstore store repair`) the store has the bytes of one
  that was never disturbed; where a shard was replaced or read, the same values.

{table}
What the rows mean:

- *At every step*: each write, flush, rename, creation and deletion of a small run, one after the other, ends the
  process as `kill -9` does; in *disk full* and *I/O error* the step refuses instead (the latter at every third).
- *A random moment*: an extraction in a process of its own is killed and started again until it is through.
- *Kinds of file*: root, groups, array metadata, data, frame counts, track table, records, requests and manifest.
- *Packing records* and *packed records*: those of a finished array in one file ([format](format.md)).
- A bit flipped in a run's log (`log/`) goes unnoticed: logs are for people and outside all hashes.
- A damaged shard whose audio files are gone is reported and kept: what can be read of it stays readable.
"""


def render(counts: dict[str, dict[str, int]]) -> str:
    columns = ("fault", "times", "reported", "half-written and readable", "as undisturbed afterwards")
    header = f"| {' | '.join(columns)} |\n|---|---:|---:|---:|---:|\n"
    rows = []
    for name, found in sorted(counts.items()):
        after = found.get("same_bytes_afterwards", found.get("same_values_afterwards", found.get("taken_over")))
        cells = [found["faults"], found.get("reported"), found.get("half_written_readable"), after]
        if "harmless" in found:
            cells[1] = f"harmless: {found['harmless']}"
        rows.append(f"| {name} | " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |\n")
    return TEXT.format(table=header + "".join(rows))


def main(files: list[str]) -> None:
    if not files:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "counts.json"
            command = [sys.executable, "-m", "pytest", "tests/faults", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
            command.append("--ignore=tests/faults/test_fault_table.py")  # it asks for what is being made here
            subprocess.run(command, cwd=ROOT, env=os.environ | {"FEATSTORE_FAULT_TABLE": str(target)}, check=True)
            counts = json.loads(target.read_text(encoding="utf-8"))
    else:
        counts = {}
        for file in files:
            counts |= json.loads(Path(file).read_text(encoding="utf-8"))
    COUNTS.write_text(json.dumps(dict(sorted(counts.items())), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(render(counts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
