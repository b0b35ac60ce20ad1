"""Tokens of a neural codec, and the code vectors that they stand for, which are a look-up on them.

A name holds a digest of the weights, never a path. A spec that names a file is not resolved;
:meth:`VqTokensSpec.resolve` opens the checkpoint and writes everything that it fixes (hop, codebooks, vocabulary) into
the spec, so that the name alone says the shape of its array.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.features.graph import Node, TrackContext
from featstore.features.source_signal import signal_node
from featstore.features.spectrum import ElementwiseStream
from featstore.features.weights import (
    check_facts,
    described_weights,
    is_digest,
    opened_weights,
    short_name,
    weights_place,
)
from featstore.features.windows import TrackCutter, WindowStep
from featstore.specs import FeatureSpec
from featstore.specs.base import choice, integer, optional, text
from featstore.specs.code_table import CodeTable
from featstore.specs.grammar import format_number, parse_float

if TYPE_CHECKING:
    from featstore.models.tokenizers import Tokenizer, TokenizerInfo

__all__ = ["VqCodesSpec", "VqTokensSpec", "tokenizer_of"]

CODEC_NAMES = ("jukebox", "encodec", "dac", "mimi")
_SETTINGS = ("codec", "level", "weights", "n_codebooks", "hop", "normalize")
_FACTS = ("sample_rate", "hop", "n_codes", "code_width", "n_codebooks")  # follow from the weights
_NOT_MIXED = ("weights", "normalize", "decoder", "resampler", "sample_rate")
_BANDWIDTH = " kbit/s"


def _codebooks() -> Any:
    """Field of the number of codebooks; a bandwidth stands for it until the weights say how many that are."""
    field = optional(integer(1))
    read = field.metadata["read"]

    def read_either(value: object, name: str) -> int | str | None:
        if str(value).endswith(_BANDWIDTH):
            return format_number(parse_float(str(value).removesuffix(_BANDWIDTH), "bandwidth")) + _BANDWIDTH
        number: int | None = read(value, name)
        return number

    return dataclasses.field(default=None, metadata=dict(field.metadata) | {"read": read_either})


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
        Digest of the tensors that decide the tokens; before :meth:`resolve`, a path or the start of a digest.
    normalize : str
        ``none`` leaves the signal as it is, ``peak`` divides it by its largest absolute value.
    n_codebooks : int
        Codebooks that are kept, from the first on; ``bandwidth=`` (kbit/s) or ``n_quantizers=`` may be given instead.
    hop, n_codes, code_width : int
        Samples a token, codes of a codebook, values of a code vector: as the checkpoint has them.
    """

    kind: ClassVar[str] = "vq_tokens"
    usual_model: ClassVar[str] = "tokenformer"
    native_only: ClassVar[str] = "codec"
    sonifier: ClassVar[str] = "featstore.workflows.sonify_tokens:token_blocks"
    wants_device: ClassVar[bool] = True
    dims = ("codebook", "frame")
    sample_rate: int = optional(integer(44100, low=100, high=768000))
    codec: str = choice("jukebox", *CODEC_NAMES)
    level: int = integer(2, low=0, high=9)
    weights: str = text("")
    normalize: str = choice("none", "none", "peak")
    n_codebooks: int = _codebooks()
    hop: int = optional(integer(128))
    n_codes: int = optional(integer(2048))
    code_width: int = optional(integer(64))

    @classmethod
    def from_text(cls, fields: dict[str, str]) -> Self:
        """Make a spec from field texts; ``bandwidth`` and ``n_quantizers`` say the number of codebooks."""
        fields = dict(fields)
        if "bandwidth" in fields:
            fields["n_codebooks"] = f"{fields.pop('bandwidth')}{_BANDWIDTH}"
        if "n_quantizers" in fields:
            fields["n_codebooks"] = fields.pop("n_quantizers")
        return super(VqTokensSpec, cls).from_text(fields)

    def _resolve(self) -> None:
        if self.codec != "jukebox":
            if self.level not in (0, 2):  # 0 is written into names, 2 is the default
                raise self._refuse(f"level={self.level} is a setting of jukebox alone", "Leave level out", "codec")
            object.__setattr__(self, "level", 0)

    # -- weights ---------------------------------------------------------------------------------------------------

    @property
    def is_resolved(self) -> bool:
        """Whether the weights are a digest, and everything that follows from them is known."""
        return is_digest(self.weights) and not self._lacking

    @property
    def _lacking(self) -> list[str]:
        return [name for name in _FACTS if not isinstance(getattr(self, name), int)]

    def resolve(self) -> Self:
        """Return the spec with the digest of its weights, and with what follows from them.

        Raises
        ------
        SpecError
            When no weights are named, none are found, or a field that was given contradicts them.
        CheckpointError
            When the file is no checkpoint of the codec.
        """
        if self.is_resolved:
            return self
        if not self.weights:
            raise self._refuse("no weights are given", f"Write weights=PATH of a {self.codec} checkpoint", "codec")
        info = described_weights(self, self.weights, self._describe, self._lacking, "codec")
        facts = {"sample_rate": info.sample_rate, "hop": info.hop, "n_codes": info.vocabulary}
        facts |= {"code_width": info.code_width, "n_codebooks": info.n_codebooks}
        check_facts(self, facts, "checkpoint, which has", "codec")
        return self.replace(weights=info.digest, **facts)

    def _describe(self, path: str) -> TokenizerInfo:
        from featstore.models.tokenizers import describe_weights

        books: Any = self.n_codebooks
        if self.codec == "jukebox" and isinstance(books, str):
            raise self._refuse("jukebox has one codebook and no bandwidth", "Leave bandwidth out", "codec")
        if isinstance(books, str):
            return describe_weights(self.codec, path, bandwidth=float(books.removesuffix(_BANDWIDTH)))
        return describe_weights(self.codec, path, **_settings(self.codec, self.level, books))

    @property
    def weights_digest(self) -> str:
        """Digest of the tensors that decide the tokens."""
        return self.weights

    def weights_facts(self) -> dict[str, Any]:
        """What the weights were trained on, where they are here and say so."""
        seen = tokenizer_of(self).info.trained_on if weights_place(self.weights) else None
        return {} if seen is None else seen.as_json()

    @property
    def codebook_name(self) -> str:
        """Name of the codebook in a store: the same for all arrays of these tokens."""
        return f"{self.codec}-{self.weights[:16]}-{self.n_codebooks}"

    def codebook(self) -> tuple[Any, dict[str, Any]]:
        """Code vectors float32 (n_codebooks, n_codes, code_width), and what is known of the codec."""
        tokenizer = tokenizer_of(self)
        vectors = np.stack([tokenizer.codebook_vectors(book) for book in range(self.n_codebooks)])
        provenance = dict(tokenizer.info.provenance)
        provenance["file"] = Path(str(provenance.get("file", ""))).name
        about = {name: getattr(self, name) for name in ("codec", "level", "weights", "hop", "sample_rate")}
        return vectors, about | {"provenance": provenance}

    @property
    def libraries(self) -> tuple[str, ...]:
        """What computes the codec."""
        return ("torch",) if self.codec == "jukebox" else ("torch", "transformers")

    def mixes_with(self, other: FeatureSpec) -> tuple[str, ...]:
        """Settings in which tokens of the same codec and level differ."""
        if not isinstance(other, VqTokensSpec) or (other.codec, other.level) != (self.codec, self.level):
            return ()
        return tuple(name for name in _NOT_MIXED if getattr(other, name) != getattr(self, name))

    # -- computation -------------------------------------------------------------------------------------------------

    def graph(self) -> Node:
        """Node of the stored tokens."""
        settings = {name: getattr(self, name) for name in _SETTINGS}
        return Node.make("vq_tokens", signal_node(self), TOKENS, **settings)

    def frames(self, n_samples: int) -> int:
        """Tokens of a track of ``n_samples`` at the codec's rate; of unknown codecs only roughly."""
        length = self.clip.samples_left(self.sample_rate, n_samples)
        if self.codec == "jukebox":
            return length // self.hop
        return tokenizer_of(self).n_tokens(length) if weights_place(self.weights) else -(-length // self.hop)

    @property
    def vocabulary(self) -> int | None:
        """Codes of a codebook."""
        return self.n_codes

    @property
    def frame_step(self) -> int:
        """Samples a token."""
        return self.hop

    @property
    def item_shape(self) -> tuple[int, ...]:
        """One token a codebook."""
        return (self.n_codebooks,)

    def short(self) -> str:
        """Name with what differs from the defaults; a store that has the feature can complete it."""
        shown = [f"codec={self.codec}"]
        shown += [f"level={self.level}"] if self.codec == "jukebox" else [f"n_codebooks={self.n_codebooks}"]
        shown += [f"weights={self.weights[:12] if is_digest(self.weights) else self.weights}"]
        return short_name(self, shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class VqCodesSpec(VqTokensSpec):
    """Code vectors (values, frames) of the same tokens: a look-up in the codebook, never stored.

    Attributes
    ----------
    combine : str
        What several codebooks make of a frame: ``sum`` of their vectors (the latent, in residual codecs) or ``concat``.
    """

    kind: ClassVar[str] = "vq_codes"
    usual_model: ClassVar[str] = "codebookformer"
    dims = ("dimension", "frame")
    vocabulary = None  # the values are numbers
    combine: str = optional(choice("sum", "sum", "concat"))

    def _resolve(self) -> None:
        VqTokensSpec._resolve(self)
        if not isinstance(self.n_codebooks, int):
            return  # not resolved yet
        summable = self.codec != "dac"  # DAC's vectors are factors: each codebook has a projection of its own
        if self.combine is None:
            object.__setattr__(self, "combine", "sum" if summable else "concat")
        elif self.combine == "sum" and not summable and self.n_codebooks > 1:
            raise self._refuse("the code vectors of dac do not add up", "Use combine=concat")
        if self.n_codebooks == 1:
            object.__setattr__(self, "combine", "sum")  # one name for one thing

    def graph(self) -> Node:
        """Node of the vectors behind that of their tokens: for encoders that take them. Stores hold the tokens."""
        return Node.make("vq_codes", VqTokensSpec.graph(self), codes_stream, combine=self.combine)

    @property
    def stored_as(self) -> VqTokensSpec:
        """The tokens that the vectors are looked up for."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(VqTokensSpec)}
        return VqTokensSpec(**fields)

    @property
    def width(self) -> int:
        """Values of a frame."""
        return self.code_width * (self.n_codebooks if self.combine == "concat" else 1)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Values of a code vector."""
        return (self.width,)


def _settings(codec: str, level: int, books: int | None) -> dict[str, Any]:
    return {"level": level} if codec == "jukebox" else {"n_quantizers": books}


def tokenizer_of(spec: VqTokensSpec | Node, *, with_decoder: bool = False) -> Tokenizer:
    """Open the tokenizer that a spec names, or take the one that is open already.

    Raises
    ------
    CheckpointError
        When the weights are not found, or the file there holds others by now.
    """
    from featstore.models.tokenizers import describe_weights, load_tokenizer

    get: Any = spec.__getitem__ if isinstance(spec, Node) else functools.partial(getattr, spec)
    codec, digest = get("codec"), get("weights")
    settings = _settings(codec, get("level"), get("n_codebooks")) | {"with_decoder": with_decoder}
    return opened_weights("vq_tokens", codec, digest, load_tokenizer, describe_weights, **settings)


def _cut(tokenizer: Tokenizer, node: Node, context: TrackContext) -> TrackCutter:
    least = f"one token of {node['hop']}"
    return TrackCutter(tokenizer.cutter(), context=context, least=least, peak=node["normalize"] == "peak")


TOKENS = WindowStep(tokenizer_of, _cut)


def codes_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``vq_codes`` node: tokens (codebooks, n) to vectors (values, n)."""
    tokens = cast("Node", node.input)
    tokenizer, books = tokenizer_of(tokens), tokens["n_codebooks"]
    table = CodeTable(np.stack([tokenizer.codebook_vectors(book) for book in range(books)]))

    def vectors(block: AnyArray) -> FloatArray:
        found: FloatArray = table.look_up(block.astype(np.int64).reshape(books, -1), node["combine"])
        return found

    return ElementwiseStream(vectors)
