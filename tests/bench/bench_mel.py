"""The 88 mel configurations of the resolution study, out of mp3: ours beside librosa, essentia, and decoding alone.

``python -m tests.bench.bench_mel --out docs/benchmarks/mel.jsonl`` writes one JSON line a contender. All run in this
process, on one thread, in turns. "base arrays" computes the 14 arrays that the 88 configurations are read from and
drops them; "store" writes them, through ``featstore.extract`` with one worker, a store of its own each turn; "own
arrays" then writes the other 74 out of those, so that each of the 88 is an array that needs no view. The loops
do what a user would write, and write nothing: load, resample and analyse for each configuration by itself. "authors'
way" decodes once and makes one spectrum a rate for seven banks, takes strides and logarithms from them.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featstore.features.mel import MelSpec
from featstore.specs import FeatureRequest, expand_features
from tests.bench.bench_audio_common import (
    FORMS,
    Contender,
    clip_table,
    lines,
    make_clips,
    one_thread,
    parser,
    take_turns,
    write,
)

SECONDS = 29.1
STORED = 64  # times that the store takes each clip, so that opening and committing count as they do in a real run
DERIVED = 16  # the same, where all configurations become arrays of their own: 20 MB a clip
SHARD_TRACKS = 56  # what a collection of more than 900 such clips gets by itself: 256 MiB a shard


def study(clip_s: float = SECONDS) -> list[MelSpec]:
    """The specs of the study, on clips of that length."""
    specs = [request.spec for request in expand_features(["ferraro2020"])]
    return [spec.replace(clip=f"centre({clip_s} s)") for spec in specs]


def cut(signal: np.ndarray, spec: MelSpec) -> np.ndarray:
    length = round(spec.clip.length_s * spec.sample_rate)
    start = (len(signal) - length) // 2
    return signal[start : start + length]


# ---- ours ----------------------------------------------------------------------------------------------------------


def base_arrays(specs: Sequence[MelSpec]) -> Contender:
    """Everything that is stored for the configurations, computed by the worker's own code and dropped."""
    from featstore.extract.execute import run_track
    from featstore.extract.plan import make_plan
    from featstore.process_memory import keep_freed_memory

    keep_freed_memory()  # as workers do
    graph = make_plan([FeatureRequest(spec) for spec in specs]).graph
    return lambda clips: [run_track(str(clip), graph, lambda key, block: None) for clip in clips]


class Store:
    """The same, written to a new store through the public function; decoding, checksums and commit included."""

    def __init__(self, specs: Sequence[MelSpec], folder: Path, encoding: str | None = None) -> None:
        self._requests = expand_features([spec.canonical() for spec in specs], encoding)
        self._target = folder / "bench.zarr"

    def __call__(self, clips: Sequence[Path]) -> None:
        from featstore.extract import ExtractOptions, extract

        table = clip_table(clips, SECONDS)
        extract(table, self._requests, self._target, ExtractOptions(jobs=1, shard_tracks=SHARD_TRACKS, progress="none"))

    def after(self) -> None:
        """Make room for the next turn, off the clock."""
        shutil.rmtree(self._target)


class OwnArrays(Store):
    """The store, and then every configuration as an array of its own."""

    def __call__(self, clips: Sequence[Path]) -> None:
        from featstore.workflows.derive import derive

        super().__call__(clips)
        derive(str(self._target), self._requests)


# ---- peers ---------------------------------------------------------------------------------------------------------


def decoding(clips: Sequence[Path]) -> None:
    """Decode, and nothing else."""
    import soundfile

    for clip in clips:
        soundfile.read(clip, dtype="float32")


def librosa_loop(specs: Sequence[MelSpec]) -> Contender:
    """Each configuration by itself: load (which resamples, by soxr_hq too), mel, logarithm."""
    import librosa

    def work(clips: Sequence[Path]) -> None:
        for clip, spec in itertools.product(clips, specs):
            signal, _ = librosa.load(clip, sr=spec.sample_rate)
            mel = librosa.feature.melspectrogram(
                y=cut(signal, spec),
                sr=spec.sample_rate,
                n_fft=spec.n_fft,
                hop_length=spec.hop_length,
                n_mels=spec.n_mels,
            )
            if spec.scale.name == "db":
                librosa.power_to_db(mel, top_db=None)
            else:
                np.log10(1 + 10000 * mel)

    return work


def _essentia_banks(rate: int, sizes: Sequence[int]) -> list:
    import essentia.standard as es

    return [
        es.MelBands(
            numberBands=size,
            sampleRate=rate,
            inputSize=257,
            lowFrequencyBound=0,
            highFrequencyBound=rate / 2,
            weighting="linear",
            normalize="unit_tri",
            warpingFormula="slaneyMel",
            type="power",
        )
        for size in sizes
    ]


def _essentia_mels(path: Path, rate: int, hop: int, sizes: Sequence[int], spec: MelSpec) -> list[np.ndarray]:
    import essentia.standard as es

    signal = cut(es.MonoLoader(filename=str(path), sampleRate=rate)(), spec)
    weigh, transform = es.Windowing(type="hann", normalized=False, zeroPadding=0), es.Spectrum()
    banks = _essentia_banks(rate, sizes)
    columns: list[list[np.ndarray]] = [[] for _ in banks]
    for frame in es.FrameGenerator(signal, frameSize=512, hopSize=hop, startFromZero=False):
        spectrum = transform(weigh(frame))
        for bank, column in zip(banks, columns, strict=True):
            column.append(bank(spectrum))
    return [np.array(column).T for column in columns]


def _scaled(mel: np.ndarray, spec: MelSpec) -> np.ndarray:
    return 10 * np.log10(np.maximum(mel, 1e-10)) if spec.scale.name == "db" else np.log10(1 + 10000 * mel)


def essentia_loop(specs: Sequence[MelSpec]) -> Contender:
    """Each configuration by itself."""
    import essentia

    essentia.log.infoActive = essentia.log.warningActive = False

    def work(clips: Sequence[Path]) -> None:
        for clip, spec in itertools.product(clips, specs):
            (mel,) = _essentia_mels(clip, spec.sample_rate, spec.hop_length, [spec.n_mels], spec)
            _scaled(mel, spec)

    return work


def essentia_authors_way(specs: Sequence[MelSpec]) -> Contender:
    """Per rate one decoding and one spectrum that feeds all banks; strides and logarithms of those."""
    import essentia

    essentia.log.infoActive = essentia.log.warningActive = False

    def work(clips: Sequence[Path]) -> None:
        for clip in clips:
            for rate in sorted({spec.sample_rate for spec in specs}):
                mine = [spec for spec in specs if spec.sample_rate == rate]
                sizes = sorted({spec.n_mels for spec in mine})
                mels = dict(zip(sizes, _essentia_mels(clip, rate, 256, sizes, mine[0]), strict=True))
                for spec in mine:
                    _scaled(mels[spec.n_mels][:, :: spec.hop_length // 256], spec)

    return work


# ---- measuring ----------------------------------------------------------------------------------------------------


def contenders(
    clips: Sequence[Path], folder: Path, clip_s: float, loops: bool
) -> dict[str, tuple[Contender, Sequence[Path]]]:
    """Every contender with its clips; the loops over configurations get one clip a turn."""
    specs = study(clip_s)
    found: dict[str, tuple[Contender, Sequence[Path]]] = {
        "decoding alone": (decoding, clips),
        "featstore, base arrays": (base_arrays(specs), clips),
        "featstore, store": (Store(specs, folder), list(clips) * STORED),
        "featstore, own arrays": (OwnArrays(specs, folder), list(clips) * DERIVED),
    }
    if loops:
        found["librosa loop"] = (librosa_loop(specs), clips[:1])
        try:
            import essentia  # noqa: F401

            found["essentia loop"] = (essentia_loop(specs), clips[:1])
            found["essentia, authors' way"] = (essentia_authors_way(specs), clips[:1])
        except ImportError:
            pass
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--no-loops", action="store_true", help="leave the loops over configurations out")
    chosen = options.parse_args()
    one_thread()
    folder = Path(tempfile.mkdtemp(prefix="bench_mel_"))
    records = []
    try:
        for form in FORMS:
            clips = make_clips(folder / "clips", form, chosen.clips)
            loops = not chosen.no_loops and form.startswith("16")
            seconds = take_turns(contenders(clips, folder, SECONDS, loops), chosen.rounds)
            against = ("decoding alone", "featstore, base arrays", "featstore, store", "featstore, own arrays")
            records += lines("88 mel configurations", seconds, SECONDS, against, form=form, configurations=88)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write(records, chosen.out)


if __name__ == "__main__":
    main()
