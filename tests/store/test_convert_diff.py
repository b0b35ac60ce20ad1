"""Stores written again in the other backend hold the same; differences between two are reported, and no more."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featstore.errors import ConfigError, CorruptFeature, StoreError
from featstore.specs import parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.convert import convert
from featstore.store.diff import compare
from featstore.store.ledger import read_ledger, read_status
from featstore.store.missing import find_missing
from featstore.store.verify import verify
from featstore.store.writing import add_arrays, note_request, write_shard
from featstore.testing.stores import SPEC, header_of, track_frame, write_shards

WAVE = parse_spec("waveform(sample_rate=100)")
LENGTHS = {row: 1 + 377 * row for row in range(7) if row != 5}


def make(path: Path, backend: str, *, headers=("float32", "uint8", "wave"), lengths=LENGTHS, **settings) -> Store:
    """A store with a failed track, several shards, and tracks of more than one shard file along time."""
    from featstore.specs import Encoding

    made = [
        ArrayHeader(WAVE, Encoding.parse("int16", WAVE), (), ("sample",)) if name == "wave" else header_of(name)
        for name in headers
    ]
    store = create_store(path, settings.get("frame", track_frame(7)), made, shard_tracks=3, backend=backend)
    note_request(store, [f"{SPEC}@float32", f"{SPEC.replace(hop_length=512)}@float32"])
    for header in made:
        add_arrays(store, [header], settings.get("compression", "none"))
        if header.item_shape:
            write_shards(store, header, lengths)
        else:
            fill_wave(store, header)
    store.location.write("log/run.json", b"{}")
    consolidate(store)
    return open_store(path)


def fill_wave(store: Store, header: ArrayHeader) -> None:
    """Samples of which the longest track reaches into a second file along time."""
    for shard, keys in find_missing(store, [header.key]):
        with write_shard(store, shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot, f"source-{row}")
                n = 70_000 if row == 2 else 100 * row
                writer.append(header.key, np.sin(np.arange(n) / 9 + row).astype(np.float32))
                writer.end("clipped" if row == 1 else "ok", error="a reason" if row == 1 else "")
            writer.commit({"featstore": "test"})


def content(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("backend", "compression"), [("zarr", "zstd"), ("hdf5", "none")])
def test_there_and_back_gives_the_same_bytes(tmp_path: Path, backend: str, compression: str) -> None:
    source = make(tmp_path / "a", backend, compression=compression)
    other = convert(tmp_path / "a", tmp_path / "b")
    assert other.backend.name != backend and verify(tmp_path / "b") == []
    differences = compare(source, other)
    assert differences and all(difference.provenance for difference in differences), "\n".join(map(str, differences))
    assert read_status(other) == read_status(source) and read_ledger(other).equals(read_ledger(source))
    for key in source.arrays:
        for shard, record in source.records(key).items():
            copied = other.records(key)[shard]
            for name in ("n_frames", "sources", "outcomes", "quality", "versions", "generation"):
                assert getattr(copied, name) == getattr(record, name)
    convert(tmp_path / "b", tmp_path / "c")
    assert content(tmp_path / "c") == content(tmp_path / "a")


def test_another_compression_keeps_the_values(tmp_path: Path) -> None:
    source = make(tmp_path / "a", "zarr")
    packed = convert(tmp_path / "a", tmp_path / "b.zarr", compression="zstd")
    assert packed.backend.name == "zarr", "the ending of its name says so"
    assert {array.layout.compression for array in packed.arrays.values()} == {"zstd"}
    assert verify(tmp_path / "b.zarr") == []
    assert all(difference.provenance for difference in compare(source, packed))
    assert packed[WAVE].base.nbytes < source[WAVE].base.nbytes


def test_stopped_and_run_again_it_goes_on(tmp_path: Path, monkeypatch) -> None:
    make(tmp_path / "a", "zarr")
    whole = convert(tmp_path / "a", tmp_path / "whole")
    import featstore.store.convert as module

    steps, copy = [], module._copy_shard

    def stops(*args) -> None:
        if len(steps) == 4:
            raise KeyboardInterrupt
        steps.append((args[3].key, args[3].shard))
        copy(*args)

    monkeypatch.setattr(module, "_copy_shard", stops)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "a", tmp_path / "b")
    begun = list(steps)
    monkeypatch.setattr(module, "_copy_shard", lambda *args: (steps.append((args[3].key, args[3].shard)), copy(*args)))
    convert(tmp_path / "a", tmp_path / "b")
    assert len(begun) == 4 and len(steps) == len(set(steps)) == 9, "nothing is done twice"
    assert content(tmp_path / "b") == content(tmp_path / "whole")
    assert whole.location.exists("manifest.json")


def test_a_foreign_target_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", "zarr", headers=["float32"])
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="holds other files"):
        convert(tmp_path / "a", tmp_path / "thesis")
    other = track_frame(7).assign(track_id=[f"other{i}" for i in range(7)])
    make(tmp_path / "o", "hdf5", headers=["float32"], frame=other)
    with pytest.raises(StoreError, match="not a conversion of this one"):
        convert(tmp_path / "a", tmp_path / "o")
    with pytest.raises(StoreError, match="source and target are the same"):
        convert(tmp_path / "a", tmp_path / "a", backend="hdf5")
    with pytest.raises(ConfigError, match="compression='gzip' is unknown"):
        convert(tmp_path / "a", tmp_path / "n", compression="gzip")
    convert(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StoreError, match=r"with compression none.*Go on with --compression none"):
        convert(tmp_path / "a", tmp_path / "b", compression="zstd")


def test_a_changed_source_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "a", "zarr", headers=["float32"])
    convert(tmp_path / "a", tmp_path / "b")
    (key,) = source.arrays
    source.location.remove(f"commits/{key}/1.json")
    source.refresh()
    write_shards(source, source.arrays[key].header, dict.fromkeys(range(7), 9))
    with pytest.raises(StoreError, match="The source changed since"):
        convert(tmp_path / "a", tmp_path / "b")


def test_damage_is_never_copied(tmp_path: Path) -> None:
    source = make(tmp_path / "a", "zarr", headers=["float32"])
    (key,) = source.arrays
    path = tmp_path / "a" / source.backend.slab_name(source.arrays[key], 1, 0)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFeature, match="checksum"):
        convert(tmp_path / "a", tmp_path / "b")
    assert 1 not in open_store(tmp_path / "b").records(key)
    assert not (tmp_path / "b" / "staging").exists() and not list((tmp_path / "b" / "leases").rglob("*.json"))


def test_each_difference_is_told(tmp_path: Path) -> None:
    one = make(tmp_path / "a", "zarr", headers=["float32", "uint8"])
    frame = track_frame(8).iloc[1:]
    frame.loc[3, "labels"] = ["b"]
    frame["path"] = frame["path"].str.replace("/music", "/elsewhere")
    frame["year"] = 1999
    lengths = {row: n + (row == 3) for row, n in LENGTHS.items() if row != 4} | {5: 3}
    two = make(tmp_path / "b", "hdf5", headers=["float32", "wave"], frame=frame, lengths=lengths)
    found = [str(difference) for difference in compare(one, two) if not difference.provenance]
    text = "\n".join(found)
    assert "1 tracks are in the first store only: t000" in text and "second store only: t007" in text
    assert "the column 'labels' differs: t003" in text and "'year' is in the second store's track table only" in text
    assert f"{SPEC.short()}@uint8: only the first store has it" in text
    assert f"{WAVE.short()}@int16: only the second store has it" in text
    assert "the ledger's status differs" in text and "the number of frames differs" in text
    provenance = "\n".join(str(difference) for difference in compare(one, two) if difference.provenance)
    assert "backend is zarr and hdf5" in provenance and "the column 'path' differs" in provenance
    assert "made from other audio files" in provenance


def test_one_other_value_is_found_in_any_order(tmp_path: Path) -> None:
    """The second store has other shards and another order of tracks; one value of one track differs."""
    header = header_of()
    stores = []
    for name, seed, shift in (("a", 0, 0.0), ("b", 7, 0.0), ("c", 7, 0.5)):
        store = create_store(tmp_path / name, track_frame(6), [header], shard_tracks=2 + seed // 7, seed=seed)
        add_arrays(store, [header])
        rows = store.table.frame.reset_index().set_index("row")["track_id"]
        for shard, keys in find_missing(store, [header.key]):
            with write_shard(store, shard, keys) as writer:
                for slot, row in enumerate(store.shard_rows(shard)):
                    writer.begin(slot)
                    number = int(rows[row][1:])
                    values = np.full((8, 5 + number), float(number), dtype=np.float32)
                    values[3, 2] += shift * (number == 4)
                    writer.append(header.key, values)
                    writer.end()
                writer.commit({})
        consolidate(store)
        stores.append(open_store(tmp_path / name))
    assert all(difference.provenance for difference in compare(stores[0], stores[1]))
    (difference,) = [d for d in compare(stores[0], stores[2]) if not d.provenance]
    assert difference.tracks == ("t004",) and "1 values, by at most 0.5" in difference.what
    assert difference.count == 1


def test_equal_stores_differ_in_nothing(tmp_path: Path) -> None:
    one = make(tmp_path / "a", "zarr", headers=["float32"])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert compare(one, open_store(tmp_path / "b")) == []
    damaged = next(p for p in (tmp_path / "b").rglob("c/0/0/0"))
    data = bytearray(damaged.read_bytes())
    data[9] ^= 1
    damaged.write_bytes(data)
    assert compare(one, open_store(tmp_path / "b"), quick=True) == []
    with pytest.raises(CorruptFeature, match="Mend it first"):
        compare(one, open_store(tmp_path / "b"))
    (tmp_path / "b" / "tracks.parquet").write_bytes(b"PAR1")  # nothing that repair could mend
    with pytest.raises(CorruptFeature, match="Restore it from a copy"):
        compare(one, open_store(tmp_path / "b"))


def test_missing_cells_are_equal(tmp_path: Path) -> None:
    frame = track_frame(3).assign(split=[None, "train", None], group=[float("nan")] * 3)
    header = header_of()
    a = create_store(tmp_path / "a", frame, [header])
    b = create_store(tmp_path / "b", frame.astype({"split": pd.StringDtype()}), [header])
    assert compare(a, b) == []
