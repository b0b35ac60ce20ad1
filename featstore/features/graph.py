"""Computations as values: a node is a step, its parameters, and the node that it takes its input from.

Equal nodes are the same computation, so that features which share steps share nodes, and a plan is a set of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from featstore.arrays import FloatArray

__all__ = ["Node", "Stream", "StreamFactory", "TrackContext", "chain_of", "children_of", "describe"]


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a computation.

    Attributes
    ----------
    op : str
        Name of the step: ``decode``, ``mono``, ``resample``, ``cut``, ``power_spectrum``, ``mel_bank``, …
    params : tuple of (str, value)
        Sorted by name; plain, hashable values.
    input : Node or None
        What the step works on; None for ``decode``, which reads the file.
    stream : callable or None
        Takes the node and a :class:`TrackContext`, returns the step at work on that track: a function of a module, so
        that it can be pickled. None for steps of the audio room.
    """

    op: str
    params: tuple[tuple[str, Any], ...]
    input: Node | None = None
    stream: StreamFactory | None = field(default=None, compare=False, repr=False)
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        # Nodes are looked up for every block of audio; hashing the whole chain each time would show.
        object.__setattr__(self, "_hash", hash((self.op, self.params, self.input)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Node, (self.op, self.params, self.input, self.stream)  # hashes of text differ between processes

    @classmethod
    def make(cls, op: str, source: Node | None = None, stream: StreamFactory | None = None, **params: Any) -> Node:
        """Make a node from keyword parameters."""
        return cls(op, tuple(sorted(params.items())), source, stream)

    def __getitem__(self, name: str) -> Any:
        return dict(self.params)[name]

    def __str__(self) -> str:
        inner = ", ".join(f"{name}={value}" for name, value in self.params)
        return f"{self.op}({inner})"


@dataclass(frozen=True, slots=True)
class TrackContext:
    """What a stream may know of the track it works on.

    Attributes
    ----------
    source_rate : int > 0
        Hz, of the decoded file.
    n_samples : int
        Length that the header declares, at ``source_rate``; -1 where it leaves that open. It may be wrong.
    where : str
        Track id or path, for messages.
    """

    source_rate: int
    n_samples: int = -1
    where: str = ""


class Stream(Protocol):
    """A node at work on one track. Blocks of any length go in along the last axis; what is ready comes out.

    The results, put together along the last axis, do not depend on where the blocks were cut, bit for bit. A block
    handed on, either way, is never written to again: the receiver may keep it.

    See Also
    --------
    make_stream : Makes one.
    """

    def push(self, block: FloatArray) -> FloatArray:
        """Take the next block; return what is ready, possibly of length 0."""
        ...

    def finish(self) -> FloatArray:
        """Say that the track ends here; return the rest."""
        ...


StreamFactory = Callable[[Node, TrackContext], Stream]


def chain_of(node: Node) -> list[Node]:
    """Return the nodes from the decoder up to ``node``.

    Examples
    --------
    >>> [step.op for step in chain_of(Node.make("mono", Node.make("decode")))]
    ['decode', 'mono']
    """
    chain = [node]
    while chain[-1].input is not None:
        chain.append(chain[-1].input)
    return chain[::-1]


def children_of(nodes: Iterable[Node]) -> dict[Node | None, list[Node]]:
    """Join the chains of several nodes into one tree: for each node what works on it, in order of appearance.

    The key None holds the roots.
    """
    children: dict[Node | None, list[Node]] = {None: []}
    for end in nodes:
        for node in chain_of(end):
            if node not in children:
                children[node] = []
                children[node.input].append(node)
    return children


def describe(nodes: Iterable[Node]) -> str:
    """Draw the tree of several nodes as text, one step a line.

    See Also
    --------
    graph_of : Makes the graph.
    """
    children = children_of(nodes)
    lines: list[str] = []

    def draw(node: Node, depth: int) -> None:
        lines.append("  " * depth + str(node))
        for child in children[node]:
            draw(child, depth + 1)

    for root in children[None]:
        draw(root, 0)
    return "\n".join(lines)
