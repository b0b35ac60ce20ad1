"""``featstore store …`` as a user calls it: exit codes, tables and JSON."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.testing.audio import make_collection, tone
from featstore.workflows.indexing import index_tracks

FEATURES = ["mel(n_mels=8,scale=db)@uint8", "mel(n_mels=8,scale=db,hop_length=512)@uint8", "mel(n_mels=4)"]
Called = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    folder = make_collection(root / "music", n_tracks=5, seconds=(0.5, 1.0))
    (folder / "a" / "broken.wav").write_bytes(b"")
    table = index_tracks("folder", folder)
    extract(table, expand_features(FEATURES), root / "mel.zarr", ExtractOptions(scheduler="sync", shard_tracks=2))
    return root


@pytest.fixture
def store(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Called:
    """Run ``featstore store …`` in this process: exit code, stdout, stderr."""
    from featstore_cli.main import main

    monkeypatch.setenv("FEATSTORE_PROGRESS", "0")

    def called(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["store", *map(str, args)])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return called


def test_info_tells_sizes_and_errors(made: Path, store: Called) -> None:
    code, out, _ = store("info", made / "mel.zarr", "--wide")
    assert code == 0
    for word in ("an hour", "of float32", "of audio", "saturated", "view", "mean"):
        assert word in out
    code, out, _ = store("info", made / "mel.zarr", "--json")
    rows = {(row["dtype"], row["stored"]): row for row in json.loads(out)["features"]}
    small = rows["uint8", True]
    assert small["n_tracks"] == 5 and small["max_error"] <= small["bound"] + 1e-3 and small["mean_error"] > 0
    assert small["bytes_per_hour"] == pytest.approx(small["bytes"] / small["hours"])
    audio = sum(path.stat().st_size for path in (made / "music").rglob("*.wav"))
    assert small["ratio_to_audio"] == pytest.approx(small["bytes"] / audio)
    assert rows["float32", True]["ratio_to_float32"] > 1 and rows["float32", True]["max_error"] is None
    assert rows["uint8", "view"]["bytes_added"] == 0


def test_convert_diff_pack_and_back(made: Path, store: Called, tmp_path: Path) -> None:
    source = made / "mel.zarr"
    code, out, _ = store("convert", source, tmp_path / "mel.hdf5", "--compression", "zstd", "--json")
    assert (code, json.loads(out)["backend"]) == (0, "hdf5")
    code, out, _ = store("diff", source, tmp_path / "mel.hdf5")
    assert code == 0 and out.splitlines()[-1] == "equal in content, not in provenance"
    assert "provenance: store: backend is zarr and hdf5" in out
    assert store("diff", source, tmp_path / "mel.hdf5", "--strict")[0] == 1
    assert store("diff", source, source)[1] == "equal in content\n"
    code, out, _ = store("pack", tmp_path / "mel.hdf5", "-o", tmp_path / "one.h5", "--compression", "gzip")
    assert code == 0 and "2 arrays" in out
    assert store("verify", tmp_path / "one.h5")[:2] == (0, f"{tmp_path}/one.h5: all is well\n")
    assert store("convert", tmp_path / "one.h5", tmp_path / "back.zarr", "--compression", "none")[0] == 0
    assert store("diff", source, tmp_path / "back.zarr", "--strict")[1] == "equal in content\n"
    code, _, err = store("convert", source, tmp_path / "mel.hdf5", "--backend", "zarr")
    assert code == 1 and "not a conversion of this one" in err
    code, _, err = store("pack", source, "-o", tmp_path / "one.h5")
    assert code == 1 and "the file exists already" in err


def test_diff_lists_what_differs(made: Path, store: Called, tmp_path: Path) -> None:
    table = index_tracks("folder", made / "music")
    extract(table, expand_features(FEATURES[2:]), tmp_path / "b", ExtractOptions(scheduler="sync", shard_tracks=2))
    code, out, _ = store("diff", made / "mel.zarr", tmp_path / "b", "--json")
    told = json.loads(out)
    assert code == 1 and not told["equal"]
    (content,) = [difference for difference in told["differences"] if not difference["provenance"]]
    assert content["what"] == "only the first store has it" and "uint8" in content["feature"]


@pytest.mark.slow
def test_changed_audio_is_noticed_and_computed_again(made: Path, store: Called, tmp_path: Path) -> None:
    import soundfile

    shutil.copytree(made / "music", tmp_path / "music")
    table = index_tracks("folder", tmp_path / "music")
    options = ExtractOptions(scheduler="sync", shard_tracks=2)
    extract(table, expand_features(FEATURES[2:]), tmp_path / "s", options)
    assert store("verify", tmp_path / "s", "--audio")[0] == 0
    soundfile.write(tmp_path / "music" / "b" / "0003.wav", tone(0.7, seed=99), 22050)
    (tmp_path / "music" / "a" / "0002.wav").rename(tmp_path / "elsewhere.wav")
    code, out, _ = store("verify", tmp_path / "s", "--audio", "--json")
    audio = json.loads(out)["audio"]
    assert code == 3 and len(audio["changed"]) == 1 and len(audio["gone"]) == 1 and audio["checked"] == 5
    assert "0003.wav" in next(iter(audio["changed"].values()))["path"]
    assert store("verify", tmp_path / "s")[0] == 0, "the store itself is sound"
    (tmp_path / "elsewhere.wav").rename(tmp_path / "music" / "a" / "0002.wav")
    code, out, _ = store("repair", tmp_path / "s", "--audio", "--jobs", "1")
    assert code == 0 and "0 problems; 1 shard computed again" in out
    assert store("verify", tmp_path / "s", "--audio")[0] == 0
    extract(index_tracks("folder", tmp_path / "music"), expand_features(FEATURES[2:]), tmp_path / "fresh", options)
    assert store("diff", tmp_path / "s", tmp_path / "fresh")[0] == 1, "the table still has the old probed length"
    from featstore.store import open_store
    from featstore.store.diff import compare

    found = compare(open_store(tmp_path / "s"), open_store(tmp_path / "fresh"))
    assert not [d for d in found if d.feature and not d.provenance], "values are those of a fresh extraction"


def test_extract_retries_what_changed(made: Path, tmp_path: Path) -> None:
    import soundfile

    from featstore.store import open_store

    shutil.copytree(made / "music", tmp_path / "music")
    table = index_tracks("folder", tmp_path / "music")
    features = expand_features(FEATURES[2:])
    extract(table, features, tmp_path / "s", ExtractOptions(scheduler="sync", shard_tracks=2))
    again = ExtractOptions(scheduler="sync", retry=("changed",))
    assert extract(table, features, tmp_path / "s", again).shards == 0
    soundfile.write(tmp_path / "music" / "b" / "0003.wav", tone(0.7, seed=99), 22050)
    assert extract(table, features, tmp_path / "s", again).shards == 1
    opened = open_store(tmp_path / "s")
    (key,) = opened.arrays
    assert sorted(record.generation for record in opened.records(key).values()) == [1, 1, 2]


@pytest.mark.slow
def test_repair_keeps_what_can_be_read_when_audio_is_gone(made: Path, store: Called, tmp_path: Path) -> None:
    shutil.copytree(made / "music", tmp_path / "music")
    table = index_tracks("folder", tmp_path / "music")
    options = ExtractOptions(scheduler="sync", shard_tracks=3)
    extract(table, expand_features(FEATURES[2:]), tmp_path / "s", options)
    data = next((tmp_path / "s").glob("features/*/data/c/1/0/0"))
    content = bytearray(data.read_bytes())
    content[9] ^= 1
    data.write_bytes(content)
    shutil.rmtree(tmp_path / "music")
    code, out, _ = store("repair", tmp_path / "s", "--jobs", "1")
    assert code == 3 and "left: " in out and data.read_bytes() == bytes(content)
    assert list((tmp_path / "s").glob("commits/*/1.json"))


def test_derive_names_what_it_wrote(made: Path, store: Called, tmp_path: Path) -> None:
    shutil.copytree(made / "mel.zarr", tmp_path / "s.zarr")
    code, out, _ = store("derive", tmp_path / "s.zarr", "-f", "mel(n_mels=4,hop_length=1024)")
    assert code == 0
    assert out == "mel(sample_rate=16000,hop_length=1024,n_mels=4)@float32: 3 shards written\n"
