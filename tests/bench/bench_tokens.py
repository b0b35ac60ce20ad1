"""Tokens of the three levels of the published size, with random weights: time, memory, and agreement with one pass.

``python -m tests.bench.bench_tokens --out docs/benchmarks/tokens.jsonl`` writes one JSON line a level. "stream" is what
an extraction does: blocks of ten seconds in, windows of the fixed grid through the encoder, one thread. "one pass"
encodes the same clip at once. Near ties are tokens whose nearest code wins by a relative margin of at most 1e-3.
With ``--memory --out docs/benchmarks/tokens_memory.jsonl`` a process of its own encodes an hour of noise at each level
(which takes as long as it says for 60 minutes); torch alone takes a part of its memory, which is told too.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from featstore.process_memory import peak_resident_bytes
from tests.bench.bench_audio_common import machine, music, one_thread, parser, versions, write

RATE = 44100
BLOCK = 10 * RATE
MARGIN = 1e-3


def make_tokenizer(level: int, *, small: bool = False):
    """A tokenizer of the published size; small ones are for the tests."""
    import torch

    from featstore.models.jukebox_checkpoint import LoadedLevel
    from featstore.models.jukebox_tokenizer import JukeboxTokenizer
    from featstore.models.jukebox_vqvae import published_config
    from tests.models.jukebox_files import random_level, small_config

    torch.set_num_threads(1)
    config = small_config(level) if small else published_config(level)
    return JukeboxTokenizer(LoadedLevel(random_level(config, level, strength=1.2), "0" * 32, {}), "cpu")


def stream(tokenizer, signal: np.ndarray) -> np.ndarray:
    """Tokens of a signal in blocks, as an extraction takes it."""
    step = tokenizer.stream()
    parts = [step.push(signal[at : at + BLOCK]) for at in range(0, len(signal), BLOCK)]
    return np.concatenate([*parts, step.finish()], axis=1)


def measure(level: int, seconds: float, rounds: int, *, small: bool = False) -> dict:
    """Both ways in turns, after one round that warms up."""
    tokenizer = make_tokenizer(level, small=small)
    signal = music(seconds, RATE, 1, seed=level)[:, 0]
    spent: dict[str, list[float]] = {"stream": [], "one pass": []}
    ways = {"stream": lambda: stream(tokenizer, signal), "one pass": lambda: tokenizer.tokens_of(signal[None])}
    for number in range(-1, rounds):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            if number >= 0:
                spent[name].append(60 * (time.perf_counter() - began) / seconds)
    found = stream(tokenizer, signal)[0]
    wanted, margins = tokenizer.tokens_of(signal[None], margins=True)[0]
    near = margins <= MARGIN
    return {
        "benchmark": "tokens",
        "contender": f"jukebox level {level}",
        "hop": tokenizer.info.hop,
        "seconds_a_minute": {name: round(statistics.median(values), 3) for name, values in spent.items()},
        "lowest": {name: round(min(values), 3) for name, values in spent.items()},
        "highest": {name: round(max(values), 3) for name, values in spent.items()},
        "tokens_per_second": round(len(found) / (statistics.median(spent["stream"]) * seconds / 60)),
        "tokens": len(found),
        "codes_used": len(np.unique(found)),
        "near_ties": int(near.sum()),
        "other_tokens_than_one_pass": int((found != wanted).sum()),
        "of_these_no_near_tie": int(((found != wanted) & ~near).sum()),
        "rounds": rounds,
        "clip_s": seconds,
    }


def peak_of_a_long_track(level: int, seconds: float, *, small: bool = False) -> dict:
    """Encode a long signal that is never held whole; this process's peak memory with and without."""
    tokenizer = make_tokenizer(level, small=small)
    tokenizer.tokens_of(np.zeros((1, 4096), np.float32))
    before = peak_resident_bytes()
    rng = np.random.default_rng(0)
    step, count = tokenizer.stream(), 0
    for at in range(0, round(seconds * RATE), BLOCK):
        block = rng.uniform(-0.5, 0.5, min(BLOCK, round(seconds * RATE) - at)).astype(np.float32)
        count += step.push(block).shape[1]
    count += step.finish().shape[1]
    peak = peak_resident_bytes()
    return {"track_s": seconds, "tokens": count, "peak_rss_bytes": peak, "peak_rss_bytes_before": before}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=60.0, help="length of the clip")
    options.add_argument("--memory", action="store_true", help="the long track's memory, instead of time")
    options.add_argument("--long", type=float, default=3600.0, help="seconds of the track whose memory is measured")
    options.add_argument("--levels", type=int, nargs="*", default=[2, 1, 0])
    options.add_argument("--here", action="store_true", help="the first level's memory in this very process")
    given = options.parse_args()
    one_thread()
    if given.here:
        print(json.dumps(peak_of_a_long_track(given.levels[0], given.long)))
        return
    records = []
    for level in given.levels:
        if given.memory:
            words = [sys.executable, "-m", "tests.bench.bench_tokens", "--here"]
            words += ["--levels", str(level), "--long", str(given.long)]
            told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
            record = {"benchmark": "tokens, memory", "contender": f"jukebox level {level}"}
            record |= json.loads(told.stdout.splitlines()[-1])
        else:
            record = measure(level, given.seconds, given.rounds)
        records.append(record | {"machine": machine(), "versions": versions() | torch_version()})
        print(json.dumps(record), file=sys.stderr)
    write(records, given.out)


def torch_version() -> dict[str, str]:
    """What made the tokens."""
    import torch

    return {"torch": torch.__version__}


if __name__ == "__main__":
    main()
