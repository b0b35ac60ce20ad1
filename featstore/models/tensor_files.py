"""Named tensors in files: safetensors and torch's own containers, read lazily, and never by running what they hold."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from featstore.atomic import atomic_path
from featstore.errors import CheckpointError

__all__ = [
    "TensorFile",
    "digest_of_tensors",
    "find_files",
    "finite_tensor",
    "json_of",
    "load_torch",
    "open_tensors",
    "place_tensors",
    "read_tensors",
    "save_tensors",
    "sha256_of",
]

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")
_FETCH = "Fetch the checkpoint again"
_CODE = "the file holds more than tensors and plain values, and reading that would run code"
_CONVERT = (
    "Convert it where you trust it: torch.save({'hps': {}, 'model': model.state_dict()}, FILE) with nothing but "
    "tensors and plain values in it, or safetensors.torch.save_file"
)


class TensorFile:
    """Tensors of a checkpoint by name, whatever holds them.

    Attributes
    ----------
    name : str
        Path, for messages and provenance.
    names : list of str
        All tensors, as they are stored.
    config : dict
        Settings that came along: ``hps``, ``config.json``, or a file's own metadata.
    """

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.name, self._files = str(path), files
        self.config: dict[str, Any] = {}
        self._tensors: dict[str, tuple[tuple[int, ...], Callable[[], torch.Tensor]]] = {}

    @property
    def names(self) -> list[str]:
        """Stored names, sorted."""
        return sorted(self._tensors)

    def put(self, name: str, shape: tuple[int, ...], read: Callable[[], torch.Tensor]) -> None:
        """Add a tensor that is read when asked for."""
        self._tensors[name] = shape, read

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._tensors[name][0]

    def finite(self, name: str) -> torch.Tensor:
        """Read a tensor as float32.

        Raises
        ------
        CheckpointError
            When it is not of a floating type, or holds NaN or infinity.
        """
        return finite_tensor(name, self._tensors[name][1](), self.name)

    def sha256(self) -> str:
        """Digest of the bytes: see :func:`sha256_of`."""
        return sha256_of(*self._files)


def finite_tensor(name: str, tensor: torch.Tensor, where: str) -> torch.Tensor:
    """Float32 copy of a tensor; ``CheckpointError`` for another type, or for NaN and infinity."""
    if not tensor.is_floating_point():
        raise CheckpointError(f"{name} holds {tensor.dtype}, not floating numbers", where, _FETCH)
    values = tensor.to(torch.float32).contiguous().clone()
    if not bool(torch.isfinite(values).all()):
        raise CheckpointError(f"{name} holds a value that is not finite", where, _FETCH)
    return values


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """All tensors of a file or folder as float32, but for the counters of batch norms, which nothing reads.

    Raises
    ------
    CheckpointError
        As :func:`open_tensors` and :meth:`TensorFile.finite`.
    """
    with open_tensors(Path(path)) as opened:
        return {name: opened.finite(name) for name in opened.names if not _is_counter(name)}


def place_tensors(
    state: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    network: str,
    where: str,
    fix: str,
    *,
    rename: Callable[[str], str] = lambda name: name,
    optional: Callable[[str], bool] = _is_counter,
) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint by a network's own names: each at its place, and none left over.

    Parameters
    ----------
    state : mapping
        By stored names.
    wanted : mapping
        The network's ``state_dict``, for its names and shapes.
    network : str
        What the message calls it: ``a ResNet-18``.
    where, fix : str
        For messages.
    rename : callable
        Takes a stored name, gives the network's.
    optional : callable
        Says which names may be missing: the counters of batch norms, by default.

    Raises
    ------
    CheckpointError
        A tensor is missing, left over, or of another shape.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        place = rename(name)
        if place not in wanted:
            raise CheckpointError(f"{name} has no place in {network}", where, fix)
        if tensor.shape != wanted[place].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(wanted[place].shape)}"
            raise CheckpointError(f"{name} has shape {shapes}", where, fix)
        found[place] = tensor
    lost = sorted(name for name in set(wanted) - set(found) if not optional(name))
    if lost:
        more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise CheckpointError(f"the checkpoint lacks {lost[0]}{more}", where, fix)
    return found


def sha256_of(*files: Path) -> str:
    """Digest of a file's bytes; of several files, over their digests in the order of their names."""
    if len(files) > 1:
        each = (f"{file.name}:{sha256_of(file)}\n" for file in sorted(files))
        return hashlib.sha256("".join(each).encode()).hexdigest()
    with open(files[0], "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_tensors(tensors: Mapping[str, torch.Tensor], notes: Mapping[str, Any] | None = None) -> str:
    """32 hexadecimal digits over the sorted (name, shape, float32 little-endian bytes), and notes if any."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().astype("<f4", copy=False).tobytes())
    for name, value in sorted((notes or {}).items()):
        digest.update(f"{name}={value}".encode())
    return digest.hexdigest()[:32]


def save_tensors(
    target: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors as safetensors, in one atomic step.

    Raises
    ------
    StoreError
        The disk is full or refuses.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(target) as part:
        try:
            save_file(dict(tensors), part, metadata=dict(metadata))
        except SafetensorError as error:  # the system's refusal, as text: "… (os error 28)"
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code)) from error


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file, or a folder as transformers writes them; tensors are read one by one, on request.

    Raises
    ------
    CheckpointError
        When it is missing, truncated, of no known form, or a pickle that would run code.
    """
    files, config = find_files(path)
    with ExitStack() as stack:
        opened = TensorFile(path, files)
        opened.config.update(config)
        for file in files:
            (_add_safetensors if file.suffix == ".safetensors" else _add_torch)(file, opened, stack)
        yield opened


def find_files(path: Path) -> tuple[list[Path], dict[str, Any]]:
    """Files of weights at a path, and the settings beside them; see :func:`open_tensors`."""
    if path.is_file():
        return [path], {}
    if not path.is_dir():
        raise CheckpointError("there is no checkpoint", str(path), "Check the path; nothing is fetched")
    config = json_of(path / "config.json")
    for single in _SINGLES:
        if (path / single).is_file():
            return [path / single], config
    for index in _INDICES:
        if (path / index).is_file():
            shards = sorted(set(json_of(path / index).get("weight_map", {}).values()))
            foreign = [name for name in shards if Path(str(name)).name != name]
            if foreign:
                raise CheckpointError(f"{index} names {foreign[0]}, outside its folder", str(path), _FETCH)
            lost = [name for name in shards if not (path / name).is_file()]
            if lost or not shards:
                raise CheckpointError(
                    f"{index} names {lost[0] if lost else 'no file'}, which is not there", str(path), _FETCH
                )
            return [path / name for name in shards], config
    raise CheckpointError(
        f"the folder holds none of {', '.join(_SINGLES + _INDICES)}", str(path), "Give the file itself, or its folder"
    )


def json_of(path: Path) -> dict[str, Any]:
    """Content of a JSON file beside weights; empty where there is none.

    Raises
    ------
    CheckpointError
        When it cannot be read, or holds no object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read it as JSON: {error}", str(path), _FETCH) from error
    if not isinstance(content, dict):
        raise CheckpointError("it is no JSON object", str(path), _FETCH)
    return content


def _add_safetensors(file: Path, opened: TensorFile, stack: ExitStack) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        handle = stack.enter_context(safe_open(file, framework="pt"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"the file is truncated or no safetensors: {error}", str(file), _FETCH) from error
    for value in (handle.metadata() or {}).values():
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("hps"), dict):
            opened.config.update(found["hps"])
    for name in handle.keys():  # noqa: SIM118 (not a mapping)
        shape = tuple(handle.get_slice(name).get_shape())
        opened.put(name, shape, lambda handle=handle, name=name: handle.get_tensor(name))  # type: ignore[misc]


def _add_torch(file: Path, opened: TensorFile, stack: ExitStack) -> None:
    content = load_torch(file)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"it holds a {type(content).__name__}, no state dict", str(file), "Give another file")
    state = content.get("model", content)
    if isinstance(content.get("hps"), Mapping):
        opened.config.update(content["hps"])
    if not isinstance(state, Mapping):
        raise CheckpointError(f"its 'model' is a {type(state).__name__}, no state dict", str(file), "Give another file")
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor):
            opened.put(str(name), tuple(tensor.shape), lambda tensor=tensor: tensor)  # type: ignore[misc]


def load_torch(file: Path, *, refused: str = _CODE, fix: str = _CONVERT) -> Any:
    """Tensors and plain values of a torch file; anything that would have to be run is refused.

    Parameters
    ----------
    file : Path
    refused, fix : str
        What the message says of a file that names something else, before its name, and what to do.

    Raises
    ------
    CheckpointError
        The file is no torch file, is damaged, or would run code.
    """
    with open(file, "rb") as handle:
        start = handle.read(4)
    zipped = zipfile.is_zipfile(file)
    if not zipped and start[:2] == b"PK":
        raise CheckpointError("the file is truncated: its zip directory is missing", str(file), _FETCH)
    if not zipped and start[:1] != b"\x80":
        raise CheckpointError(
            "this is no checkpoint: neither safetensors nor a torch file", str(file), "Check the path"
        )
    try:
        # a whole model's file is many GB: only what is asked for leaves the disk
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if ("Weights only load failed" in str(error) and "Unsupported" in str(error)) or "GLOBAL" in str(error):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))  # and not torch's advice to allow it
            raise CheckpointError(f"{refused}: {found[1]}" if found else refused, str(file), fix) from error
        raise CheckpointError("the file is truncated or damaged", str(file), _FETCH) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, AssertionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].partition("weights_only")[0]
        raise CheckpointError(f"the file is truncated or damaged: {first}", str(file), _FETCH) from error
