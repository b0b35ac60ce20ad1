"""Our own backends keep the contract."""

import itertools
import pickle
from pathlib import Path

import pytest

from featstore.errors import StoreError
from featstore.store import create_store
from featstore.testing.store_contract import StoreContract
from featstore.testing.stores import header_of, make_store, track_frame

_numbers = itertools.count()


class TestZarr(StoreContract):
    backend = "zarr"


class TestHdf5(StoreContract):
    backend = "hdf5"


class TestMemory(StoreContract):
    backend = "memory"

    @pytest.fixture
    def url(self) -> str:
        return f"memory://contract-{next(_numbers)}"


def test_a_store_in_memory_stays_in_this_process(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the memory backend writes no files .*Use memory://NAME"):
        create_store(tmp_path / "s", track_frame(1), [header_of()], backend="memory")
    store = make_store(f"memory://one-{next(_numbers)}")
    assert len(store[header_of().name]) == 9, "the Zarr backend writes there, too"
    with pytest.raises(StoreError, match="a store in memory is visible to one process only"):
        pickle.dumps(store.location)
