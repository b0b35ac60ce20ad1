"""An array whose shards come from different versions of a decoder is sound, and says so."""

import logging
from pathlib import Path

import pytest

from featstore.store import Store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.mixed_versions import describe_mix, mixed_versions
from featstore.store.sizes import describe_features
from featstore.store.verify import verify
from featstore.store.writing import write_shard
from featstore.testing.stores import LENGTHS, header_of, make_store, values_of
from featstore_cli.main import main

KEY = header_of().key
MIX = {"libsndfile": {"1.0": 1, "1.2": 2}}


def mixed_store(path: Path) -> Store:
    store = make_store(str(path))
    for shard, version in enumerate(("1.2", "1.0", "1.2")):
        with write_shard(store, shard, [KEY]) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot)
                if row in LENGTHS:
                    writer.append(KEY, values_of(row, LENGTHS[row]))
                    writer.end()
                else:
                    writer.fail(slot, "failed", "decode", "cannot be decoded")
            writer.commit({"featstore": "test", "libsndfile": version})
    consolidate(store)
    return open_store(path)


def test_verify_and_info_tell_of_mixed_versions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    store = mixed_store(tmp_path / "s.zarr")
    with caplog.at_level(logging.WARNING):
        assert verify(tmp_path / "s.zarr", quick=True) == []
    assert "mixes libsndfile 1.0 (1 shard) and 1.2 (2 shards)" in caplog.text
    assert describe_features(store)[0]["mixed_versions"] == MIX
    with pytest.raises(SystemExit, match="0"):
        main(["store", "info", str(tmp_path / "s.zarr")])
    assert "mixes libsndfile 1.0 (1 shard) and 1.2 (2 shards)" in capsys.readouterr().out


def test_one_version_is_no_mix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_store(str(tmp_path / "s.zarr"))
    with caplog.at_level(logging.WARNING):
        assert verify(tmp_path / "s.zarr") == []
    assert describe_features(store)[0]["mixed_versions"] == {} and "mixes" not in caplog.text
    assert mixed_versions(store.records(KEY).values()) == {} and describe_mix(MIX).startswith("libsndfile 1.0")
