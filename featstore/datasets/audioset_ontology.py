"""The ontology of AudioSet: a directed graph without cycles, in which a node may have several parents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from featstore.errors import DatasetError, check_known

__all__ = ["Ontology", "read_ontology"]


@dataclass(frozen=True, slots=True)
class Ontology:
    """The classes by id, in the order of the file.

    Attributes
    ----------
    names : mapping of str to str
        Display name of each.
    children : mapping of str to tuple of str
        Ids directly below each.
    """

    names: Mapping[str, str]
    children: Mapping[str, tuple[str, ...]]

    def below(self, mid: str) -> set[str]:
        """Ids of a node and of everything under it, each once."""
        found: set[str] = set()
        waiting = [mid]
        while waiting:
            each = waiting.pop()
            if each not in found:  # a node may have several parents
                found.add(each)
                waiting += self.children[each]
        return found

    def find(self, name: str) -> str:
        """Id of a node, given its id or its name.

        Raises
        ------
        ConfigError
            When there is no such node; the message lists near misses.
        """
        if name in self.names:
            return name
        by_name = {each: mid for mid, each in self.names.items()}
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
        names = {str(each["id"]): str(each["name"]) for each in entries}
        children = {str(each["id"]): tuple(map(str, each["child_ids"])) for each in entries}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DatasetError(f"not the ontology: {error}", str(source), "Copy the published file again") from error
    dangling = [(mid, child) for mid, below in children.items() for child in below if child not in names]
    if dangling:
        what = f"{dangling[0][0]} has the child {dangling[0][1]}, which does not exist"
        raise DatasetError(what, str(source), "Copy the published file again")
    try:
        TopologicalSorter(children).prepare()
    except CycleError as error:
        raise DatasetError(
            f"{min(error.args[1])} is below itself", str(source), "Copy the published file again"
        ) from None
    return Ontology(names, children)
