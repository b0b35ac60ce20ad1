"""Track tables in a bucket, and tables on disk whose audio is in one."""

from pathlib import Path

import pytest

from featstore.datasets import TrackTable
from featstore.datasets.checks import check_table
from featstore.errors import DatasetError, ObjectStorageError
from featstore.testing.audio import make_collection
from featstore.testing.s3_server import S3Server
from featstore.workflows.indexing import index_tracks


@pytest.fixture
def music(s3: S3Server, tmp_path: Path) -> str:
    """URL of a folder with four tracks, and a list of them."""
    url = f"s3://{s3.new_bucket()}/data"
    for path in sorted(make_collection(tmp_path / "music", n_tracks=4).rglob("*.wav")):
        s3.replace(url, path.name, path.read_bytes())
    lines = [f"{url}/{number:04d}.wav,{'ab'[number % 2]}" for number in range(4)]
    (tmp_path / "list.csv").write_text("path,labels\n" + "\n".join(lines) + "\n")
    return url


def test_a_list_of_urls_is_indexed_checked_and_kept_in_the_bucket(s3: S3Server, music: str, tmp_path: Path) -> None:
    table = index_tracks("csv", tmp_path / "list.csv")
    local = index_tracks("folder", tmp_path / "music").frame.sort_values("track_id")
    assert sorted(table.frame["path"]) == [f"{music}/{number:04d}.wav" for number in range(4)]
    assert sorted(table.frame["duration_s"]) == sorted(local["duration_s"])
    table.write(f"{music}/tracks.parquet")
    table.write(tmp_path / "tracks.parquet")
    for place in (f"{music}/tracks.parquet", tmp_path / "tracks.parquet"):
        assert TrackTable.read(place).frame["path"].tolist() == table.frame["path"].tolist()
    kinds = {finding.kind for finding in check_table(table, compare_audio=True)}
    assert not kinds & {"missing_file", "unreadable", "duplicate_audio"}
    s3.replace(music, "0002.wav", None)
    s3.replace(music, "0001.wav", s3.objects(music)["0003.wav"])
    kinds = {finding.kind for finding in check_table(table, compare_audio=True)}
    assert {"missing_file", "duplicate_audio"} <= kinds


def test_a_table_that_is_not_there(s3: S3Server, music: str) -> None:
    with pytest.raises(DatasetError, match=r"no track table here \[s3://"):
        TrackTable.read(f"{music}/tracks.parquet")
    s3.replace(music, "tracks.parquet", b"no parquet")
    with pytest.raises(DatasetError, match="not a parquet file"):
        TrackTable.read(f"{music}/tracks.parquet")
    with pytest.raises(ObjectStorageError, match="no bucket"):
        TrackTable.read("s3://no-such-bucket/tracks.parquet")
