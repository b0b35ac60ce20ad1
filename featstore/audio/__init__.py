"""Audio files and what is done to samples before analysis: probe, decode, mono, resample, cut.

Nothing else in featstore opens an audio file. ``AUDIO_STREAMS`` holds the streams of the graph steps ``mono``,
``resample`` and ``cut``, under the same protocol as those of the features room.
"""

from __future__ import annotations

from featstore.audio.artist import read_artist
from featstore.audio.clip import clip_bounds, cut_signal, every_starts
from featstore.audio.content import fingerprint
from featstore.audio.decode import AudioSource, AudioStatistics, decode_audio, decoder_versions, open_audio
from featstore.audio.faults import NonFiniteAudio, TrackTimeout, TrackTooLarge, TrackTooShort
from featstore.audio.probe import AudioInfo, probe_audio
from featstore.audio.remote import local_copy
from featstore.audio.resample import ResampleStream, resample_signal, resampled_length
from featstore.registry import Registry

__all__ = [
    "AUDIO_STREAMS",
    "AudioInfo",
    "AudioSource",
    "AudioStatistics",
    "NonFiniteAudio",
    "ResampleStream",
    "TrackTimeout",
    "TrackTooLarge",
    "TrackTooShort",
    "clip_bounds",
    "cut_signal",
    "decode_audio",
    "decoder_versions",
    "every_starts",
    "fingerprint",
    "local_copy",
    "open_audio",
    "probe_audio",
    "read_artist",
    "resample_signal",
    "resampled_length",
]

# step -> factory(node, context) of its stream
AUDIO_STREAMS = Registry(
    "audio step",
    {
        "mono": "featstore.audio.streams:mono_stream",
        "resample": "featstore.audio.streams:resample_stream",
        "cut": "featstore.audio.streams:cut_stream",
        "clips": "featstore.audio.excerpts:clips_stream",
    },
)
