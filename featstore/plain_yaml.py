"""YAML as plain values: nothing is executed, and what a few bytes unfold to is bounded."""

from __future__ import annotations

from typing import Any

from featstore.errors import ConfigError

__all__ = ["parse_yaml"]

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
        The text is no YAML of plain values, or unfolds to too many of them.

    Examples
    --------
    >>> parse_yaml("loop: {epochs: 20}", "settings")
    {'loop': {'epochs': 20}}
    """
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MAX_VALUES:
            raise ConfigError(f"it unfolds to more than {MAX_VALUES:,} values", where, "Write it without aliases")
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}", where, fix) from error
    except (RecursionError, ValueError, OverflowError) as error:  # nested without end; dates that no calendar has
        found = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"not valid YAML: {found}", where, fix) from error
    finally:
        loader.dispose()


def _count(node: Any, known: dict[int, int]) -> int:
    """Values below a node, aliases unfolded; an alias inside its own anchor counts as too many."""
    if id(node) not in known:
        known[id(node)] = MAX_VALUES  # met again before it is counted: it holds itself
        children = node.value if isinstance(node.value, list) else []
        pairs = (each if isinstance(each, tuple) else (each,) for each in children)
        known[id(node)] = 1 + sum(_count(child, known) for pair in pairs for child in pair)
    return known[id(node)]
