"""Metadata that somebody edited: whatever was put in, only a FeatstoreError comes out, from reading and from verify."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featstore.errors import FeatstoreError
from featstore.store import open_store
from featstore.store.garbage import collect_garbage
from featstore.store.leases import live_leases
from featstore.store.ledger import read_ledger, read_status
from featstore.store.location import open_location
from featstore.store.record_pack import checked_json
from featstore.store.records import CommitRecord
from featstore.store.sizes import describe_features
from featstore.store.verify import verify
from tests.faults.small import build
from tests.faults.test_hostile import signed

EDITS = 60  # of each backend
DEEP = "[" * 100_000 + "]" * 100_000
VALUES: list[Any] = [
    *(None, True, -1, 0, 1.5, 2**70, 1e308, "", "x", "x" * 10_000, "../..", "\0", "mel()", "uint8(low=-100,high=40)"),
    *([], {}, [None], [[[]]], {"a": {"b": []}}, [1, 2, 3], {"features": 1}, "2e400"),
]


@pytest.fixture(scope="module", params=["zarr", "hdf5"])
def healthy(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("edited") / "s"
    build(path, request.param)
    return path


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """Every place in a JSON value, itself included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inside for place in places(item, (*at, key)))]


def edited(content: Any, rng: random.Random) -> Any:
    """The content with one value replaced, or one key taken out or renamed."""
    at = rng.choice(places(content))
    if not at:
        return rng.choice(VALUES)
    parent = content
    for key in at[:-1]:
        parent = parent[key]
    action = rng.random()
    if action < 0.8 or not isinstance(parent, dict):
        parent[at[-1]] = rng.choice(VALUES)
    elif action < 0.9:
        del parent[at[-1]]
    else:
        parent["renamed"] = parent.pop(at[-1])
    return content


def use(path: Path) -> None:
    """Everything that a person does with a store without writing."""
    for act in (
        lambda: verify(path),
        lambda: read_status(open_store(path)),
        lambda: read_ledger(open_store(path)),
        lambda: describe_features(open_store(path)),
        lambda: open_store(path).tracks,
        lambda: open_store(path).fingerprint,
        lambda: [np.asarray(open_store(path)[name]["t0"]) for name in open_store(path).features],
        lambda: collect_garbage(open_location(path), dry_run=True),
    ):
        try:
            act()
        except FeatstoreError as error:
            assert str(error) and "\n" not in error.what


@pytest.mark.slow
def test_only_errors_of_ours_come_out_of_edited_metadata(healthy: Path, tmp_path: Path) -> None:
    names = sorted(str(file.relative_to(healthy)) for file in healthy.rglob("*.json") if "staging" not in file.parts)
    assert len(names) >= 8
    rng, noticed = random.Random(1), 0
    for number in range(EDITS):
        path, name = tmp_path / f"s{number}", names[number % len(names)]
        shutil.copytree(healthy, path)
        content = edited(json.loads((path / name).read_text()), rng)
        text = DEEP if number % 10 == 9 else json.dumps(content)
        if isinstance(content, dict) and "digest" in content and rng.random() < 0.5:
            text = signed(content).decode()  # by a person who knows how
        (path / name).write_text(text)
        use(path)
        noticed += bool(_problems(path))
        shutil.rmtree(path)
    assert noticed > EDITS // 2


def _problems(path: Path) -> list[Any]:
    try:
        return list(verify(path))
    except FeatstoreError as error:
        return [error]


@pytest.mark.parametrize("column", ["row", "track_id", "path"])
@pytest.mark.parametrize("values", [["a", None, "b", "c"], [None] * 4, [0, 0, 0, 0], [-1, -2, 5, 2**40], None])
def test_only_errors_of_ours_come_out_of_an_edited_track_table(
    healthy: Path, column: str, values: list | None, tmp_path: Path
) -> None:
    shutil.copytree(healthy, tmp_path / "s")
    frame = pd.read_parquet(healthy / "tracks.parquet")
    frame = frame.drop(columns=column) if values is None else frame.assign(**{column: values})
    frame.to_parquet(tmp_path / "s" / "tracks.parquet", index=False)
    use(tmp_path / "s")
    assert _problems(tmp_path / "s")


@pytest.mark.parametrize(
    "owner",
    [{"pid": -1}, {"pid": 2**40}, {"pid": "x"}, {"pid": None}, {"started": "x"}, {"started": 1e400}, {"host": []}],
)
def test_an_edited_lease_is_given_up_like_an_unfilled_one(healthy: Path, owner: dict, tmp_path: Path) -> None:
    shutil.copytree(healthy, tmp_path / "s")
    lease = tmp_path / "s" / "leases" / "k" / "0.json"
    lease.parent.mkdir(parents=True, exist_ok=True)
    lease.write_text(json.dumps({"host": "h", "pid": 1, "started": 1.0} | owner))
    assert isinstance(live_leases(open_location(tmp_path / "s")), list)
    use(tmp_path / "s")


def test_deep_json_is_no_record() -> None:
    with pytest.raises(FeatstoreError, match="a commit record cannot be read"):
        CommitRecord.from_bytes(DEEP.encode(), "here")
    with pytest.raises(FeatstoreError, match="the thing cannot be read"):
        checked_json(b'{"digest": 1, "format": "x"}', "here", "the thing", 1)
