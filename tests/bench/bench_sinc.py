"""The learned filters of MS-SincResNet: through the Fourier transform against the plain convolution.

``python tests/bench/bench_sinc.py`` prints one JSON line for each length of the filters. Both forms take turns in one
process; times are of the processor, all threads together, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from featstore.models.sinc import SincBank, filter_by_fft

Filtered = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
FORMS: dict[str, Filtered] = {"fourier": filter_by_fft, "plain": lambda x, taps: functional.conv1d(x, taps[:, None])}


def seconds(filtered: Filtered, bank: SincBank, x: torch.Tensor, *, backward: bool) -> float:
    """Processor seconds of one pass."""
    began = time.process_time()
    with torch.set_grad_enabled(backward):
        found = filtered(x, bank.taps())
        if backward:
            found.backward(torch.ones_like(found))
    return time.process_time() - began


def measure(length: int, *, filters: int, clips: int, n_samples: int, turns: int) -> dict[str, object]:
    """Compare both forms at one length: medians, their ratios, and the largest difference of their outputs."""
    torch.manual_seed(0)
    bank, x = SincBank(filters, length, 16_000), torch.randn(clips, 1, n_samples, requires_grad=True)
    with torch.no_grad():
        found, wanted = (filtered(x, bank.taps()) for filtered in FORMS.values())
        error = float((found - wanted).abs().max() / wanted.abs().max())
    line: dict[str, object] = {"bench": "sinc", "length": length, "filters": filters, "clips": clips}
    line |= {"n_samples": n_samples, "relative_difference": error, "turns": turns}
    for what in ("forward", "forward and backward"):
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        for turn in range(turns + 1):
            for form, filtered in FORMS.items():
                spent = seconds(filtered, bank, x, backward=what != "forward")
                if turn:  # the first one warms up
                    times[form].append(spent)
        medians = {form: statistics.median(each) for form, each in times.items()}
        line[what] = {f"{form}_s": round(value, 4) for form, value in medians.items()}
        line[what] |= {"ratio": round(medians["plain"] / medians["fourier"], 2)}  # type: ignore[operator]
    return line | {"torch": torch.__version__, "machine": platform.machine(), "threads": torch.get_num_threads()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[251, 501, 1001])
    parser.add_argument("--filters", type=int, default=160)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--n-samples", type=int, default=48_000)
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args(arguments)
    for length in chosen.lengths:
        sizes = {"filters": chosen.filters, "clips": chosen.clips, "n_samples": chosen.n_samples}
        print(json.dumps(measure(length, turns=chosen.turns, **sizes)))


if __name__ == "__main__":
    main(sys.argv[1:])
