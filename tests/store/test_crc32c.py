"""The checksum of chunks: the standard's numbers, and other threads run while a large one is computed."""

from __future__ import annotations

import threading
import time

import google_crc32c
import numpy as np
import pytest

from featstore.store.chunks import crc32c


def test_check_value_of_the_standard() -> None:
    assert crc32c(b"123456789") == bytes.fromhex("839206e3")
    assert crc32c(b"") == bytes(4)


@pytest.mark.parametrize("n", [1, 7, 4095, 70_001])
@pytest.mark.parametrize("shift", range(3))
def test_equal_to_code_of_another_hand_at_any_alignment(n: int, shift: int) -> None:
    data = np.random.default_rng(n).integers(0, 256, n + shift, dtype=np.uint8)[shift:]
    assert crc32c(data.data) == google_crc32c.value(data.tobytes()).to_bytes(4, "little")


def test_other_threads_run_meanwhile() -> None:
    data = np.zeros(400_000_000, dtype=np.uint8)
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    began = time.perf_counter()
    crc32c(data.data)
    ended = time.perf_counter()
    done.set()
    ticker.join()
    assert sum(began < at < ended for at in ticks) >= 3
