"""Kernels are compiled once and kept; what is kept and does not fit, or cannot be kept, costs time and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featstore import compiling
from featstore.compiling import Floats, Library
from featstore.kernel_code import LANES, Code, Index


def doubling() -> object:
    library = Library(__file__)

    @library.kernel
    def double(code: Code, values: Floats, doubled: Floats, count: Index) -> None:
        with code.loop(count, step=LANES) as k:
            code.store(doubled, k, code.load(values, k) + code.load(values, k))

    return double


def check(double: object) -> None:
    values, doubled = np.arange(16, dtype=np.float32), np.empty(16, np.float32)
    double(values, doubled, 16)
    assert np.array_equal(doubled, 2 * values)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder where code is kept in this test."""
    monkeypatch.setattr(compiling, "_FOLDERS", (lambda: tmp_path / "none" / "file", lambda: tmp_path / "cache"))
    (tmp_path / "none").write_text("a file where a folder should be")
    return tmp_path / "cache"


def test_the_second_process_loads_what_the_first_compiled(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(doubling())
    (first,) = kept.iterdir()
    monkeypatch.setattr(Library, "_module", lambda self: pytest.fail("compiled again"))
    check(doubling())
    assert list(kept.iterdir()) == [first]


def test_a_damaged_file_is_compiled_again(kept: Path) -> None:
    check(doubling())
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] + bytes(100))
    check(doubling())
    assert file.read_bytes()[:4] == whole[:4] and len(file.read_bytes()) == len(whole)


def test_kernels_work_where_nothing_can_be_kept(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_FOLDERS", compiling._FOLDERS[:1])
    check(doubling())
    assert not kept.exists()


def test_arrays_of_another_type_or_in_pieces_are_refused() -> None:
    double, right = doubling(), np.zeros(16, np.float32)
    for wrong in (np.zeros(16), np.zeros(32, np.float32)[::2]):
        with pytest.raises(ValueError, match=r"not float32, or not of one piece"):
            double(wrong, right, 16)


def test_a_spectrum_needs_no_compiler_of_python() -> None:
    code = (
        "import sys, numpy as np\n"
        "from featstore.dsp import compute_power\n"
        "compute_power(np.zeros(4000, np.float32), n_fft=512, hop_length=128)\n"
        "assert not {'numba', 'scipy', 'librosa'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
