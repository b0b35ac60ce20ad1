"""Tagging of 29 s mp3 clips with the published networks, one thread: from file to tags, beside decoding and mel alone.

``python -m tests.bench.bench_tag --out docs/benchmarks/tag.jsonl`` writes one JSON line a contender. Weights are those
of networks that were never trained: time does not depend on them, and the published ones cannot be shipped.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from featstore.testing.musicnn_package import KINDS, write_untrained
from featstore.workflows.tag import tag
from featstore.workflows.tag_features import feature_function
from featstore.workflows.taggers import open_tagger
from tests.bench.bench_audio_common import Contender, lines, make_clips, one_thread, parser, take_turns, write

FORM = "16 kHz mono mp3"
FEATURE = "decoding and mel alone"


def contenders(
    clips: Sequence[Path], folder: Path, names: Sequence[str] = tuple(KINDS)
) -> dict[str, tuple[Contender, Sequence[Path]]]:
    """The feature alone, then each network."""
    package = write_untrained(folder / "musicnn", *names)
    compute = feature_function(open_tagger(names[0], package).requests, "fail")
    found: dict[str, tuple[Contender, Sequence[Path]]] = {
        FEATURE: (lambda files: [compute(str(file)) for file in files], clips)
    }
    for name in names:

        def work(files: Sequence[Path], name: str = name) -> None:
            report = tag(name, files, weights=package)
            assert not report.failures

        found[name] = (work, clips)
    return found


def main() -> None:
    chosen = parser(__doc__).parse_args()
    one_thread()
    os.environ["FEATSTORE_PROGRESS"] = "0"
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder) / "clips", FORM, chosen.clips)
        seconds = take_turns(contenders(clips, Path(folder)), chosen.rounds)
    write(lines("tag", seconds, 29.2, (FEATURE,), form=FORM), chosen.out)


if __name__ == "__main__":
    main()
