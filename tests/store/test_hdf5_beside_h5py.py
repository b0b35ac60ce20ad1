"""HDF5 stores in a process where plain h5py has the same files open, with settings of its own."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from featstore.store import open_store
from featstore.store.pack import pack
from featstore.store.verify import verify
from tests.faults.small import HEADERS, build, values_of

KEY, NAME = HEADERS[0].key, HEADERS[0].name


@pytest.mark.parametrize("settings", [{}, {"locking": True}, {"locking": False}, {"libver": "latest"}])
def test_a_store_is_read_while_plain_h5py_reads_it(settings: dict, tmp_path: Path) -> None:
    build(tmp_path / "s", "hdf5", arrays=1)
    with h5py.File(tmp_path / "s" / "master.h5", "r", **settings) as master:
        data = master[f"features/{KEY}/data"]
        shown = data[3]  # from here on HDF5 holds the shard files open, with the settings of the master file
        assert np.array_equal(open_store(tmp_path / "s")[NAME].read_row(3), values_of(3))
        assert np.array_equal(shown[:, : values_of(3).shape[1]], values_of(3))
        assert verify(tmp_path / "s") == []
        assert np.array_equal(data[3], shown, equal_nan=True)


def test_a_packed_store_is_read_while_plain_h5py_reads_it(tmp_path: Path) -> None:
    store = build(tmp_path / "s", "hdf5", arrays=1)
    pack(tmp_path / "s", tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5", "r") as file:
        assert file[f"features/{KEY}/data"].shape[0] == store.n_rows
        assert np.array_equal(open_store(tmp_path / "one.h5")[NAME].read_row(0), store[NAME].read_row(0))
        assert verify(tmp_path / "one.h5") == []
