"""The reader of TensorFlow checkpoints, on files that a tiny writer of ours makes, whole and broken."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import CheckpointError
from featstore.models.tf_checkpoint import masked_crc32c, parse_index, read_checkpoint
from featstore.testing.tf_bundle import write_bundle


def variables(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {f"conv2d_{i}/kernel": rng.standard_normal((3, i + 1, 2)).astype("float32") for i in range(60)}
    return found | {
        "beta1_power": np.float32(0.9),
        "empty": np.zeros((0, 4), np.float32),
        "step": np.array([7, -1], np.int64),
        "half/gamma": rng.standard_normal(5).astype("float16"),
        "wide/é": rng.standard_normal((1, 300)),
    }


def reader(folder: Path) -> Callable[[str], bytes]:
    return lambda name: (folder / name).read_bytes()


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("keys_a_block", [1, 7, 1000])
def test_reads_what_was_written(tmp_path: Path, shards: int, keys_a_block: int) -> None:
    wanted = variables()
    write_bundle(tmp_path, wanted, shards=shards, keys_a_block=keys_a_block)
    found = read_checkpoint(reader(tmp_path), "here")
    assert list(found) == sorted(wanted, key=lambda name: name.encode())
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_reads_only_what_is_wanted(tmp_path: Path) -> None:
    write_bundle(tmp_path, variables(), shards=2)
    found = read_checkpoint(reader(tmp_path), "here", wanted=lambda name: name.startswith("half"))
    assert list(found) == ["half/gamma"]


def test_an_index_says_what_there_is(tmp_path: Path) -> None:
    write_bundle(tmp_path, {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)})
    n_shards, entries = parse_index((tmp_path / ".index").read_bytes(), "here")
    assert n_shards == 1
    assert (entries["a"].shape, entries["a"].offset, entries["a"].size) == ((2, 3), 0, 24)
    assert (entries["b"].shape, entries["b"].offset, entries["b"].size) == ((4,), 24, 16)
    assert entries["b"].crc == masked_crc32c(np.ones(4, np.float32).tobytes())


def test_every_flipped_bit_of_the_data_is_noticed(tmp_path: Path) -> None:
    write_bundle(tmp_path, {"a": np.arange(8, dtype=np.float32)})
    path = tmp_path / ".data-00000-of-00001"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"the data file is damaged: wrong checksum \[here, a\]"):
            read_checkpoint(reader(tmp_path), "here")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_to_the_index_goes_unnoticed_or_escapes_as_another_error(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("bundle")
    wanted = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "a/bias": np.ones(3, np.float32)}
    write_bundle(folder, wanted, keys_a_block=2)
    whole = (folder / ".index").read_bytes()
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    broken = whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
    if data.draw(st.booleans()):
        broken = broken[: data.draw(st.integers(0, len(broken) - 1))]
    (folder / ".index").write_bytes(broken)
    try:
        found = read_checkpoint(reader(folder), "here")
    except CheckpointError:
        return
    # what the reader does not look at: unused bytes of the footer, and the place of the empty meta block
    assert {name: value.tolist() for name, value in found.items()} == {k: v.tolist() for k, v in wanted.items()}


def damage(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def test_a_truncated_index(tmp_path: Path) -> None:
    write_bundle(tmp_path, variables())
    damage(tmp_path, ".index", lambda content: content[:-9])
    with pytest.raises(CheckpointError, match="not an index of a TensorFlow checkpoint, or cut short"):
        read_checkpoint(reader(tmp_path), "here")
    damage(tmp_path, ".index", lambda content: b"")
    with pytest.raises(CheckpointError, match=r"0 bytes without its last mark \[here\]\. Fetch the checkpoint again"):
        read_checkpoint(reader(tmp_path), "here")


def test_a_block_with_a_wrong_checksum(tmp_path: Path) -> None:
    write_bundle(tmp_path, variables())
    damage(tmp_path, ".index", lambda content: content[:30] + bytes([content[30] ^ 1]) + content[31:])
    with pytest.raises(CheckpointError, match="wrong checksum of the block at byte 0"):
        read_checkpoint(reader(tmp_path), "here")


def test_a_block_outside_the_file(tmp_path: Path) -> None:
    write_bundle(tmp_path, variables())
    damage(tmp_path, ".index", lambda content: content[-48:])
    with pytest.raises(CheckpointError, match=r"the index is damaged: a block of .* lies outside it"):
        read_checkpoint(reader(tmp_path), "here")


def test_a_compressed_block(tmp_path: Path) -> None:
    write_bundle(tmp_path, {"a": np.ones(2, np.float32)})

    def compressed(content: bytes) -> bytes:
        size = content.index(b"\x00" + struct.pack("<I", masked_crc32c(first_block(content))))
        changed = content[:size] + b"\x01"
        return changed + struct.pack("<I", masked_crc32c(changed)) + content[size + 5 :]

    damage(tmp_path, ".index", compressed)
    with pytest.raises(CheckpointError, match=r"the index is compressed \(kind 1\)"):
        read_checkpoint(reader(tmp_path), "here")


def first_block(content: bytes) -> bytes:
    """The first block and its kind: the shortest beginning that its own checksum follows."""
    for end in range(1, len(content)):
        if struct.unpack("<I", content[end : end + 4])[0] == masked_crc32c(content[:end]):
            return content[:end]
    raise AssertionError


def test_data_that_end_too_early(tmp_path: Path) -> None:
    write_bundle(tmp_path, {"a": np.ones(10, np.float32)})
    damage(tmp_path, ".data-00000-of-00001", lambda content: content[:-1])
    with pytest.raises(CheckpointError, match="cut short: it has 39 bytes, the variable ends at 40"):
        read_checkpoint(reader(tmp_path), "here")


def test_a_type_that_is_not_read(tmp_path: Path) -> None:
    write_bundle(tmp_path, {"a": np.ones(1, np.complex64)})
    with pytest.raises(CheckpointError, match=r"TensorFlow's type 8, which is not read here \[here, a\]"):
        read_checkpoint(reader(tmp_path), "here")


def test_a_big_endian_checkpoint(tmp_path: Path) -> None:
    write_bundle(tmp_path, {"a": np.ones(1, np.float32)}, header=b"\x08\x01\x10\x01")
    with pytest.raises(CheckpointError, match="big-endian"):
        read_checkpoint(reader(tmp_path), "here")
