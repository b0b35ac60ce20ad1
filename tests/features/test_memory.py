"""What streams hold does not grow with the track."""

import tracemalloc

import numpy as np
import pytest

from featstore.audio import AUDIO_STREAMS
from featstore.features import TrackContext, chain_of, graph_of, make_stream
from featstore.specs import parse_spec

RATE = 16000


def peak_bytes(text: str, minutes: int) -> int:
    """Largest traced memory while a track of noise goes through one feature in blocks of 10 s."""
    n_samples = minutes * 60 * RATE
    context = TrackContext(RATE, n_samples, "long")
    steps = chain_of(graph_of(parse_spec(text)))[1:]
    streams = [(AUDIO_STREAMS.load(s.op) if s.op in AUDIO_STREAMS else make_stream)(s, context) for s in steps]
    noise = np.random.default_rng(0).standard_normal((1, 10 * RATE)).astype(np.float32)

    def run(block, first=0):
        for stream in streams[first:]:
            block = stream.push(block)

    run(noise)  # compiled code and tables are not what is measured
    tracemalloc.start()
    for _ in range(minutes * 6 - 1):
        run(noise)
    for number, stream in enumerate(streams):
        run(stream.finish(), number + 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "mel(scale=db)",
        "waveform(sample_rate=12000)",
        "hpss(hop_length=128,n_mels=40)",
        "mel(pad_mode=reflect,hop_length=2048)",
    ],
)
def test_long_tracks_in_bounded_memory(text):
    short, long = peak_bytes(text, 1), peak_bytes(text, 8 if "hpss" in text else 30)
    assert long < 40e6
    assert long < 1.1 * short + 1e6


def test_the_centre_of_a_long_track():
    assert peak_bytes("waveform(clip=centre(29.1 s))", 120) < 40e6
