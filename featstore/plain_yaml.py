"""YAML as plain values: nothing is executed, and what a few bytes unfold to is bounded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from featstore.errors import ConfigError

__all__ = ["parse_yaml", "read_yaml"]

MAX_VALUES = 100_000  # an alias repeats all that its anchor holds: nine lines of them make a billion values


def parse_yaml(text: str, where: str, fix: str = "Check the YAML") -> Any:
    """Return the plain values of a YAML text; None where it is empty.

    Parameters
    ----------
    text : str
    where, fix : str
        For messages.

    Raises
    ------
    ConfigError
        The text is no YAML of plain values, unfolds to too many of them, or has a key twice in one mapping.

    Examples
    --------
    >>> parse_yaml("loop: {epochs: 20}", "settings")
    {'loop': {'epochs': 20}}
    """
    import yaml

    loader = None
    try:
        loader = yaml.SafeLoader(text)  # refuses control characters at once
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MAX_VALUES:
            raise ConfigError(f"it unfolds to more than {MAX_VALUES:,} values", where, "Write it without aliases")
        _refuse_repeated_keys(node, where)
        return loader.construct_document(node)
    except ConfigError:  # a ValueError, too
        raise
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}", where, fix) from error
    except (RecursionError, ValueError, OverflowError) as error:  # nested without end; dates that no calendar has
        found = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"not valid YAML: {found}", where, fix) from error
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: str | os.PathLike[str], shape: str, fix: str) -> dict[Any, Any]:
    """Return the mapping that a YAML file holds.

    Parameters
    ----------
    path : path
    shape, fix : str
        For messages: what is wrong with a file that holds no mapping, and how to write one.

    Raises
    ------
    ConfigError
        The file cannot be read, or is no YAML of a mapping.
    """
    place = os.fspath(path)
    try:
        content = parse_yaml(Path(place).read_text(encoding="utf-8"), place, fix)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", place, "Check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8 text", place, fix) from error
    if not isinstance(content, dict):
        raise ConfigError(shape, place, fix)
    return content


def _count(node: Any, known: dict[int, int]) -> int:
    """Values below a node, aliases unfolded; an alias inside its own anchor counts as too many."""
    if id(node) not in known:
        known[id(node)] = MAX_VALUES  # met again before it is counted: it holds itself
        children = node.value if isinstance(node.value, list) else []
        pairs = (each if isinstance(each, tuple) else (each,) for each in children)
        known[id(node)] = 1 + sum(_count(child, known) for pair in pairs for child in pair)
    return known[id(node)]


def _refuse_repeated_keys(node: Any, where: str) -> None:
    """The library would take the last of equal keys and drop the others silently."""
    children = node.value if isinstance(node.value, list) else []
    seen: set[tuple[str, str]] = set()
    for child in children:
        if not isinstance(child, tuple):
            _refuse_repeated_keys(child, where)
            continue
        key, value = child
        if isinstance(key.value, str):
            if (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"{key.value} is given twice (line {line})", where, "Keep one of them")
            seen.add((key.tag, key.value))
        _refuse_repeated_keys(value, where)
