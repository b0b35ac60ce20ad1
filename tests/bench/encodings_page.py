"""Write the generated tables of docs/encodings.md from their measurements: ``python -m tests.bench.encodings_page``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
PAGE, LINES = DOCS / "encodings.md", DOCS / "benchmarks" / "encodings.jsonl"
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of the generated part -->)", re.DOTALL)


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()]


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join("| " + " | ".join(row) + " |\n" for row in lines)


def sizes() -> str:
    found = [r for r in records() if r["benchmark"] == "encodings" and r["backend"] == "zarr"]
    header = ["encoding, compression", "MB an hour", "of float32", "of the audio files"]
    header += ["largest error, dB", "mean error, dB", "saturated"]
    about = found[0]
    told = f"{about['tracks']} tracks, {about['hours']:.3f} h, Zarr; `{about['spec']}`.\n\n"
    rows = [
        [
            r["encoding"] + ("" if r["compression"] == "none" else f", {r['compression']}"),
            f"{r['bytes_per_hour'] / 1e6:.1f}",
            f"{r['ratio_to_float32']:.3f}",
            f"{r['ratio_to_audio']:.3f}",
            f"{r['max_error']:.2g}",
            f"{r['mean_error']:.2g}",
            str(int(r["saturated"])),
        ]
        for r in found
    ]
    return told + _table(header, rows)


def speeds() -> str:
    found = {(r["backend"], r["encoding"], r["compression"]): r for r in records() if r["benchmark"] == "encodings"}
    header = ["encoding, compression", "Zarr, MB/s", "HDF5, MB/s", "HDF5's bytes over Zarr's"]
    rows = []
    for (backend, encoding, compression), zarr in found.items():
        if backend == "zarr":
            hdf5 = found["hdf5", encoding, compression]
            name = encoding + ("" if compression == "none" else f", {compression}")
            speed = [f"{r['read_mb_per_second']:.0f} ({r['lowest']:.0f}–{r['highest']:.0f})" for r in (zarr, hdf5)]
            rows.append([name, *speed, f"{hdf5['bytes'] / zarr['bytes']:.3f}"])
    machine = next(iter(found.values()))["machine"]
    rounds = next(iter(found.values()))["rounds"]
    told = f"Median of {rounds} rounds (lowest–highest), one process, {machine['cpu']}.\n\n"
    return told + _table(header, rows)


def tokens() -> str:
    found = [r for r in records() if r["benchmark"] == "encodings of tokens"]
    rows = [[r["encoding"], str(r["bytes"]), f"{8 * r['bytes'] / r['tokens']:.3f}"] for r in found]
    return _table(["encoding", f"bytes of {found[0]['tokens']} tokens", "bits a token"], rows)


PARTS = {"sizes": sizes, "speeds": speeds, "tokens": tokens}


def renewed(text: str) -> str:
    """The page with its tables made again."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
