"""What users wait for, beside what they would do without us: one command for every row of docs/speed.md.

``python -m tests.bench.bench_speed --out docs/benchmarks/speed.jsonl`` writes one JSON line a row and takes less than
ten minutes on two quiet cores; ``--only NAME`` chooses rows, ``--smoke`` takes tiny inputs. Whole commands run as
processes of their own, ours and the peer's in turns. Seconds, by the wall clock and of CPU, are of each process and its
children; ratios are medians of the ratios within each round, after one round that warms up.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featstore.cluster import cpu_count
from tests.bench.bench_audio_common import (
    lines,
    machine,
    make_clips,
    one_thread,
    parser,
    take_turns,
    versions,
    write,
)

FORM, SECONDS = "16 kHz mono mp3", 29.2
FEATURE = "mel(n_mels=96,scale=db)"
DISTINCT = 8  # clips; a collection holds each of them many times, under names of its own

SIX_LINES = """
import sys, librosa, numpy as np
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
def save(path):
    y, sr = librosa.load(path, sr=16000)
    power = librosa.feature.melspectrogram(y=y, sr=sr, n_fft=512, hop_length=256, n_mels=96)
    np.save(Path(sys.argv[2]) / path.stem, librosa.power_to_db(power, top_db=None))
if __name__ == "__main__":
    with ProcessPoolExecutor() as pool:
        list(pool.map(save, sorted(Path(sys.argv[1]).iterdir())))
"""
DECODE = """
import pathlib, sys, soundfile
for path in pathlib.Path(sys.argv[1]).iterdir():
    soundfile.read(path, dtype="float32")
"""


@dataclass(frozen=True)
class Sizes:
    """How much each row takes."""

    small: int = 240
    large: int = 2400
    tiny: int = 16
    repeats: int = 64  # of each clip, for all configurations
    million: int = 1_000_000
    tracks: int = 2048  # of the loaders' corpus
    training: int = 64
    rounds: int = 3
    clip_s: float = SECONDS


SMOKE = Sizes(small=6, large=8, tiny=2, repeats=2, million=300, tracks=128, training=30, rounds=1, clip_s=1.2)


@dataclass(frozen=True)
class Spent:
    """Seconds of a process and its children."""

    wall_s: float
    cpu_s: float


class Bench:
    """The folder that rows work in, and their clips.

    Parameters
    ----------
    folder : Path
    sizes : Sizes
    musicnn_python : str, optional
        Interpreter that has the package musicnn.
    """

    def __init__(self, folder: Path, sizes: Sizes, musicnn_python: str | None = None) -> None:
        self.folder, self.sizes, self.musicnn_python = folder, sizes, musicnn_python
        self.clips = make_clips(folder / "clips", FORM, DISTINCT, sizes.clip_s)
        (folder / "six_lines.py").write_text(SIX_LINES)

    def music(self, count: int) -> Path:
        """Folder with ``count`` clips: hard links under names of their own."""
        target = self.folder / f"music{count}"
        if not target.exists():
            target.mkdir()
            for number in range(count):
                os.link(self.clips[number % DISTINCT], target / f"{number:05d}.mp3")
        return target

    def run(self, command: Sequence[str | Path], cores: int | None = None) -> Spent:
        """Run a command to its end, on some of the cores."""
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": str(self.folder / "pycache"), "FEATSTORE_PROGRESS": "0"}
        allowed = sorted(os.sched_getaffinity(0))[:cores]
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        spent = Spent(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}")
        return spent

    def extract(self, count: int, *options: str, feature: str = FEATURE, cores: int | None = None) -> Spent:
        """Extract from ``count`` clips with the command, into a new store."""
        target = self.folder / "out.zarr"
        shutil.rmtree(target, ignore_errors=True)
        words = [sys.executable, "-m", "featstore_cli.main", "extract", self.music(count), "-f", feature, "-s", target]
        return self.run([*words, *options], cores)

    def turns(self, ways: Mapping[str, Callable[[], Spent]]) -> dict[str, list[Spent]]:
        """Every way in each round, after a round that warms up."""
        spent: dict[str, list[Spent]] = {name: [] for name in ways}
        for number in range(-1, self.sizes.rounds):
            for name, way in ways.items():
                found = way()
                print(f"round {number} {name}: {found.wall_s:.2f} s, {found.cpu_s:.2f} s of CPU", file=sys.stderr)
                if number >= 0:
                    spent[name].append(found)
        return spent


def row(name: str, spent: Mapping[str, list[Spent]], ratio: tuple[str, str] | None = None, **more: Any) -> dict:
    """One line: medians of each way, and the median ratio of two of them."""
    found: dict[str, Any] = {"benchmark": "speed", "row": name}
    for way, values in spent.items():
        found[way] = {
            "wall_s": round(statistics.median(one.wall_s for one in values), 3),
            "lowest": round(min(one.wall_s for one in values), 3),
            "highest": round(max(one.wall_s for one in values), 3),
            "cpu_s": round(statistics.median(one.cpu_s for one in values), 3),
        }
    if ratio:
        pairs = list(zip(spent[ratio[0]], spent[ratio[1]], strict=True))
        found["ratio"] = round(statistics.median(a.wall_s / b.wall_s for a, b in pairs), 3)
        found["ratio_of_cpu"] = round(statistics.median(a.cpu_s / b.cpu_s for a, b in pairs), 3)
        found["ratio_is"] = f"{ratio[0]} / {ratio[1]}"
    return found | more | {"cores": cpu_count(), "machine": machine(), "versions": versions()}


# ---- rows ----------------------------------------------------------------------------------------------------------


def small_set(bench: Bench) -> list[dict]:
    """One mel of 240 clips with default options, beside six lines of librosa, a process pool and np.save."""
    count, out = bench.sizes.small, bench.folder / "npy"
    out.mkdir(exist_ok=True)
    script = [sys.executable, bench.folder / "six_lines.py", bench.music(count), out]
    spent = bench.turns({"featstore": lambda: bench.extract(count), "six lines": lambda: bench.run(script)})
    return [row(f"{count} clips, one mel", spent, ("featstore", "six lines"), goal=0.55)]


def two_cores(bench: Bench) -> list[dict]:
    """One uint8 mel of 2,400 clips with default options, on one core and on two."""
    count, feature = bench.sizes.large, f"{FEATURE}@uint8"
    ways = {
        "one core": lambda: bench.extract(count, feature=feature, cores=1),
        "two cores": lambda: bench.extract(count, feature=feature, cores=2),
    }
    return [row(f"{count} clips, one uint8 mel", bench.turns(ways), ("one core", "two cores"), goal=1.9)]


def start(bench: Bench) -> list[dict]:
    """16 clips with default options."""
    return [
        row(f"{bench.sizes.tiny} clips", bench.turns({"featstore": lambda: bench.extract(bench.sizes.tiny)}), goal=1.0)
    ]


def configurations(bench: Bench) -> list[dict]:
    """All 88 configurations of the resolution study, durable, one worker: beside decoding alone and a librosa loop."""
    from tests.bench import bench_mel

    clip_s = min(bench_mel.SECONDS, bench.sizes.clip_s - 0.1)
    specs, clips = bench_mel.study(clip_s), bench.clips[:4]
    found: dict[str, Any] = {"decoding alone": (bench_mel.decoding, clips)}
    for encoding in ("float32", "uint8"):
        store = bench_mel.Store(specs, bench.folder, encoding=encoding)
        found[f"featstore, {encoding}"] = (store, clips * bench.sizes.repeats)
    if bench.sizes.clip_s == SECONDS:
        found["librosa loop"] = (bench_mel.librosa_loop(specs), clips[:1])
    seconds = take_turns(found, bench.sizes.rounds)
    goals = {"featstore, float32": 1.8, "featstore, uint8": 1.5}
    made = lines("speed", seconds, clip_s, ("decoding alone", "librosa loop"), row="88 configurations")
    return [record | {"goal": goals.get(record["contender"])} for record in made]


def one_feature(bench: Bench) -> list[dict]:
    """One uint8 mel, one worker, in the steady state (what 600 clips take longer than 200), beside decoding alone."""
    few, many = bench.sizes.small, 3 * bench.sizes.small
    spent: dict[str, list[Spent]] = {"featstore": [], "decoding alone": []}
    for number in range(-1, bench.sizes.rounds):
        for name, way in (
            ("featstore", lambda count: bench.extract(count, "-j", "1", feature=f"{FEATURE}@uint8")),
            ("decoding alone", lambda count: bench.run([sys.executable, "-c", DECODE, bench.music(count)])),
        ):
            small, large = way(few), way(many)
            if number >= 0:
                spent[name].append(Spent(large.wall_s - small.wall_s, large.cpu_s - small.cpu_s))
    return [row(f"{many - few} further clips, one uint8 mel", spent, ("featstore", "decoding alone"), goal=1.15)]


def first_epoch(bench: Bench) -> list[dict]:
    """Random crops from the disk tier while checksums are checked, beside unchecked contiguous h5py."""
    from tests.bench import bench_loaders

    corpus = bench_loaders.Corpus(bench.folder / "corpus", bench.sizes.tracks, frames=1366, crop=187)
    corpus.folder.mkdir(exist_ok=True)
    names = ["featstore disk, first epoch", "h5py contiguous"]
    seconds = 1.0 if bench.sizes.tracks > 1000 else 0.01
    rates, _ = bench_loaders.measure(corpus, rounds=bench.sizes.rounds, seconds=seconds, names=names)
    made = bench_loaders.lines(corpus, rates, {})
    return [record | {"benchmark": "speed", "row": "disk tier, first epoch", "goal": 1.5} for record in made]


def training(bench: Bench) -> list[dict]:
    """Training of the smallest study configuration on the CPU: share of an epoch that is not the model's."""
    from tests.bench.bench_training_share import measure

    share = measure(bench.folder / "training", tracks=bench.sizes.training, epochs=1 + bench.sizes.rounds)
    return [{"benchmark": "speed", "row": "training, outside the model", "goal": 0.05} | share]


def musicnn(bench: Bench) -> list[dict]:
    """Vectors of musicnn on one core in warm processes, beside the call of its own package."""
    from tests.bench.bench_musicnn import Ours, Peer

    audio_s, folder = max(bench.sizes.clip_s, 4.0), bench.folder / "musicnn"  # a window takes 3 s
    clips = make_clips(bench.folder / "clips", FORM, 2 if audio_s < SECONDS else 4, audio_s)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        peer = Peer(bench.musicnn_python, clips) if bench.musicnn_python else None
        ours = Ours(folder, clips, peer and peer.weights)
        ways = {"featstore": lambda: Spent(*ours())}
        if peer is None:
            more: dict[str, Any] = {"why_no_peer": "--musicnn-python names no interpreter"}
            spent = bench.turns(ways)
        else:
            spent = bench.turns({"its own package": lambda: Spent(*peer())} | ways)
            peer.close()
            difference = float(abs(peer.vectors - ours.vectors).max())
            more = {"peer_versions": peer.versions, "largest_difference": difference}
    finally:
        os.sched_setaffinity(0, allowed)
    minutes = len(clips) * audio_s / 60
    each = {way: round(statistics.median(one.wall_s for one in spent[way]) / minutes, 3) for way in spent}
    ratio = None if peer is None else ("its own package", "featstore")
    return [row("vectors of musicnn, one core", spent, ratio, goal=3.0, seconds_a_minute=each, **more)]


def million(bench: Bench) -> list[dict]:
    """A store of 10^6 tracks: seconds and memory of opening it, of its status, and to the first batch of training."""
    from tests.bench.bench_million import measure

    return [{"benchmark": "speed", "row": "open, status, first batch"} | measure(bench.folder, bench.sizes.million)]


ROWS: dict[str, Callable[[Bench], list[dict]]] = {
    "small_set": small_set,
    "two_cores": two_cores,
    "start": start,
    "configurations": configurations,
    "one_feature": one_feature,
    "first_epoch": first_epoch,
    "training": training,
    "musicnn": musicnn,
    "million": million,
}


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(rounds=Sizes.rounds)
    options.add_argument("--only", action="append", choices=ROWS, help="a row; repeats")
    options.add_argument(
        "--musicnn-python", metavar="PATH", help="interpreter with the package musicnn (docs/speed.md)"
    )
    options.add_argument("--smoke", action="store_true", help="tiny inputs, to see that everything runs")
    chosen = options.parse_args()
    one_thread()
    sizes = SMOKE if chosen.smoke else Sizes(rounds=chosen.rounds)
    folder = Path(tempfile.mkdtemp(prefix="bench_speed_"))
    records: list[dict] = []
    try:
        bench = Bench(folder, sizes, chosen.musicnn_python)
        for name in chosen.only or ROWS:
            records += ROWS[name](bench)
            if chosen.out is not None:  # what is measured stays, whatever comes of the others
                write(records, chosen.out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if chosen.out is None:
        write(records, None)


if __name__ == "__main__":
    main()
