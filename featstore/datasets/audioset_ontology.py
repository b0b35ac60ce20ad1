"""The ontology of AudioSet: a directed graph without cycles, in which a node may have several parents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from featstore.errors import DatasetError, check_known

__all__ = ["Node", "Ontology", "read_ontology"]


@dataclass(frozen=True, slots=True)
class Node:
    """A class of the ontology.

    Attributes
    ----------
    mid, name : str
    children : tuple of str
        Ids.
    restrictions : frozenset of str
        ``abstract`` (a heading, never a label), ``blacklist`` (hard to judge).
    """

    mid: str
    name: str
    children: tuple[str, ...]
    restrictions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ontology:
    """All nodes by id."""

    nodes: Mapping[str, Node]

    @property
    def roots(self) -> tuple[str, ...]:
        """Ids of the nodes without a parent, in the order of the file."""
        below = {child for node in self.nodes.values() for child in node.children}
        return tuple(mid for mid in self.nodes if mid not in below)

    def parents(self, mid: str) -> tuple[str, ...]:
        """Ids of the nodes that have this one as a child."""
        return tuple(node.mid for node in self.nodes.values() if mid in node.children)

    def below(self, mid: str) -> set[str]:
        """Ids of a node and of everything under it, each once."""
        return {mid}.union(*map(self.below, self.nodes[mid].children))

    def find(self, name: str) -> str:
        """Id of a node, given its id or its name.

        Raises
        ------
        ConfigError
            When there is no such node; the message lists near misses.
        """
        if name in self.nodes:
            return name
        by_name = {node.name: mid for mid, node in self.nodes.items()}
        check_known(name, by_name, f"no node {name!r}", "ontology of AudioSet")
        return by_name[name]


def read_ontology(source: Path) -> Ontology:
    """Read ``ontology.json``.

    Raises
    ------
    DatasetError
        When it is not JSON of the published form, names a child that does not exist, or holds a cycle.
    """
    try:
        entries = json.loads(source.read_bytes())
        nodes = {each.mid: each for each in map(_node, entries)}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DatasetError(f"not the ontology: {error}", str(source), "Copy the published file again") from error
    dangling = [(node.mid, child) for node in nodes.values() for child in node.children if child not in nodes]
    if dangling:
        what = f"{dangling[0][0]} has the child {dangling[0][1]}, which does not exist"
        raise DatasetError(what, str(source), "Copy the published file again")
    try:
        TopologicalSorter({mid: node.children for mid, node in nodes.items()}).prepare()
    except CycleError as error:
        raise DatasetError(
            f"{min(error.args[1])} is below itself", str(source), "Copy the published file again"
        ) from None
    return Ontology(nodes)


def _node(entry: Mapping[str, Any]) -> Node:
    children = tuple(map(str, entry["child_ids"]))
    return Node(str(entry["id"]), str(entry["name"]), children, frozenset(entry["restrictions"]))
