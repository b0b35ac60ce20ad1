"""Plain data out of pickle files: no function or class that a file names is imported or called.

Splits of published data sets come as pickles. The reader is the standard library's, in its Python form, with two
allow-lists: of instructions (those that build lists, tuples, dicts, texts and numbers, and those that NumPy's arrays
need), and of names. A name on the list gets a stand-in of ours that keeps its arguments; any other name ends the
reading. The stand-ins that describe arrays of plain numbers are then read as arrays.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from featstore.errors import DatasetError

__all__ = ["read_inert_pickle"]

_MOST_BYTES = 1 << 31
_PLAIN = frozenset("biuf")  # kinds of NumPy types that are plain numbers
_INSTRUCTIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *("GET", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG"),
    *("LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE"),
    *("SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_SET", "ADDITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
)
_NAMES = frozenset(
    {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("__builtin__", "bytes"), ("builtins", "bytes")}
    | {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
    | {(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")}
)


class _Stand:
    """In place of what a file would import; called, it keeps the arguments, and nothing else can be done to it."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...] | None = None) -> None:
        self.name, self.arguments = name, arguments
        self.state: tuple[Any, ...] = ()

    def __call__(self, *arguments: Any) -> _Stand:
        if self.arguments is not None:
            raise ValueError(f"it would call what {self.name} made")
        return _Stand(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        # only what NumPy gives a state: without this method any attribute could be set
        if self.arguments is None or self.name not in ("_reconstruct", "dtype") or not isinstance(state, tuple):
            raise ValueError(f"it would set attributes of {self.name}")
        self.state = state


class _Reader(pickle._Unpickler):  # the C form takes memory for a memo as large as a file asks for
    read: Callable[[int], bytes]  # of the standard reader, whose declared types lack it
    append: Callable[[Any], None]
    dispatch: ClassVar[dict[int, Any]] = {
        code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS)
    }

    def load_bytearray8(self) -> None:
        """Bytes that are there: the standard reader first takes memory for as many as the file says."""
        (size,) = struct.unpack("<Q", self.read(8))
        data = self.read(size)
        if len(data) != size:
            raise ValueError("the file ends in the middle")
        self.append(data)

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise ValueError(f"it would import {module}.{name}")
        return _Stand(name)


def read_inert_pickle(path: str | Path) -> Any:
    """Read lists, tuples, dicts, texts, numbers and NumPy arrays of numbers from a pickle file.

    Texts of Python 2 come as text when they are UTF-8, else as bytes; sets come as lists.

    Raises
    ------
    DatasetError
        When the file is no pickle, is cut short, or holds anything else.
    """
    source = Path(path)
    try:
        if source.stat().st_size > _MOST_BYTES:
            raise DatasetError("larger than 2 GiB", str(source), "This is no split of a data set")
        data = source.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", str(source), "Check the path") from error
    try:
        return _finished(_Reader(io.BytesIO(data), encoding="bytes").load(), {})
    except (
        *(ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, OverflowError, RecursionError),
        *(MemoryError, struct.error, pickle.UnpicklingError),
    ) as error:
        reason = str(error) or type(error).__name__
        raise DatasetError(f"not a pickle of plain data: {reason}", str(source), "Copy the file again") from error


def _finished(value: Any, known: dict[int, tuple[Any, Any]]) -> Any:
    """The value with texts and arrays in place, each container once however often the file refers to it."""
    if not isinstance(value, list | tuple | dict | set | _Stand):
        return _text(value)
    if id(value) in known:
        return known[id(value)][1]
    made: Any
    if isinstance(value, _Stand):
        made = _array(value)
    elif isinstance(value, dict):
        made = {_key(key): _finished(each, known) for key, each in value.items()}
    else:
        made = [_finished(each, known) for each in value]
        made = tuple(made) if isinstance(value, tuple) else made
    known[id(value)] = value, made  # the value is kept, so that its id stays its own
    return made


def _text(value: Any) -> Any:
    """Text of Python 2 as text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def _key(value: Any) -> Any:
    key = _text(value)
    if not isinstance(key, str | int | bytes):
        raise ValueError("a key is neither text nor a number")
    return key


def _array(stand: _Stand) -> Any:
    """An array, or bytes, from the records that NumPy and Python 3 write for them."""
    arguments = stand.arguments
    if arguments is None:
        raise ValueError(f"it refers to {stand.name}")
    if stand.name in ("encode", "bytes"):
        return _bytes(stand)
    if stand.name == "_reconstruct":
        _, shape, kind, fortran, content = stand.state
    elif stand.name == "_frombuffer":
        content, kind, shape, order = arguments
        fortran = _text(order) == "F"
    else:
        raise ValueError(f"it would call {stand.name}")
    values = np.frombuffer(_bytes(content), dtype=_dtype(kind))
    return values.reshape(shape, order="F" if fortran else "C")


def _bytes(content: Any) -> bytes:
    """Bytes, as they are or as Python 3 writes them in old protocols: a text and how to encode it."""
    if isinstance(content, _Stand):
        if content.name == "bytes" and content.arguments == ():
            return b""
        if content.name != "encode" or content.arguments is None or _text(content.arguments[1]) != "latin1":
            raise ValueError(f"it would call {content.name}")
        content = _text(content.arguments[0])
    return content.encode("latin-1") if isinstance(content, str) else bytes(memoryview(content))


def _dtype(kind: Any) -> np.dtype[Any]:
    """A type of plain numbers from NumPy's record of it."""
    if not isinstance(kind, _Stand) or kind.name != "dtype" or not kind.arguments:
        raise ValueError("an array has no type")
    dtype = np.dtype(str(_text(kind.arguments[0])))
    if dtype.kind not in _PLAIN:
        raise ValueError(f"an array is of type {dtype}")
    order = _text(kind.state[1]) if kind.state else "|"
    return dtype.newbyteorder("<" if order == "<" else ">" if order == ">" else "=")
