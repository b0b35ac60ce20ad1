"""The kinds of features. A kind is one class in one file: fields, steps, shape, views, ranges, sound.

The class is a :class:`featstore.specs.base.FeatureSpec`; its methods are what the plan, the stores and the commands ask
of a kind. Listing the kinds imports none of them.
"""

from __future__ import annotations

from featstore.errors import SpecError
from featstore.registry import Registry

__all__ = ["KINDS"]

KINDS = Registry(
    "feature kind",
    {
        "waveform": "featstore.features.waveform:WaveformSpec",
        "stft": "featstore.features.stft:StftSpec",
        "mel": "featstore.features.mel:MelSpec",
        "hpss": "featstore.features.hpss:HpssSpec",
        "phase": "featstore.features.phase:PhaseSpec",
        "vq_tokens": "featstore.features.vq_tokens:VqTokensSpec",
        "vq_codes": "featstore.features.vq_tokens:VqCodesSpec",
        "embedding": "featstore.features.embedding:EmbeddingSpec",
    },
    SpecError,
)
