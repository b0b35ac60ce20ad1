"""Reports on many runs: read, averaged, judged, queried, drawn, and as a page in a browser.

``python -m tests.bench.bench_reports --out docs/benchmarks/reports.jsonl`` writes one JSON line a step for 5,001
generated run folders (1,667 configurations of three seeds): median and range over several rounds, each in a fresh
process but for the page cache, which is warm.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from featstore.process_memory import peak_resident_bytes

PACKAGES = ("numpy", "pandas", "duckdb", "matplotlib")


def write_folders(root: Path, runs: int) -> int:
    """Generate at least ``runs`` run folders, three seeds a configuration; how many."""
    from featstore.testing.runs import mel_grid, write_runs

    grid = mel_grid(
        n_mels=[128, 96, 64, 48, 32, 24, 16, 8],
        hop_multiple=[1, 2, 3, 4, 5, 10],
        sample_rate=[12000, 16000],
        scale=["db", "log10_1p"],
        encoding=["float32", "float16", "uint8"],
        model=["vgg-cnn", "musicnn", "short-chunk"],
    )
    return len(write_runs(root, islice(grid, -(-runs // 3))))


def steps(root: Path, out: Path) -> Iterator[tuple[str, float]]:
    """Seconds of each step, in the order in which a user needs them."""
    from featstore.results import format_table, pareto, plot_pareto, query, read_results, summarise, write_html

    kept: dict[str, Any] = {}

    def timed(name: str, function: Callable[[], Any]) -> tuple[str, float]:
        start = time.perf_counter()
        kept[name] = function()
        return name, time.perf_counter() - start

    yield timed("read", lambda: read_results(root))
    runs = kept["read"]
    yield timed("summarise", lambda: summarise(runs))
    yield timed("pareto", lambda: pareto(kept["summarise"], runs=runs))
    yield timed("table", lambda: format_table(kept["summarise"]))
    yield timed("query", lambda: query(runs, "SELECT model, avg(roc_auc) FROM runs GROUP BY model"))
    yield timed("figure", lambda: plot_pareto(kept["pareto"], out / "front.png"))
    yield timed("html", lambda: write_html(runs, out / "page.html"))
    yield from browse(out / "page.html", out / "profile")


def browse(page: Path, profile: Path) -> Iterator[tuple[str, float]]:
    """Seconds until the page is ready, and for a filter, a sort and a slider; nothing without Chromium."""
    from tests.results.chromium import PROGRAM, Browser

    if PROGRAM is None:
        return
    with Browser(profile) as browser:
        start = time.perf_counter()
        browser.open(page)
        yield "page opens", time.perf_counter() - start
        actions = {
            "page filters": "document.querySelector('#filters input').click()",
            "page sorts": "document.querySelector('#table thead button[data-key=gmacs]').click()",
            "page what-if": "(() => { const s = document.querySelector('#tracks-slider'); s.value = 300;"
            " s.dispatchEvent(new Event('input')); })()",
        }
        for name, action in actions.items():
            script = f"(() => {{ const t = performance.now(); {action}; return performance.now() - t; }})()"
            yield name, browser.run(script) / 1000
        assert not browser.problems() and not browser.requests()


def measure(root: Path) -> dict[str, Any]:
    """One round in this process: seconds by step, peak memory, and the page's bytes."""
    # a browser may still write into its profile when it is removed
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as out:
        seconds = dict(steps(root, Path(out)))
        size = (Path(out) / "page.html").stat().st_size
    peak = peak_resident_bytes()
    return {"seconds": seconds, "page_bytes": size, "peak_bytes": peak}


def main() -> None:
    """Measure several rounds, each in a fresh process, and write a line a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        count = write_folders(Path(folder), args.runs)
        command = [sys.executable, "-m", "tests.bench.bench_reports", "--one", folder]
        rounds = [json.loads(subprocess.check_output(command)) for _ in range(args.rounds)]
    versions = {name: metadata.version(name) for name in PACKAGES}
    for step in rounds[0]["seconds"]:
        values = [one["seconds"][step] for one in rounds]
        line = {
            "bench": "reports",
            "step": step,
            "runs": count,
            "rounds": len(values),
            "seconds": round(statistics.median(values), 4),
            "range": [round(min(values), 4), round(max(values), 4)],
            "peak_bytes": max(one["peak_bytes"] for one in rounds),
            "page_bytes": rounds[0]["page_bytes"],
            "versions": versions,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        }
        print(json.dumps(line))
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
