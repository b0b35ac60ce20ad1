"""A place for a store: a folder, then a bucket."""

from pathlib import Path

import pytest
from places import Place

from featstore.testing.s3_server import S3Server

pytest.register_assert_rewrite("featstore.testing.store_contract")


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "folder":
        return Place(str(tmp_path / "x.zarr"))
    server: S3Server = request.getfixturevalue("s3")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    return Place(f"s3://{server.new_bucket()}/some/where/x.zarr", server)
