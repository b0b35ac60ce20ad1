"""Specs: what a feature is, by name. Frozen records, canonical names, encodings, and the rules of views.

``parse_spec`` reads a spec, ``str(spec)`` is its canonical name, ``parse_feature`` also takes ``@encoding``. The
classes of the kinds live with their computation, in ``featstore.features``; :data:`KINDS` finds them.
"""

from __future__ import annotations

from featstore.specs.base import FeatureSpec
from featstore.specs.clip import Clip
from featstore.specs.encoding import ENCODINGS, Encoding
from featstore.specs.kinds import KINDS
from featstore.specs.names import FeatureRequest, match_stored, parse_feature, parse_spec
from featstore.specs.presets import PRESETS, expand_features
from featstore.specs.scale import Scale
from featstore.specs.views import View, view_of

__all__ = [
    "ENCODINGS",
    "KINDS",
    "PRESETS",
    "Clip",
    "Encoding",
    "FeatureRequest",
    "FeatureSpec",
    "Scale",
    "View",
    "expand_features",
    "match_stored",
    "parse_feature",
    "parse_spec",
    "view_of",
]
