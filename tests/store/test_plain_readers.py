"""Stores are read with plain zarr, tensorstore, h5py and xarray only: programs that have never heard of featstore."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featstore.store import open_store
from tests.golden.make_golden import LENGTHS, headers, values_of
from tests.store.test_golden import NAMES, unpack

GUARD = """
import importlib.abc, json, os, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
class Never(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        assert not name.startswith("featstore"), "a plain reader may not need featstore"
sys.meta_path.insert(0, Never())
path, out, keys = sys.argv[1], sys.argv[2], sys.argv[3:]
"""
READ = {
    "zarr": """
import zarr
def read(key):
    group = zarr.open(path, mode="r")[f"features/{key}"]
    return group["data"][:], group["n_frames"][:], dict(group["data"].attrs)
""",
    "tensorstore": """
import tensorstore as ts
def one(name):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/features/{name}/"}}
    return ts.open(spec, open=True, read=True).result().read().result()
def read(key):
    attributes = json.load(open(f"{path}/features/{key}/data/zarr.json"))["attributes"]
    return one(f"{key}/data"), one(f"{key}/n_frames"), attributes
""",
    "h5py": """
import hdf5plugin, h5py
def read(key):
    with h5py.File(path if os.path.isfile(path) else path + "/master.h5", "r") as file:
        group = file[f"features/{key}"]
        wanted = ("scale_factor", "add_offset", "spec")
        attributes = {name: value for name, value in group["data"].attrs.items() if name in wanted}
        attributes = {name: value.item() if hasattr(value, "item") else value for name, value in attributes.items()}
        return group["data"][:], group["n_frames"][:], attributes
""",
    "xarray": """
import xarray
if not os.path.exists(path + "/zarr.json"):
    import hdf5plugin
def read(key):
    if os.path.exists(path + "/zarr.json"):
        found = xarray.open_zarr(path, group=f"features/{key}", consolidated=False)
    else:
        file = path if os.path.isfile(path) else path + "/master.h5"
        found = xarray.open_dataset(file, group=f"features/{key}", engine="h5netcdf")
    return found["data"].values, found["n_frames"].values, {"dims": found["data"].dims}
""",
}
TELL = """
kept, about = {}, {}
for key in keys:
    kept["data " + key], kept["lengths " + key], about[key] = read(key)
np.savez(out, **kept)
print(json.dumps(about))
"""


def run(reader: str, path: Path, out: Path) -> tuple[dict[str, np.ndarray], dict[str, dict[str, object]]]:
    """Data and lengths, and attributes, of every array of a store, by key."""
    if "hdf5plugin" in READ[reader] and not (path / "zarr.json").exists():
        pytest.importorskip("hdf5plugin", reason="plain h5py reads Blosc chunks with the package hdf5plugin alone")
    keys = [header.key for header, _ in headers()]
    command = [sys.executable, "-c", GUARD + READ[reader] + TELL, str(path), str(out), *keys]
    result = subprocess.run(command, capture_output=True, text=True, cwd=out.parent)
    assert result.returncode == 0, result.stderr
    with np.load(out, allow_pickle=False) as found:
        return dict(found), json.loads(result.stdout)


PAIRS = [
    (name, reader)
    for name in NAMES
    for reader in (("zarr", "tensorstore") if name.endswith("zarr") else ("h5py",))
    if name.startswith("1-blake3")
]


@pytest.mark.parametrize(("name", "reader"), PAIRS)
def test_encoded_values_are_there(name: str, reader: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    rows = open_store(path).table.frame["row"]
    found, about = run(reader, path, tmp_path / "found.npz")
    for header, _ in headers():
        data, lengths, attributes = found[f"data {header.key}"], found[f"lengths {header.key}"], about[header.key]
        encoding = header.encoding
        assert attributes["spec"] == str(header.spec) and data.dtype == encoding.dtype
        if encoding.is_integer:
            assert attributes["scale_factor"] == encoding.scale_factor
            assert attributes["add_offset"] == encoding.add_offset
        for track, n_frames in LENGTHS.items():
            row = rows[track]
            assert lengths[row] == n_frames
            codes, _ = encoding.encode(values_of(track, header))
            assert np.array_equal(data[row, ..., : max(0, n_frames)], codes)
            rest = data[row, ..., max(0, n_frames) :]
            assert np.isnan(rest).all() if encoding.name == "float32" else (rest == encoding.fill_value).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("1-blake3")])
def test_xarray_decodes_unaided(name: str, tmp_path: Path) -> None:
    if not name.endswith("zarr"):
        pytest.importorskip("h5netcdf", reason="xarray reads HDF5 through h5netcdf")
    path = unpack(name, tmp_path)
    rows = open_store(path).table.frame["row"]
    found, about = run("xarray", path, tmp_path / "found.npz")
    for header, _ in headers():
        data = found[f"data {header.key}"]
        assert about[header.key]["dims"] == ["track", *header.dims] and data.dtype.kind == "f"
        bound = (header.encoding.error_bound or 0.0) + 1e-5
        for track, n_frames in LENGTHS.items():
            values, row = values_of(track, header), rows[track]
            if header.encoding.is_integer:
                values = values.clip(header.encoding.low, header.encoding.high)
            assert np.abs(data[row, ..., : max(0, n_frames)] - values).max(initial=0.0) <= bound
            assert np.isnan(data[row, ..., max(0, n_frames) :]).all(), "missing reads as missing"
