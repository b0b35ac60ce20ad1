"""Cutting signals into windows: the same windows whatever the blocks, and tokens in the order of the windows."""

from __future__ import annotations

import numpy as np
import pytest

from featstore.models.token_windows import WindowValues, encode_in_batches
from featstore.models.window_cutters import ChunkCutter, FieldCutter, ReceptiveField, WholeCutter

HOP, LEFT, RIGHT, WINDOW = 8, 21, 26, 5


def by_field(fill: bool = False) -> FieldCutter:
    return FieldCutter(ReceptiveField(HOP, LEFT, RIGHT), window=WINDOW, fill=fill)


CUTTERS = {
    "field": by_field,
    "filled field": lambda: by_field(True),
    "chunks": lambda: ChunkCutter(chunk=20, stride=18, frames=4, shortest=5),
    "whole": lambda: WholeCutter(lambda n: n // HOP),
}


def cut(name: str, signal: np.ndarray, size: int) -> list:
    cutter, windows = CUTTERS[name](), []
    for at in range(0, len(signal), size):
        windows += cutter.push(signal[at : at + size])
    return windows + cutter.finish()


@pytest.mark.parametrize("name", list(CUTTERS))
@pytest.mark.parametrize("n", [0, 3, 7, 8, 20, 38, 39, 41, 200, 203])
def test_windows_do_not_depend_on_blocks(name, n):
    signal = np.arange(1, n + 1, dtype=np.float32)
    wanted = cut(name, signal, 1000)
    for size in (1, 7, 64):
        found = cut(name, signal, size)
        assert [(w.drop, w.keep) for w in found] == [(w.drop, w.keep) for w in wanted]
        assert all(np.array_equal(a.samples, b.samples) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("n", [8, 15, 47, 200, 203])
def test_a_window_is_what_its_tokens_depend_on(n):
    signal = np.arange(1, n + 1, dtype=np.float32)
    for fill, total, length in ((False, n // HOP, n), (True, -(-n // HOP), -(-n // HOP) * HOP)):
        whole = np.pad(signal, (0, length - n))
        first = 0
        for window in cut("filled field" if fill else "field", signal, 50):
            last = first + window.keep
            start = HOP * (first - window.drop)
            assert np.array_equal(window.samples, whole[start : start + len(window.samples)])
            assert start == max(0, HOP * (first + -LEFT // HOP))
            stop = start + len(window.samples)
            assert stop == length if last == total else stop == min(length, HOP * (last - 1) + RIGHT + 1)
            first = last
        assert first == total


def test_chunks_are_filled_up_and_shorter_signals_have_none():
    assert cut("chunks", np.ones(4, np.float32), 10) == []
    for n, count in ((5, 1), (20, 1), (21, 2), (38, 2), (39, 3)):
        windows = cut("chunks", np.ones(n, np.float32), 10)
        assert len(windows) == count and all(len(window.samples) == 20 for window in windows)
        assert windows[-1].samples.sum() == n - 18 * (count - 1)


class Toy:
    """A codec whose token is the first sample of a window, and which notes the sizes of its passes."""

    batch = 3

    def __init__(self) -> None:
        self.passes: list[list[int]] = []

    def encode_windows(self, windows):
        self.passes.append([len(window.samples) for window in windows])
        return [WindowValues(window.samples[:1].astype(np.int32)[None]) for window in windows]


def test_equal_lengths_go_together_and_come_back_in_order():
    lengths = (30, 44, 44, 12, 44, 44)
    windows = [w for k, n in enumerate(lengths) for w in cut("whole", np.arange(n, dtype=np.float32) + k, 99)]
    toy = Toy()
    found = encode_in_batches(toy, windows)
    assert [int(one.values[0, 0]) for one in found] == list(range(6))
    assert all(len(set(sizes)) == 1 and len(sizes) <= 3 for sizes in toy.passes) and len(toy.passes) == 4
    toy = Toy()
    toy.batch = 2
    encode_in_batches(toy, windows)
    assert max(map(len, toy.passes)) == 2
    assert encode_in_batches(toy, []) == [] and found[0].near_ties is None


def test_near_ties_are_counted_below_a_thousandth():
    margins = np.array([0.0, 0.00099, 0.001, 0.5], np.float32)
    assert WindowValues(np.zeros((1, 4), np.int32), margins).near_ties == 2
