"""Specs: what a feature is, by name. Frozen records, canonical names, encodings, and the rules of views.

``parse_spec`` reads a spec, ``str(spec)`` is its canonical name, ``parse_feature`` also takes ``@encoding``.
"""

from __future__ import annotations

from featstore.specs.base import FeatureSpec
from featstore.specs.clip import Clip
from featstore.specs.encoding import ENCODINGS, Encoding
from featstore.specs.kinds import HpssSpec, MelSpec, SpectralSpec, StftSpec, WaveformSpec
from featstore.specs.names import KINDS, FeatureRequest, parse_feature, parse_spec
from featstore.specs.presets import PRESETS, expand_features
from featstore.specs.scale import Scale
from featstore.specs.tokens import VqCodesSpec, VqTokensSpec
from featstore.specs.views import View, view_of

__all__ = [
    "ENCODINGS",
    "KINDS",
    "PRESETS",
    "Clip",
    "Encoding",
    "FeatureRequest",
    "FeatureSpec",
    "HpssSpec",
    "MelSpec",
    "Scale",
    "SpectralSpec",
    "StftSpec",
    "View",
    "VqCodesSpec",
    "VqTokensSpec",
    "WaveformSpec",
    "expand_features",
    "parse_feature",
    "parse_spec",
    "view_of",
]
