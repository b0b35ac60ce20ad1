"""The benchmark of encodings runs, and docs/encodings.md shows what it measured."""

from pathlib import Path

import pytest

from featstore.testing.audio import make_collection
from tests.bench import bench_encodings
from tests.bench.encodings_page import PAGE, PART, PARTS, records, renewed


@pytest.mark.slow
def test_bench_encodings(tmp_path: Path) -> None:
    made = bench_encodings.run(tmp_path, make_collection(tmp_path / "music", n_tracks=2, seconds=(1.0, 2.0)), 1)
    found = {(r["backend"], r["encoding"], r["compression"]): r for r in made if r["benchmark"] == "encodings"}
    assert len(found) == 24 and all(r["read_mb_per_second"] > 0 for r in found.values())
    assert found["zarr", "uint8", "none"]["max_error"] <= 70 / 254 + 1e-3
    assert found["zarr", "float32", "none"]["max_error"] == 0.0
    assert {r["bytes"] for r in made if r["encoding"] == "uint16, zstd"} == {16622}


def test_the_page_shows_what_was_measured() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {found[2] for found in PART.finditer(text)} == set(PARTS)
    assert renewed(text) == text, "run: python -m tests.bench.encodings_page"
    names = {(r["backend"], r["encoding"], r["compression"]) for r in records() if r["benchmark"] == "encodings"}
    assert len(names) == 24
