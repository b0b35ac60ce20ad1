"""Local folders as transformers writes them: settings, model card, and weights that fill a module strictly.

Modules are those of ``transformers``, built from the folder's settings; code that a folder names is never run, nothing
is fetched, and a tensor that is missing is never drawn at random.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featstore.errors import CheckpointError, FeatstoreError, MissingDependency
from featstore.models.tensor_files import json_of, open_tensors, place_tensors
from featstore.models.trained_on import TrainedOn

__all__ = ["TransformersFolder", "import_transformers", "open_folder", "plain_name"]

_FETCH = "Fetch the checkpoint again"
_FOREIGN = ("auto_map", "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "_name_or_path")
_NORM_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


@dataclass(frozen=True, slots=True)
class TransformersFolder:
    """A folder whose settings were read and are of the right kind.

    Attributes
    ----------
    name : str
        Of the encoder or codec that it is opened for.
    path : Path
    where : str
        The path as it was given, for messages.
    config, preprocessor : dict
        Contents of ``config.json`` and ``preprocessor_config.json``; the second is empty where there is none.
    """

    name: str
    path: Path
    where: str
    config: dict[str, Any]
    preprocessor: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its ``model_type``."""
        return str(self.config["model_type"])

    def rate(self, usual: int, key: str = "sample_rate") -> int:
        """Sample rate in Hz that its settings name; ``usual`` where they name none.

        Raises
        ------
        CheckpointError
            When the two files contradict each other.
        """
        rates = {int(each) for each in (self.config.get(key), self.preprocessor.get("sampling_rate")) if each}
        if len(rates) > 1:
            raise CheckpointError(
                f"config.json and preprocessor_config.json name the rates {sorted(rates)}",
                self.where,
                "Correct the wrong one",
            )
        return rates.pop() if rates else usual

    def card(self) -> dict[str, Any]:
        """Header of the model card beside the weights; empty without one."""
        from featstore.plain_yaml import parse_yaml

        card = self.path / "README.md"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        before, fence, rest = text.partition("---\n")
        if not fence or before.strip():
            return {}
        try:
            found = parse_yaml(rest.partition("\n---")[0], str(card))
        except FeatstoreError:  # a card is prose: one that cannot be read says nothing
            return {}
        return found if isinstance(found, dict) else {}

    def provenance(self) -> dict[str, Any]:
        """Licence, source and training data, as far as the card says them."""
        card = self.card()
        data = card.get("datasets") or []
        names = " + ".join(map(str, data)) if isinstance(data, list) else str(data)
        return {
            "licence": str(card.get("license", "unknown")),
            "source": f"transformers folder {self.path.name}",
            "trained_on": TrainedOn(names) if names else None,
        }

    def build(self, stem: str, model: str = "", *, config: Mapping[str, Any] | None = None) -> torch.nn.Module:
        """Module of transformers with fresh float32 weights and eager attention, one implementation for all versions.

        Parameters
        ----------
        stem : str
            ``Hubert`` for ``HubertConfig`` and ``HubertModel``.
        model : str
            Name of the module's class, where it is not that.
        config : mapping, optional
            A part of the folder's settings, which are taken by default.

        Raises
        ------
        CheckpointError
            The settings make no such module.
        """
        library = import_transformers(f"a folder of {stem}")
        given = dict(self.config if config is None else config)
        given = {k: v for k, v in given.items() if k not in _FOREIGN and not k.startswith("quantization")}
        try:
            settings = getattr(library, f"{stem}Config")(**given)
            settings._attn_implementation = "eager"
            built: torch.nn.Module = getattr(library, model or f"{stem}Model")(settings).float()
        except Exception as error:  # the library raises whatever its parts do
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"config.json makes no {stem}: {first}", self.where, _FETCH) from error
        return built

    def fill(
        self,
        module: torch.nn.Module,
        *,
        rename: Callable[[str], str] = lambda name: name,
        left_out: tuple[str, ...] = (),
        optional: Collection[str] = (),
    ) -> dict[str, torch.Tensor]:
        """Fill a module with the folder's weights, each tensor at its place and none left over.

        Parameters
        ----------
        module : torch.nn.Module
        rename : callable
            Takes a stored name, gives the module's; a weight norm is ``weight_g`` and ``weight_v`` in both.
        left_out : tuple of str
            Beginnings of renamed names that belong to other parts of the checkpoint.
        optional : collection of str
            Tensors of the module that may be missing.

        Returns
        -------
        dict of str to tensor
            What was filled in, by plain names; the optional ones are left out.

        Raises
        ------
        CheckpointError
            A tensor is missing, left over, of another shape, or not finite; a shard is missing.
        """
        tensors = module.state_dict()
        own = {plain_name(name): name for name in tensors}
        wanted = {name: tensors[full] for name, full in own.items()}
        floats = {name: tensor for name, tensor in wanted.items() if tensor.is_floating_point()}
        counts = set(wanted) - set(floats)  # and tables of indices
        with open_tensors(self.path) as file:
            names = {stored: rename(plain_name(stored)) for stored in file.names}
            read = [stored for stored, name in names.items() if not name.startswith(left_out) and name not in counts]
            state = {stored: file.finite(stored) for stored in read}
        network = "the model that config.json describes"
        found = place_tensors(
            state, floats, network, self.where, _FETCH, rename=names.__getitem__, optional=optional.__contains__
        )
        module.load_state_dict({own[name]: tensor for name, tensor in found.items()}, strict=False)
        return {name: tensor for name, tensor in found.items() if name not in optional}


def import_transformers(purpose: str) -> Any:
    """Return the library, which is imported where it is used; ``MissingDependency`` with the purpose without it."""
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency.of("transformers", "codecs", purpose) from error
    return transformers


def open_folder(
    name: str, path: str | os.PathLike[str] | TransformersFolder, kinds: tuple[str, ...]
) -> TransformersFolder:
    """Read a folder's settings; one that was read already comes back as it is.

    Parameters
    ----------
    name : str
        The encoder, for messages.
    path : path
    kinds : tuple of str
        Values of ``model_type`` that are taken.

    Raises
    ------
    CheckpointError
        There is no folder with ``config.json``, it is of another model, or asks for code from the folder.
    """
    if isinstance(path, TransformersFolder):
        return path
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{name} is loaded from a folder with config.json and weights", str(path), "Give it")
    config, preprocessor = (json_of(folder / name) for name in ("config.json", "preprocessor_config.json"))
    kind = config.get("model_type")
    if kind not in kinds:
        raise CheckpointError(
            f"config.json is of model_type {kind!r}, not {' or '.join(kinds)}", str(path), "Name its own encoder"
        )
    if config.get("auto_map") and kind != "mert_model":
        raise CheckpointError(
            "config.json asks for code from the folder (auto_map), which is never run", str(path), "Remove auto_map"
        )
    return TransformersFolder(name, folder, str(path), config, preprocessor)


def plain_name(name: str) -> str:
    """Name of a tensor with one spelling of weight norms.

    Examples
    --------
    >>> plain_name("conv.parametrizations.weight.original0")
    'conv.weight_g'
    """
    for new, old in _NORM_NAMES.items():
        name = name.replace(new, old)
    return name
