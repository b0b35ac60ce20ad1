"""All settings of training with their defaults and meanings, for listings."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any

from featstore.docstrings import field_meanings
from featstore.errors import ConfigError, check_known
from featstore.training import OBJECTIVES
from featstore.training.config import TrainConfig
from featstore.training.settings import as_mapping

__all__ = ["Setting", "list_settings", "sections"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes
    ----------
    name : str
        As after ``--set``: ``loop.epochs``.
    default : object
    takes, meaning : str
    """

    name: str
    default: Any
    takes: str
    meaning: str


def sections() -> list[str]:
    """Names of the sections, in the order of the configuration; those of a model are listed with the model."""
    return [name for name, hint in typing.get_type_hints(TrainConfig).items() if dataclasses.is_dataclass(hint)]


def list_settings(section: str = "") -> list[Setting]:
    """Settings of a section, or of all.

    Raises
    ------
    ConfigError
        For an unknown section.
    """
    known = typing.get_type_hints(TrainConfig)
    if section == "model":
        raise ConfigError("settings of a model are its own", "", "See: featstore models show NAME")
    if section:
        check_known(section, sections(), f"unknown section {section!r}")
    found: list[Setting] = []
    for name in [section] if section else sections():
        found += _settings_of(known[name], name)
        if name == "objective":
            for objective in OBJECTIVES:
                own = getattr(OBJECTIVES.load(objective), "Config", None)
                if own is not None and own is not known[name]:
                    found += [s for s in _settings_of(own, name, f" [{objective}]") if s.name != "objective.name"]
    if not section:
        found.append(Setting("seed", 0, "a whole number", "Of weights, order and crops."))
    return found


def _settings_of(kind: Any, section: str, note: str = "") -> list[Setting]:
    hints, meanings, defaults = typing.get_type_hints(kind), field_meanings(kind), as_mapping(kind())
    return [
        Setting(f"{section}.{name}", default, _takes(hints[name]), meanings.get(name, "") + note)
        for name, default in defaults.items()
    ]


def _takes(hint: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(map(str, arguments))
    if origin is tuple:
        return f"list of {_takes(arguments[0])}"
    if type(None) in arguments:
        return f"{_takes(next(each for each in arguments if each is not type(None)))}, or null"
    words = {int: "whole number", float: "number", bool: "true, false", str: "text", dict: "section"}
    return words.get(hint, words.get(origin, "section"))
