"""What models take: one entry for each kind of input, from the names of a feature's axes to the sizes of a model.

A reader's header names the axes of a track (``("band", "frame")``); the entry of that kind says what a model calls
their lengths (``n_mels``, ``n_frames``) and how examples are put together to a batch. A further kind of input is one
more entry of :data:`INPUT_KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError, check_known
from featstore.typed_values import build, converted

if TYPE_CHECKING:
    import torch

__all__ = ["INPUT_KINDS", "SEVERAL", "InputKind", "InputSize", "batched", "kind_of", "plain_inputs", "read_input"]

SEVERAL = "several"
"""What a model takes that gets its inputs as a dict by name; its ``Config`` has ``inputs``, each one's `InputSize`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputKind:
    """One kind of input.

    Attributes
    ----------
    article, title : str
        For messages: "a spectrum", "spectra".
    dims : tuple of tuple of str
        Names of the axes of a track, time last, as headers of stored features have them; each alternative.
    example : mapping of str to int
        What a model's ``Config`` calls the length of each axis, in the order of the axes; with a length at which costs
        are counted for models whose paper names none.
    stacked : bool
        A batch has an axis of channels, along which several inputs of one size are stacked: ``(batch, in_channels,
        *axes)``. Otherwise it is ``(batch, *axes)`` and a model takes one input.
    vocabulary : int
        For whole numbers: codes of a codebook in the example. ``Config`` has ``n_codes`` then, and batches are int64.
        0 for real values, which are float32.
    """

    article: str
    title: str
    dims: tuple[tuple[str, ...], ...]
    example: Mapping[str, int]
    stacked: bool = False
    vocabulary: int = 0

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of all sizes but ``n_classes``: of the axes in order, then the others."""
        others = ("in_channels",) * self.stacked + ("n_codes",) * bool(self.vocabulary)
        return (*self.example, *others)


INPUT_KINDS: Mapping[str, InputKind] = {
    "spectrum": InputKind(
        article="a spectrum",
        title="spectra",
        dims=(("band", "frame"), ("bin", "frame")),
        example={"n_mels": 96, "n_frames": 187},  # three seconds at 16 kHz and hop 256
        stacked=True,
    ),
    "waveform": InputKind(
        article="a waveform", title="waveforms", dims=(("sample",),), example={"n_samples": 48_000}, stacked=True
    ),
    "tokens": InputKind(
        article="a sequence of tokens",
        title="tokens",
        dims=(("codebook", "frame"),),
        example={"n_codebooks": 1, "n_frames": 1034},  # three seconds of Jukebox's lowest level
        vocabulary=2048,
    ),
    "vectors": InputKind(
        article="a sequence of code vectors",
        title="code vectors",
        dims=(("dimension", "frame"),),
        example={"n_dims": 64, "n_frames": 1034},
    ),
    "embedding": InputKind(
        article="an embedding",
        title="embeddings",
        dims=(("layer", "dimension", "window"), ("layer", "dimension", "frame")),
        example={"n_layers": 13, "n_dims": 768, "n_windows": 1},
    ),
}


def kind_of(dims: Sequence[str], where: str = "") -> str:
    """Kind of input that a feature with these axes is.

    Raises
    ------
    ConfigError
        No entry has these axes.

    Examples
    --------
    >>> kind_of(("band", "frame")), kind_of(("sample",))
    ('spectrum', 'waveform')
    """
    for name, kind in INPUT_KINDS.items():
        if tuple(dims) in kind.dims:
            return name
    listed = ", ".join(kind.title for kind in INPUT_KINDS.values())
    raise ConfigError(f"no model takes a feature with axes ({', '.join(dims)})", where, f"There are models of {listed}")


@dataclass(frozen=True, slots=True)
class InputSize:
    """Kind and size of one input.

    Attributes
    ----------
    kind : str
        An entry of :data:`INPUT_KINDS`.
    axes : tuple of int
        Length of each axis of one example, time last.
    n_codes : int or None
        Codes of a codebook, for tokens.
    """

    kind: str
    axes: tuple[int, ...]
    n_codes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))  # a list where it was read from JSON

    def __str__(self) -> str:
        return " x ".join(map(str, self.axes))

    @classmethod
    def of(cls, kind: str, sizes: Mapping[str, int]) -> InputSize:
        """Size from a model's own names for it."""
        return cls(kind, tuple(sizes[name] for name in INPUT_KINDS[kind].example), sizes.get("n_codes"))

    @property
    def sizes(self) -> dict[str, int]:
        """The same by a model's names."""
        named = dict(zip(INPUT_KINDS[self.kind].example, self.axes, strict=True))
        return named if self.n_codes is None else named | {"n_codes": self.n_codes}

    @property
    def as_picture(self) -> InputSize:
        """Frames of several layers as one spectrum, in which the layers follow each other in time."""
        layers, width, frames = self.axes
        return InputSize("spectrum", (width, layers * frames))

    def batch(self, n: int = 1, *, channels: int = 1, device: str = "meta") -> torch.Tensor:
        """Batch of zeros of this size: without memory on the device ``meta``, to count what a model costs."""
        import torch

        kind = INPUT_KINDS[self.kind]
        lead = (n, channels) if kind.stacked else (n,)
        dtype = torch.int64 if kind.vocabulary else torch.float32
        return torch.zeros((*lead, *self.axes), dtype=dtype, device=device)


def plain_inputs(inputs: Mapping[str, InputSize]) -> dict[str, Any]:
    """Inputs by name as JSON can hold them; ``InputSize(**value)`` reads each back."""
    return {
        name: {"kind": one.kind, "axes": list(one.axes), **({} if one.n_codes is None else {"n_codes": one.n_codes})}
        for name, one in inputs.items()
    }


def read_input(plain: Any, where: str = "") -> tuple[dict[str, InputSize], int, int]:
    """Inputs by name, frames between windows and between starts of crops, from a run's description.

    Raises
    ------
    ConfigError
        The description was edited, or is of another version: it is no mapping, lacks a key, or has a value of another
        type, an unknown kind, or sizes that are not those of its kind.
    """
    found = converted(dict[str, Any], plain, "input", where)
    inputs = {
        name: _checked(build(InputSize, size, f"{where}: input.inputs.{name}"), name, where)
        for name, size in converted(dict[str, Any], _plain_sizes(found, where), "input.inputs", where).items()
    }
    steps = [converted(int, found.get(name, 1), f"input.{name}", where) for name in ("stride", "grid")]
    if not inputs or "stride" not in found or min(steps) < 1:
        what = f"input={found!r} does not say its inputs, and its stride and grid in frames"
        raise ConfigError(what, where, "Restore the file, or train again")
    return inputs, steps[0], steps[1]


def _plain_sizes(plain: Mapping[str, Any], where: str) -> Any:
    """Inputs by name as plain values; runs of before version 0.4 have one input, or spectra by name."""
    if "inputs" in plain:
        return plain["inputs"]
    if plain.get("shapes"):
        shapes = converted(dict[str, Any], plain["shapes"], "input.shapes", where)
        return {name: {"kind": "spectrum", "axes": axes} for name, axes in shapes.items()}
    kind = "waveform" if plain.get("kind") == "waveform" else "spectrum"
    return {"input": {"kind": kind, "axes": [plain.get(n) for n in ("n_mels", "n_frames")[kind == "waveform" :]]}}


def _checked(size: InputSize, name: str, where: str) -> InputSize:
    """Refuse a kind that there is not, and sizes that are not those of the kind."""
    check_known(size.kind, INPUT_KINDS, f"input.inputs.{name} has the unknown kind {size.kind!r}", where)
    kind = INPUT_KINDS[size.kind]
    wanted = [*kind.example, *["n_codes"] * bool(kind.vocabulary)]
    given = [*size.axes, *([] if size.n_codes is None else [size.n_codes])]
    if len(given) != len(wanted) or min(given) < 1 or (size.n_codes is None) == bool(kind.vocabulary):
        what = f"input.inputs.{name} has sizes {given}, and {kind.title} have positive {', '.join(wanted)}"
        raise ConfigError(what, where, "Restore the file, or train again")
    return size


def batched(x: torch.Tensor, kind: str) -> torch.Tensor:
    """Input ``(batch, *axes)`` as a model takes it: with the axis of channels that its kind has, tokens as int64.

    Frames of several layers ``(batch, layers, dimensions, frames)`` are one picture for a model of spectra: the layers
    follow each other in time.
    """
    entry = INPUT_KINDS[kind]
    if kind == "spectrum" and x.ndim == 4:
        x = x.movedim(1, 2).flatten(2)
    x = x.unsqueeze(1) if entry.stacked else x
    return x.long() if entry.vocabulary else x
