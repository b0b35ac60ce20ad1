"""The built-in music: real compositions played by a synthesizer; the labels are facts of score and arrangement."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featstore.datasets.demo.arrange import TAGS as TAGS
    from featstore.datasets.demo.build import build_demo as build_demo
    from featstore.datasets.demo.sizes import SIZES as SIZES
    from featstore.datasets.demo.works import STYLES as STYLES

__all__ = ["NOTICE", "SIZES", "STYLES", "TAGS", "build_demo"]

NOTICE = """\
The built-in music is rendered on this machine, for your own use, from scores that the package music21 carries.
The compositions are out of copyright, their encodings are not free of terms: music21 includes them by permission
(corpus/license.txt), some not for commercial use. The Essen folk songs are for non-commercial distribution and use;
for the Palestrina masses all rights to derivative electronic formats are reserved. The sound font (TimGM6mb, in
pretty_midi) is under the GPL, version 2. Do not pass the audio on without looking these terms up."""

_LAZY = {
    "TAGS": "featstore.datasets.demo.arrange",
    "STYLES": "featstore.datasets.demo.works",
    "SIZES": "featstore.datasets.demo.sizes",
    "build_demo": "featstore.datasets.demo.build",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
