"""Peak memory of a worker over one very long file, and over ten times as many files.

``python -m tests.bench.bench_memory --out docs/benchmarks/memory.jsonl`` extracts in a process of its own each time,
and writes one JSON line with its peak resident set.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

from featstore.process_memory import peak_resident_bytes
from tests.bench.bench_audio_common import machine, music, one_thread, parser, versions, write

RATE = 16000
FEATURES = {
    "mel": ["mel(scale=db)"],
    "mel and stft in two hops": ["mel()", "mel(hop_length=1024,scale=db)", "stft(scale=db,hop_length=1024)@uint8"],
    "hpss, 512/128": [
        "hpss(hop_length=128,n_mels=96,scale=db)@uint8",
        "hpss(component=percussive,hop_length=128,n_mels=96)",
    ],
    "overlapping excerpts": [
        "waveform(clip=every(3 s,0.5 s))@int16",
        "mel(n_mels=160,hop_length=128,clip=every(3 s,1 s))",
    ],
    "the study": ["ferraro2020"],
}


def long_file(path: Path, minutes: float) -> Path:
    """Music that repeats each minute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    piece = music(min(60.0, 60 * minutes), RATE, 1, 0)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(max(1, round(minutes))):
            file.write(piece)
    return path


def child(folder: str, store: str, features: list[str]) -> None:
    """Extract in this process and print its peak, in bytes."""
    from featstore.extract import ExtractOptions, extract
    from featstore.specs import expand_features
    from featstore.workflows.indexing import index_tracks

    report = extract(index_tracks("folder", folder), expand_features(features), store, ExtractOptions(scheduler="sync"))
    assert report.status["failed"] == 0
    peak = peak_resident_bytes()
    print(json.dumps({"peak_rss_bytes": peak, "audio_s": report.audio_s, "written_bytes": report.written_bytes}))


def measure(folder: Path, features: list[str]) -> dict[str, float]:
    """Peak of a fresh process that extracts a folder."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        words = [sys.executable, "-m", "tests.bench.bench_memory", "--child", str(folder), f"{place}/s", *features]
        found: dict[str, float] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> None:
    if "--child" in sys.argv:
        child(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, default=180.0, help="length of the long file")
    chosen = options.parse_args()
    one_thread()
    records = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        long_file(root / "long" / "long.wav", chosen.minutes)
        long_file(root / "short" / "0.wav", 1.0)
        shutil.copytree(root / "short", root / "few")
        for number in range(1, 10):
            shutil.copy(root / "short" / "0.wav", root / "few" / f"{number}.wav")
        for title, features in FEATURES.items():
            for collection in ("short", "few", "long"):
                found = measure(root / collection, features)
                about = {"short": "one file of a minute", "few": "ten such files"}
                what = about.get(collection, f"one file of {chosen.minutes:g} minutes")
                records.append(
                    {"benchmark": "memory", "features": title, "collection": what}
                    | found
                    | {"machine": machine(), "versions": versions()}
                )
                print(records[-1], file=sys.stderr)
    write(records, chosen.out)


if __name__ == "__main__":
    main()
