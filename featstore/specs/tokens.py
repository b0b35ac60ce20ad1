"""Token features: the codes that a neural codec gives a signal, and the code vectors that they stand for.

A name holds a digest of the weights, never a path. Where a path is given, the checkpoint is opened once and everything
that it fixes (hop, codebooks, vocabulary) is written into the name, so that a name alone tells the shape of its array.
Where a digest's file is, this process remembers: :func:`remember_weights`, :func:`weights_place`.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from featstore.errors import SpecError, did_you_mean
from featstore.registry import Registry
from featstore.specs.base import FeatureSpec, choice, integer, optional, text
from featstore.specs.grammar import parse_float, parse_int

__all__ = ["VqCodesSpec", "VqTokensSpec", "remember_weights", "weights_place"]

CODEC_NAMES = ("jukebox", "encodec", "dac", "mimi")
DIGEST_DIGITS = 32

# how a checkpoint is asked what it fixes; models are imported only then
_DESCRIBE = Registry("weights reader", {"describe": "featstore.models.tokenizers:describe_weights"})
_FACTS = ("sample_rate", "hop", "n_codes", "code_width")
_known: dict[str, dict[str, int]] = {}  # digest: what it fixes
_places: dict[str, str] = {}  # digest: path of a file or folder


def remember_weights(digest: str, path: str | os.PathLike[str]) -> None:
    """Note where the file with these weights is, for this process."""
    _places[digest] = os.fspath(path)


def weights_place(digest: str) -> str | None:
    """Path of the weights with this digest, or None where this process was never told."""
    return _places.get(digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class VqTokensSpec(FeatureSpec):
    """Tokens (n_codebooks, frames) of a codec: whole numbers from 0 to ``n_codes - 1``.

    Attributes
    ----------
    sample_rate : int
        Hz that the codec was trained at; another one is refused.
    codec : str
        ``jukebox``, ``encodec``, ``dac`` or ``mimi``.
    level : int
        Of Jukebox: 0 (hop 8 in the published model), 1 (hop 32) or 2 (hop 128); 0 for codecs without levels.
    weights : str
        Digest of the tensors that decide the tokens; a path is resolved to it on creation.
    normalize : str
        ``none`` leaves the signal as it is, ``peak`` divides it by its largest absolute value.
    n_codebooks : int
        Codebooks that are kept, from the first on; ``bandwidth=`` (kbit/s) or ``n_quantizers=`` may be given instead.
    hop, n_codes, code_width : int
        Samples a token, codes of a codebook, values of a code vector: as the checkpoint has them.
    """

    kind: ClassVar[str] = "vq_tokens"
    sample_rate: int = optional(integer(44100, low=100, high=768000))
    codec: str = choice("jukebox", *CODEC_NAMES)
    level: int = integer(2, low=0, high=9)
    weights: str = text("")
    normalize: str = choice("none", "none", "peak")
    n_codebooks: int = optional(integer(1))
    hop: int = optional(integer(128))
    n_codes: int = optional(integer(2048))
    code_width: int = optional(integer(64))

    @classmethod
    def from_text(cls, fields: dict[str, str]) -> Self:
        """Make a spec from field texts; ``bandwidth`` and ``n_quantizers`` are asked of the checkpoint."""
        fields = dict(fields)
        bandwidth, quantizers = fields.pop("bandwidth", None), fields.pop("n_quantizers", None)
        if bandwidth is not None:
            path = str(fields.get("weights", ""))
            if not os.path.exists(os.path.expanduser(path)):
                raise SpecError(
                    "bandwidth= needs the checkpoint to be at hand",
                    f"{cls.kind} spec",
                    "Give weights=PATH, or n_codebooks=",
                )
            codec = str(fields.get("codec", "jukebox"))
            info = _describe(codec, path, cls.kind, bandwidth=parse_float(bandwidth, "bandwidth"))
            fields["n_codebooks"] = str(info.n_codebooks)
        if quantizers is not None:
            fields["n_codebooks"] = str(parse_int(quantizers, "n_quantizers"))
        return super(VqTokensSpec, cls).from_text(fields)

    def _resolve(self) -> None:
        if self.codec != "jukebox":
            object.__setattr__(self, "level", 0)
        if self.engine != "native":
            raise self._refuse(f"engine={self.engine} has no codec", "Leave engine out")
        self._find_weights()
        lacking = [name for name in (*_FACTS, "n_codebooks") if getattr(self, name) is None]
        if lacking:
            raise self._refuse(
                f"the weights {self.weights} are not at hand, and {', '.join(lacking)} follow from them",
                "Give weights=PATH, or the full name as featstore store info prints it",
                "codec",
            )
        known = _known.setdefault(self.weights, {name: getattr(self, name) for name in (*_FACTS, "n_codebooks")})
        for name in _FACTS:
            if known[name] != getattr(self, name):
                raise self._refuse(
                    f"{name}={getattr(self, name)} does not fit weights {self.weights}: they have {known[name]}",
                    f"Leave {name} out: it follows from the weights",
                )

    def _find_weights(self) -> None:
        """Turn what was given as weights into a digest, and fill in what follows from it."""
        given = self.weights
        if not given:
            raise self._refuse("no weights are given", f"Write weights=PATH of a {self.codec} checkpoint", "codec")
        path = os.path.expanduser(given)
        facts: dict[str, int] = {}
        if re.fullmatch(rf"[0-9a-f]{{{DIGEST_DIGITS}}}", given):
            facts = _known.get(given, {})
        elif os.path.exists(path):
            info = _describe(
                self.codec,
                path,
                self.kind,
                level=self.level if self.codec == "jukebox" else None,
                n_quantizers=self.n_codebooks if self.codec != "jukebox" else None,
            )
            object.__setattr__(self, "weights", info.digest)
            remember_weights(info.digest, os.path.abspath(path))
            facts = {"sample_rate": info.sample_rate, "hop": info.hop, "n_codes": info.vocabulary}
            facts |= {"code_width": info.code_width, "n_codebooks": info.n_codebooks}
            _known[info.digest] = facts
            for name in ("n_codebooks", *_FACTS):
                if getattr(self, name) not in (None, facts[name]):
                    raise self._refuse(
                        f"{name}={getattr(self, name)} does not fit the checkpoint, which has {facts[name]}",
                        f"Leave {name} out: it follows from the weights",
                        "codec",
                    )
        else:
            starting = [digest for digest in _known if len(given) >= 6 and digest.startswith(given)]
            if len(starting) != 1:
                near = did_you_mean(given, _known) if _known else "No weights were named so far"
                raise self._refuse(f"weights={given} is neither a file nor a known digest", f"Check the path. {near}")
            object.__setattr__(self, "weights", starting[0])
            facts = _known[starting[0]]
        for name, value in facts.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def short(self) -> str:
        """Name with what differs from the defaults; it can be read back where the digest is known."""
        plain: dict[str, Any] = {"decoder": "soundfile", "resampler": "soxr_hq", "normalize": "none", "combine": "sum"}
        shown = [f"codec={self.codec}"]
        shown += [f"level={self.level}"] if self.codec == "jukebox" else [f"n_codebooks={self.n_codebooks}"]
        shown.append(f"weights={self.weights[:12]}")
        shown += [
            f"{name}={getattr(self, name)}" for name, usual in plain.items() if getattr(self, name, usual) != usual
        ]
        shown += [f"clip={self.clip}"] if self.clip.policy != "whole" else []
        return f"{self.kind}({','.join(shown)})"

    @property
    def vocabulary(self) -> int | None:
        """Codes of a codebook."""
        return self.n_codes

    @property
    def codebook_name(self) -> str:
        """Name of the codebook in a store: the same for all arrays of these tokens."""
        return f"{self.codec}-{self.weights[:16]}-{self.n_codebooks}"

    @property
    def frame_step(self) -> int:
        """Samples a token."""
        return self.hop


@dataclass(frozen=True, slots=True, kw_only=True)
class VqCodesSpec(VqTokensSpec):
    """Code vectors (values, frames) of the same tokens: a look-up in the codebook, never stored.

    Attributes
    ----------
    combine : str
        What several codebooks make of a frame: ``sum`` of their vectors (the latent, in residual codecs) or ``concat``.
    """

    kind: ClassVar[str] = "vq_codes"
    combine: str = optional(choice("sum", "sum", "concat"))

    def _resolve(self) -> None:
        VqTokensSpec._resolve(self)
        summable = self.codec != "dac"  # DAC's vectors are factors: each codebook has a projection of its own
        if self.combine is None:
            object.__setattr__(self, "combine", "sum" if summable else "concat")
        elif self.combine == "sum" and not summable and self.n_codebooks > 1:
            raise self._refuse("the code vectors of dac do not add up", "Use combine=concat")
        if self.n_codebooks == 1:
            object.__setattr__(self, "combine", "sum")  # one name for one thing

    @property
    def vocabulary(self) -> int | None:
        """None: the values are numbers."""
        return None

    @property
    def stored_as(self) -> VqTokensSpec:
        """The tokens that the vectors are looked up for."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(VqTokensSpec)}
        return VqTokensSpec(**fields)

    @property
    def width(self) -> int:
        """Values of a frame."""
        return self.code_width * (self.n_codebooks if self.combine == "concat" else 1)


def _describe(codec: str, path: str, kind: str, **settings: Any) -> Any:
    if codec not in CODEC_NAMES:
        raise SpecError(f"codec={codec!r} is unknown", f"{kind} spec", did_you_mean(codec, CODEC_NAMES))
    return _DESCRIBE.load("describe")(codec, os.path.expanduser(path), **settings)
