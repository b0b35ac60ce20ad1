"""Plain data out of pickle files without unpickling: nothing is imported, called or executed.

Splits of published data sets come as pickles. Their stream of instructions is walked here; lists, tuples, dicts,
texts and numbers are built, a reference to a class or function stays a name, and a call stays a record of what would
have been called. Only the records that NumPy writes for arrays of plain numbers are then read as arrays.
"""

from __future__ import annotations

import codecs
import io
import pickletools
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featstore.errors import DatasetError

__all__ = ["read_inert_pickle"]

_MOST_BYTES = 1 << 31
_PLAIN = frozenset("biuf")  # kinds of NumPy types that are plain numbers
_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"}
    | {"SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"}
    | {"BINBYTES8", "BYTEARRAY8"}
)


class _Mark:
    """Where an instruction that takes several values begins to take them."""


@dataclass(slots=True)
class _Name:
    """A class or function that the file refers to, by name only."""

    text: str


@dataclass(slots=True)
class _Call:
    """What would have been made by calling a name."""

    name: str
    arguments: Any
    state: Any = None


@dataclass(slots=True)
class _Machine:
    """Stack and memo of the walk."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        """Take off the stack what lies above the last mark, and the mark."""
        place = max(i for i, value in enumerate(self.stack) if isinstance(value, _Mark))
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values


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
        return _finished(_walk(io.BytesIO(data)))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise DatasetError(
            f"not a pickle of plain data: {str(error) or type(error).__name__}", str(source), "Copy the file again"
        ) from error


def _walk(file: io.BytesIO) -> Any:
    """Follow the instructions to the end; the value that is then on the stack."""
    machine = _Machine()
    while True:
        code = file.read(1)
        if not code:
            raise ValueError("the file ends in the middle")
        operation = _OPERATIONS.get(code.decode("latin-1"))
        if operation is None:
            raise ValueError(f"byte {code!r} is no instruction")
        if operation.name == "STOP":
            if len(machine.stack) != 1:
                raise ValueError("it does not hold one value")
            return machine.stack[0]
        if operation.name == "STRING":  # the standard reader takes ASCII only; arrays hold any byte
            argument: Any = codecs.escape_decode(file.readline().strip()[1:-1])[0]
        else:
            argument = operation.arg.reader(file) if operation.arg is not None else None
        _step(machine, operation.name, argument)


def _step(machine: _Machine, name: str, argument: Any) -> None:
    """Carry out one instruction."""
    stack, memo = machine.stack, machine.memo
    if name in _VALUES:
        old_text = name.endswith("STRING") and isinstance(argument, str)
        stack.append(argument.encode("latin-1") if old_text else argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name == "MARK":
        stack.append(_Mark())
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
    elif name in ("PROTO", "FRAME"):
        pass
    elif name in _COLLECT:
        _COLLECT[name](machine)
    else:
        _refer(stack, name, argument)


def _refer(stack: list[Any], name: str, argument: Any) -> None:
    """Instructions that would import or call: names and records take the place of what they would make."""
    if name == "GLOBAL":
        stack.append(_Name(str(argument).replace(" ", ".")))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_Name(f"{module}.{attribute}"))
    elif name in ("REDUCE", "NEWOBJ"):
        arguments, target = stack.pop(), stack.pop()
        stack.append(_Call(target.text, arguments))
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state = state
    else:
        raise ValueError(f"the instruction {name} makes more than plain data")


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    machine.stack[-1].append(value)


def _appends(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.stack[-1].extend(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.stack[-1][_key(key)] = value


def _set_items(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.stack[-1].update({_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)})


def _make_dict(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.stack.append({_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)})


def _make_tuple(size: int) -> Any:
    def make(machine: _Machine) -> None:
        if len(machine.stack) < size:
            raise ValueError("a tuple lacks values")
        values = tuple(machine.stack[-size:])
        del machine.stack[-size:]
        machine.stack.append(values)

    return make


_COLLECT: dict[str, Any] = {
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "LIST": lambda machine: machine.stack.append(machine.since_mark()),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.since_mark())),
    "DICT": _make_dict,
    "TUPLE1": _make_tuple(1),
    "TUPLE2": _make_tuple(2),
    "TUPLE3": _make_tuple(3),
    "POP": lambda machine: machine.stack.pop(),
}


def _key(value: Any) -> Any:
    key = _text(value)
    if not isinstance(key, str | int | bytes):
        raise ValueError("a key is neither text nor a number")
    return key


def _text(value: Any) -> Any:
    """Text of Python 2 as text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def _finished(value: Any) -> Any:
    """The value with texts and arrays in place; anything else that was to be called is refused."""
    if isinstance(value, list):
        return [_finished(each) for each in value]
    if isinstance(value, tuple):
        return tuple(_finished(each) for each in value)
    if isinstance(value, dict):
        return {key: _finished(each) for key, each in value.items()}
    if isinstance(value, _Call):
        return _array(value)
    if isinstance(value, _Name | _Mark):
        raise ValueError(f"it refers to {getattr(value, 'text', 'a mark')}")
    return _text(value)


def _array(call: _Call) -> Any:
    """An array, or bytes, from the records that NumPy and Python 3 write for them."""
    module, _, function = call.name.rpartition(".")
    if (module, function) == ("_codecs", "encode") and _text(call.arguments[1]) == "latin1":
        return _text(call.arguments[0]).encode("latin-1")
    if (module, function, call.arguments) == ("__builtin__", "bytes", ()):
        return b""
    if not module.startswith("numpy"):
        raise ValueError(f"it would call {call.name}")
    if function == "_reconstruct":
        _, shape, kind, fortran, content = call.state
    elif function == "_frombuffer":
        content, kind, shape, order = call.arguments
        fortran = _text(order) == "F"
    else:
        raise ValueError(f"it would call {call.name}")
    content = _array(content) if isinstance(content, _Call) else content
    values = np.frombuffer(content.encode("latin-1") if isinstance(content, str) else content, dtype=_dtype(kind))
    return values.reshape(shape, order="F" if fortran else "C")


def _dtype(kind: Any) -> np.dtype[Any]:
    """A type of plain numbers from NumPy's record of it."""
    if not isinstance(kind, _Call) or kind.name != "numpy.dtype":
        raise ValueError("an array has no type")
    dtype = np.dtype(str(_text(kind.arguments[0])))
    if dtype.kind not in _PLAIN:
        raise ValueError(f"an array is of type {dtype}")
    order = _text(kind.state[1]) if kind.state is not None else "|"
    return dtype.newbyteorder("<" if order == "<" else ">" if order == ">" else "=")
