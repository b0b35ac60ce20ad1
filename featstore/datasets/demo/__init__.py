"""The built-in music: real compositions played by a synthesizer; the labels are facts of score and arrangement."""

from __future__ import annotations

NOTICE = ""
