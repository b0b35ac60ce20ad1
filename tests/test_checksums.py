"""Checksums of chunks: the compiled one gives the extension's numbers, and lets other threads run."""

from __future__ import annotations

import sys
import threading
import time

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore import checksums


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checksums, "_unlocked", None)
    if not checksums.check_in_parallel():
        pytest.skip("this processor has no instruction for CRC-32C that is used here")
    return checksums._unlocked


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 300_000), shift=st.integers(0, 9), seed=st.integers(0, 9))
def test_equal_to_the_extension_at_any_length_and_alignment(n: int, shift: int, seed: int) -> None:
    if not checksums.check_in_parallel():
        pytest.skip("this processor has no instruction for CRC-32C that is used here")
    data = np.random.default_rng(seed).integers(0, 256, n + shift, dtype=np.uint8)[shift:]
    assert checksums._unlocked(data) == google_crc32c.value(data.tobytes()) == checksums.crc32c(data.data)


def test_small_buffers_and_known_value(compiled) -> None:
    assert compiled(np.frombuffer(b"123456789", dtype=np.uint8)) == checksums.crc32c(b"123456789") == 0xE3069283
    assert checksums.crc32c(b"") == 0


def test_other_threads_run_meanwhile(compiled) -> None:
    data = np.zeros(400_000_000, dtype=np.uint8)
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    began = time.perf_counter()
    compiled(data)
    ended = time.perf_counter()
    done.set()
    ticker.join()
    assert sum(began < at < ended for at in ticks) >= 3


def test_a_compiler_that_cannot_work_leaves_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_unlocked", None)
    monkeypatch.setitem(sys.modules, "featstore.crc_kernel", None)
    assert not checksums.check_in_parallel()
    assert checksums.crc32c(bytes(100_000)) == google_crc32c.value(bytes(100_000))
