"""The built-in music: real compositions played by a synthesizer; the labels are facts of score and arrangement."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names of __init__.pyi, imported when used
__all__ += ["NOTICE"]

NOTICE = """\
The built-in music is rendered on this machine, for your own use, from scores that the package music21 carries.
The compositions are out of copyright, their encodings are not free of terms: music21 includes them by permission
(corpus/license.txt), some not for commercial use. The Essen folk songs are for non-commercial distribution and use;
for the Palestrina masses all rights to derivative electronic formats are reserved. The sound font (TimGM6mb, in
pretty_midi) is under the GPL, version 2. Do not pass the audio on without looking these terms up."""
