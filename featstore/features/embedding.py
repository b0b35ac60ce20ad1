"""Vectors of a frozen encoder: one for each window, for the whole track, or for each frame.

A name holds a digest of the weights, never a path. A spec is resolved by :meth:`EmbeddingSpec.resolve`, which opens the
weights and writes down what follows from them: layers, dimensions, windows, rate.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from featstore.errors import SpecError, did_you_mean
from featstore.features.graph import Node, TrackContext
from featstore.features.weights import (
    check_facts,
    described_weights,
    is_digest,
    opened_weights,
    short_name,
    weights_place,
)
from featstore.features.windows import TrackCutter, WindowStep
from featstore.specs import FeatureSpec, parse_spec
from featstore.specs.base import choice, integer, optional, real, text

if TYPE_CHECKING:
    from featstore.models.encoder_info import EncoderInfo
    from featstore.models.encoder_windows import EncoderCoder, Pool, TrackPool
    from featstore.models.frozen_encoder import FrozenEncoder

__all__ = ["EmbeddingSpec", "encoder_of"]

_FACTS = ("sample_rate", "window", "hop", "tail", "n_layers", "n_dims", "column", "step")  # known once it is resolved
_SETTINGS = ("model", "weights", "layers", "pool", "per", "tail")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSpec(FeatureSpec):
    """Vectors (layers, dimensions, windows) of a frozen encoder.

    Attributes
    ----------
    sample_rate : int
        Hz that the encoder was trained at, unless another one is given that it is used at; the rest is refused, as
        audio is resampled.
    model : str
        An encoder: one of ``featstore.models.encoders.encoder_names()``; before :meth:`resolve`, a run of ours may
        stand here by its path, which is then called like its architecture.
    weights : str
        Digest of the tensors and settings that decide the vectors; before :meth:`resolve`, a path, the start of a
        digest, or nothing for weights that were fetched.
    layers : str
        Names joined by ``+``, in the encoder's order; ``all`` and ``last`` stand for some; empty takes the usual ones.
    pool : str
        Over the frames of a vector: ``mean``, ``mean_std`` (twice the dimensions), ``max``, or ``none`` for all frames.
    per : str
        A vector for each ``window``, or one for the ``track``, pooled over all its frames, each of which counts once.
    window, hop : float
        Seconds that the encoder sees at once, and between the starts of two windows.
    tail : str
        Columns behind the last whole window: ``drop`` them, or ``align`` a last window with the end of the track.
    n_layers, n_dims : int
        Size of a vector, as follows from the above.
    column, step : int
        Samples between columns of what the encoder takes (1 for a waveform), and columns between frames of the layers
        (0 where they give one vector a window).
    """

    kind: ClassVar[str] = "embedding"
    usual_model: ClassVar[str] = "probe"
    native_only: ClassVar[str] = "encoder"
    wants_device: ClassVar[bool] = True
    takes_ranges: ClassVar[bool] = True
    libraries = ("torch",)
    sample_rate: int = optional(integer(16000, low=100, high=768000))
    model: str = text("mtt-musicnn")
    weights: str = text("")
    layers: str = text("")
    pool: str = choice("mean", "mean", "mean_std", "max", "none")
    per: str = choice("window", "window", "track")
    window: float = optional(real(3.0, low=0.0, exclusive=True))
    hop: float = optional(real(3.0, low=0.0, exclusive=True))
    tail: str = optional(choice("align", "drop", "align"))
    n_layers: int = optional(integer(1))
    n_dims: int = optional(integer(1))
    column: int = optional(integer(1))
    step: int = optional(integer(1, low=0))

    @classmethod
    def from_text(cls, fields: dict[str, str]) -> Self:
        """Make a spec from field texts; ``window=track`` stands for ``per=track`` with the encoder's own windows."""
        fields = dict(fields)
        if fields.get("window", "").strip() == "track":
            del fields["window"]
            fields["per"] = "track"
        return super(EmbeddingSpec, cls).from_text(fields)

    def _resolve(self) -> None:
        from featstore.models.encoders import ENCODERS, encoder_names

        names = encoder_names()
        if not self.weights and self.model not in names and _is_place(self.model):
            object.__setattr__(self, "weights", self.model)
            object.__setattr__(self, "model", "")
        if self.model not in names and not (self.weights and self.model == ""):
            raise self._refuse(
                f"model={self.model!r} is no encoder",
                f"There are {', '.join(ENCODERS)}, and runs by their path; {did_you_mean(self.model, names)}",
            )
        if self.per == "track" and self.pool == "none":
            raise self._refuse("pool=none leaves more than one vector of a track", "Use per=window, or another pool")

    # -- weights ---------------------------------------------------------------------------------------------------

    @property
    def is_resolved(self) -> bool:
        """Whether the weights are a digest, and everything that follows from them is known."""
        return bool(self.model) and is_digest(self.weights) and not self._lacking

    @property
    def _lacking(self) -> list[str]:
        return [name for name in ("layers", *_FACTS) if getattr(self, name) in (None, "")]

    def resolve(self) -> Self:
        """Return the spec with the digest of its weights, and with what follows from them.

        Raises
        ------
        SpecError
            When no weights are found, a layer is unknown, or a field that was given contradicts the encoder.
        CheckpointError
            When the file holds no weights of the encoder.
        """
        if self.is_resolved:
            return self
        info = self._described()
        rate = info.sample_rate if self.sample_rate is None else self.sample_rate
        if rate not in (info.sample_rate, *info.other_rates):
            used = "".join(f", and is used at {other} Hz" for other in info.other_rates)
            raise self._refuse(
                f"sample_rate={rate} Hz, and {info.model} was trained at {info.sample_rate} Hz{used}",
                "Leave sample_rate out: audio is resampled to the encoder's rate",
            )
        info = info.at(rate)
        layers = _layers(self, info)
        shapes = [info.layers[name] for name in layers]
        widths, steps = {each.width for each in shapes}, {each.step for each in shapes}
        if len(widths) > 1 or len(steps) > 1:
            listed = ", ".join(f"{name} {each.width}" for name, each in zip(layers, shapes, strict=True))
            raise self._refuse(f"layers of different shapes fit no array: {listed}", "Ask for each by itself")
        step, pool = steps.pop(), self.pool
        if step == 0 and self.per == "window":
            if pool in ("mean_std", "max"):
                raise self._refuse(
                    f"pool={pool} has one vector to pool: {layers[0]} gives one a window", "Use pool=mean, or per=track"
                )
            pool = "mean"
        taken = parse_spec(info.takes)
        column = taken.frame_step
        second = info.sample_rate / column
        window = info.window if self.window is None else round(self.window * second)
        hop = window if self.hop is None else max(1, round(self.hop * second))
        if not info.least <= window <= (info.most or window):
            what, bound = ("shorter", info.least) if window < info.least else ("longer", info.most or 0)
            raise self._refuse(
                f"window={self.window or window / second:g} s is {what} than {info.model} takes: {bound / second:g} s",
                "Leave window out" if info.least == info.most else "Change it",
            )
        found = {
            "model": info.model,
            "weights": info.digest,
            "sample_rate": info.sample_rate,
            "layers": "all" if len(layers) > 1 and len(layers) == len(info.layers) else "+".join(layers),
            "pool": pool,
            "window": window / second,
            "hop": hop / second,
            "tail": self.tail or info.tail,
            "n_layers": len(layers),
            "n_dims": widths.pop() * (2 if pool == "mean_std" else 1),
            "column": column,
            "step": step,
        }
        for name in ("decoder", "resampler"):  # what a run was trained on, unless asked otherwise
            if getattr(self, name) == getattr(type(self)(), name):
                found[name] = getattr(taken, name)
        follows = {name: found[name] for name in ("n_layers", "n_dims", "column", "step")}
        check_facts(self, follows, "encoder, which gives", "model")
        return self.replace(**found)

    def _described(self) -> EncoderInfo:
        from featstore.models.encoders import describe_encoder

        given = self.weights
        if not given:
            from featstore.models.encoder_fetch import fetched_place, how_to_fetch

            given = fetched_place(self.model) or ""
            if not given:
                raise self._refuse(f"no weights of {self.model} are here", how_to_fetch(self.model))
        return described_weights(self, given, lambda path: describe_encoder(self.model, path), self._lacking, "model")

    @property
    def weights_digest(self) -> str:
        """Digest of what decides the vectors."""
        return self.weights

    def weights_facts(self) -> dict[str, Any]:
        """Licence and source of the weights, and what they were trained on, as far as it is known."""
        info = encoder_of(self).info
        seen = {} if info.trained_on is None else info.trained_on.as_json()
        return {"model": self.model, "licence": info.licence, "source": info.source, **seen}

    # -- computation -------------------------------------------------------------------------------------------------

    @property
    def _columns(self) -> tuple[int, int]:
        second = self.sample_rate / self.column
        return round(self.window * second), round(self.hop * second)

    def _source(self) -> FeatureSpec:
        """Feature that the encoder takes, of the same signal; needs the weights."""
        taken = parse_spec(encoder_of(self).info.at(self.sample_rate).takes)
        return taken.replace(decoder=self.decoder, resampler=self.resampler, clip=self.clip)

    def check(self) -> None:
        """Refuse clips that no window fits into."""
        if self.clip.policy != "whole" and self.clip.excerpt_samples(self.sample_rate) < self.column:
            raise self._refuse(f"the clip {self.clip} is shorter than a column of {self.column} samples", "Lengthen it")

    def graph(self) -> Node:
        """Node of the stored vectors, behind what the encoder takes."""
        window, hop = self._columns
        settings: dict[str, Any] = {name: getattr(self, name) for name in _SETTINGS}
        settings |= {"window": window, "hop": hop, "shape": self.item_shape}
        return Node.make("embedding", self._source().graph(), EMBEDDING, **settings)

    def frames(self, n_samples: int) -> int:
        """Vectors of a track of ``n_samples`` at the encoder's rate; exact where the weights are available."""
        from featstore.models.encoder_windows import n_frames, n_windows

        window, hop = self._columns
        known = weights_place(self.weights) is not None
        left = self.clip.samples_left(self.sample_rate, n_samples)
        columns = self._source().frames(n_samples) if known else left // self.column + (self.column > 1)
        info = encoder_of(self).info if known else None
        least, field = (info.least, max(layer.field for layer in info.layers.values())) if info else (1, 1)
        grid: dict[str, Any] = {"window": window, "hop": hop, "least": least, "align": self.tail == "align"}
        windows = n_windows(columns, **grid)
        if self.per == "track":
            return min(1, windows)
        if self.pool != "none" or not windows:
            return windows
        return n_frames(columns, **grid, step=self.step, field=field)

    @property
    def fixed_length(self) -> int | None:
        """One vector of every track, where they are pooled."""
        return 1 if self.per == "track" and self.clip.policy != "every" else None

    @property
    def frame_step(self) -> int:
        """Samples between vectors; of one vector a track, those of a window."""
        if self.pool == "none":
            return self.step * self.column
        return self._columns[1 if self.per == "window" else 0] * self.column

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Layers and dimensions."""
        return (self.n_layers, self.n_dims)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of one track."""
        return ("layer", "dimension", "frame" if self.pool == "none" else "window")

    def short(self) -> str:
        """Name with what differs from the usual; a store that has the feature can complete it."""
        shown = [f"model={self.model}"]
        shown += [f"weights={self.weights[:12] if is_digest(self.weights) else self.weights}"] if self.weights else []
        shown += [f"layers={self.layers}"] if self.layers else []
        shown += [f"pool={self.pool}"] + ([f"per={self.per}"] if self.per != "window" else [])
        shown += [f"{name}={getattr(self, name):g}" for name in ("window", "hop") if getattr(self, name) is not None]
        return short_name(self, shown)


def _is_place(model: str) -> bool:
    """Whether a name is meant as a path: it has a separator, or something is there."""
    return os.sep in model or os.path.exists(os.path.expanduser(model))


def _layers(spec: EmbeddingSpec, info: EncoderInfo) -> list[str]:
    """Names of the layers asked for, in the encoder's order."""
    names = list(info.layers)
    asked = spec.layers or info.usual_layers
    if asked in ("all", "last"):
        return names if asked == "all" else names[-1:]
    wanted = [name.strip() for name in asked.split("+")]
    for name in wanted:
        if name not in names:
            allowed = f"0 to {names[-1]}" if names[0] == "0" else ", ".join(names)
            raise SpecError(f"{info.model} has no layer {name}", "embedding spec", f"It has {allowed}")
    return [name for name in names if name in wanted]


def encoder_of(spec: EmbeddingSpec | Node) -> FrozenEncoder:
    """Open the encoder that a spec names, or take the one that is open already.

    Raises
    ------
    CheckpointError
        When the weights are not found, or the file there holds others by now.
    """
    from featstore.models.encoders import describe_encoder, load_encoder

    get: Any = spec.__getitem__ if isinstance(spec, Node) else functools.partial(getattr, spec)
    return opened_weights("embedding", get("model"), get("weights"), load_encoder, describe_encoder)


def _open(node: Node) -> EncoderCoder:
    encoder = encoder_of(node)
    names = list(encoder.info.layers) if node["layers"] == "all" else node["layers"].split("+")
    pool = "none" if node["per"] == "track" else node["pool"]
    return _coder(encoder, tuple(names), pool)


@functools.lru_cache(maxsize=8)
def _coder(encoder: FrozenEncoder, names: tuple[str, ...], pool: Pool) -> EncoderCoder:
    """One for all tracks: windows of one coder go together."""
    from featstore.models.encoder_windows import EncoderCoder

    return EncoderCoder(encoder, names, pool)


def _cut(coder: EncoderCoder, node: Node, context: TrackContext) -> TrackCutter:
    from featstore.models.window_cutters import GridCutter

    cutter = GridCutter(
        window=node["window"],
        hop=node["hop"],
        least=coder.encoder.info.least,
        align=node["tail"] == "align",
        where=context.where,
    )
    shortest = coder.encoder.info.least if node["tail"] == "align" else node["window"]
    return TrackCutter(cutter, context=context, least=f"a window of {shortest}", unit="columns")


def _gather(node: Node) -> TrackPool | None:
    from featstore.models.encoder_windows import TrackPool

    return TrackPool(node["pool"], node["shape"]) if node["per"] == "track" else None


EMBEDDING = WindowStep(_open, _cut, _gather)
