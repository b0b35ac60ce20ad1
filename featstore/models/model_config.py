"""What the settings of all models have in common: sizes of input and output, and checks by the type of each field."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from featstore.errors import ConfigError
from featstore.typed_values import converted, without_numpy

__all__ = ["ModelConfig", "SpectrumConfig", "WaveformConfig", "check_fields", "check_most"]

_BOUNDS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "dropout": ("in [0, 1)", lambda value: 0 <= value < 1),
    "head_dropout": ("in [0, 1)", lambda value: 0 <= value < 1),
    "norm_momentum": ("in (0, 1]", lambda value: 0 < value <= 1),
    "width": ("a positive number up to 1,000", lambda value: 0 < value <= 1000),
}
"""What a field of this name may hold that is no whole number."""

MOST: dict[str, int] = {"n_frames": 2**31 - 1, "n_samples": 2**31 - 1, "depth": 256, "blocks": 256}
"""Largest value of a whole number of this name: lengths of inputs, and layers that are built one by one."""

MOST_OTHERS = 2**20
"""Largest whole number of any other field; what is larger would be built until memory is full."""

MOST_VALUES = 256
"""Values of a field that is a list, each of which is a layer, a filter bank, or something to be tried."""


def check_fields(config: Any, place: str, least: Mapping[str, int]) -> None:
    """Bring plain values to the type of their field, and refuse those that do not fit it.

    Whole numbers are positive, unless ``least`` has another bound for them; a ``Literal`` is one of its values; other
    numbers called as in the table above lie within its bounds. No size is above what ``MOST`` and its siblings say.

    Raises
    ------
    ConfigError
        With name and value of the first field that is refused.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, hint, given = field.name, hints[field.name], getattr(config, field.name)
        value = without_numpy(given)
        if value is not given:
            object.__setattr__(config, name, value)
        if typing.get_origin(hint) is typing.Literal:
            known = typing.get_args(hint)
            if not any(value == one and type(value) is type(one) for one in known):
                raise ConfigError(f"{name}={value!r} is none of {', '.join(map(str, known))}", place)
        elif hint is int or (hint == int | None and value is not None):
            bound = least.get(name, 1)
            if type(value) is not int or value < min(1, bound):
                what = "a positive whole number" if bound else "a whole number from 0 on"
                raise ConfigError(f"{name}={value!r} is not {what}", place)
            if value < bound:
                raise ConfigError(f"{name}={value} is too few: it takes at least {bound}", place)
        else:
            typed = converted(hint, value, name, place, commas=True)
            if typed != value:  # 1 stays 1 where 1.0 is meant: both are written into runs
                object.__setattr__(config, name, typed)
            bounds, fits = _BOUNDS.get(name, ("", lambda _: True))
            if not fits(typed):
                raise ConfigError(f"{name}={value!r} is not {bounds}", place)
        check_most(name, getattr(config, name), place)


def check_most(name: str, value: Any, place: str) -> None:
    """Refuse sizes that no machine could build, before it tries: whole numbers and lists of them, and long lists."""
    most = MOST.get(name.rpartition(".")[2], MOST_OTHERS)
    if isinstance(value, list | tuple) and len(value) > MOST_VALUES:
        raise ConfigError(f"{name} has {len(value):,} values: it takes at most {MOST_VALUES}", place, "Give fewer")
    for each in value if isinstance(value, list | tuple) else [value]:
        if type(each) is int and each > most:
            raise ConfigError(f"{name}={each} is too large: it takes at most {most:,}", place, "Lower it")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Settings of a model: sizes of its input, length of its output, and what else it is built from.

    Parameters
    ----------
    n_classes : int > 0
        Length of the output.

    Attributes
    ----------
    place : str
        What messages call the model.
    least : mapping of str to int
        Smallest values of whole numbers, where that is not 1.
    """

    n_classes: int

    place: ClassVar[str] = "model"
    least: ClassVar[Mapping[str, int]] = {}

    def __post_init__(self) -> None:
        check_fields(self, self.place, self.least)
        self._resolve()

    def _resolve(self) -> None:
        """Bring values to one form, and refuse those that do not go together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumConfig(ModelConfig):
    """Settings of a model of spectra.

    Parameters
    ----------
    n_mels, n_frames : int > 0
        Size of one input.
    """

    n_mels: int
    n_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveformConfig(ModelConfig):
    """Settings of a model of waveforms.

    Parameters
    ----------
    n_samples : int > 0
        Length of one input.
    """

    n_samples: int
