"""What every kind of data set keeps to; a new one meets these tests by its line in ``DATASETS``.

The tests of a kind, ``test_FILE.py``, have a function ``miniature(root, tone)`` that writes the data set in small, with
its known faults, and may name the ``OPTIONS`` to index it with.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featstore.datasets import DATASETS, SPLITS, TrackTable, about, describe, index

Tone = Callable[..., Path]


def module_of(kind: str) -> Any:
    """The module of a kind's own tests, named after the adapter's file or folder."""
    name = DATASETS[kind].removeprefix("featstore.datasets.").split(":")[0].split(".")[0]
    return importlib.import_module(f"test_{name}")


@pytest.fixture(params=list(DATASETS))
def made(request: pytest.FixtureRequest, tmp_path: Path, tone: Tone) -> tuple[str, Path, dict[str, Any]]:
    """Kind, root and options of a miniature."""
    if request.param == "demo":
        pytest.importorskip("music21")
        pytest.importorskip("symusic")
    module = module_of(request.param)
    return request.param, module.miniature(tmp_path / "set", tone), getattr(module, "OPTIONS", {})


@pytest.mark.slow
def test_tables_of_every_kind(made: tuple[str, Path, dict[str, Any]], tmp_path: Path) -> None:
    kind, root, options = made
    table = index(kind, root, **options)
    frame = table.frame
    assert len(frame) >= 4 and frame["track_id"].is_unique and all(frame["track_id"])
    assert all(Path(path).is_absolute() for path in frame["path"])
    assert set(frame["split"].dropna()) <= set(SPLITS)
    assert {name for names in frame["labels"] for name in names} <= set(table.info.classes)
    assert table.info.name.startswith(kind if about(kind).citation else "") and table.info.root
    again = index(kind, root, **options)
    assert again.frame["track_id"].tolist() == frame["track_id"].tolist(), "a stable order"
    for name, where in (("one", table), ("two", again)):
        where.write(tmp_path / f"{name}.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    read = TrackTable.read(tmp_path / "one.parquet")
    assert read.info == table.info and [list(names) for names in read.frame["labels"]] == frame["labels"].tolist()


@pytest.mark.parametrize("kind", list(DATASETS))
def test_every_kind_says_what_it_is(kind: str) -> None:
    summary, options = describe(kind)
    facts = about(kind)
    adapter = DATASETS.load(kind)
    assert summary.endswith(".") and len(summary) < 130
    documented = (inspect.getdoc(adapter) or "").partition("Parameters\n")[2]
    assert all(option in documented for option in options), "every option is described"
    if kind not in ("folder", "csv"):
        assert len(facts.citation) > 40 and any(year in facts.citation for year in map(str, range(2000, 2030)))
        assert len(facts.licence) > 20
    for digest in facts.checksums.values():
        name, _, value = digest.partition(":")
        assert len(value) == {"sha1": 40, "sha256": 64}[name]
    assert all(set(splits) <= set(SPLITS) for splits in facts.counts.values())
