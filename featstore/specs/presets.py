"""Named sets of features, and grids: what stands behind ``-f NAME`` and ``-f FILE.yaml``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from featstore.errors import ConfigError, SpecError, did_you_mean
from featstore.plain_yaml import parse_yaml
from featstore.specs.base import FeatureSpec
from featstore.specs.encoding import Encoding
from featstore.specs.kinds import KINDS
from featstore.specs.names import FeatureRequest, parse_feature

__all__ = ["MAX_FEATURES", "PRESETS", "expand_features", "expand_grid"]

MAX_FEATURES = 1000  # a larger grid is a slip of the pen, and is refused before anything is read

_STUDY: dict[str, Any] = {
    "sample_rate": [12000, 16000],
    "clip": "centre(29.1 s)",
    "framing": "essentia",
    "window_symmetric": True,
    "scale": ["log10_1p", "db"],
}

# name -> what a YAML file of features would list: specs, and grids (mappings whose lists are products)
PRESETS: dict[str, list[str | Mapping[str, Any]]] = {
    # Ferraro et al. 2020, Table II: 2 rates x 2 logs x (3 sizes x 6 hops + 4 small sizes) = 88 configurations
    "ferraro2020": [
        _STUDY | {"n_mels": [128, 96, 48], "hop_length": [256, 512, 768, 1024, 1280, 2560]},
        _STUDY | {"n_mels": [32, 24, 16, 8], "hop_length": 256},
    ],
    "vgg-12k": ["mel(sample_rate=12000,clip=centre(29.1 s),framing=essentia,window_symmetric=yes,n_mels=96,scale=db)"],
    # what the packaged MUSICNN models were trained on
    "musicnn": ["mel(sample_rate=16000,n_mels=96,pad_mode=reflect,scale=log10_1p)"],
    # Chang et al. 2021, the mel baseline: 160 x 376 of every 3 s, a new one each 0.5 s. Each excerpt is analysed by
    # itself: 0.5 s is no whole number of hops, so that excerpts are no slices of the track's own spectrogram
    "sincresnet-mel": [
        "mel(sample_rate=16000,clip=every(3 s,0.5 s,pad=zeros),n_fft=512,hop_length=128,n_mels=160,power=1,"
        "scale=db(amin=1e-5,factor=20))"
    ],
    # what AST sees in Bu et al. 2022: 128 x 3308 of 30 s, with the analysis of AST's own front end (25 ms)
    "ast-128": [
        "mel(sample_rate=22050,clip=start(30 s,pad=zeros),n_fft=1024,win_length=551,hop_length=200,n_mels=128,fmin=20,"
        "mel_scale=htk,norm=none,scale=ln(eps=1.1920929e-07))"
    ],
    "jamendo-96": ["mel(sample_rate=12000,n_mels=96,framing=essentia,window_symmetric=yes,scale=db)"],
    "panns-64": [
        "mel(sample_rate=32000,n_fft=1024,hop_length=320,n_mels=64,fmin=50,fmax=14000,pad_mode=reflect,scale=db)"
    ],
    # Kamuni et al. 2024 compare spectra with the tokens of Jukebox: 44.1 kHz, 64 bands, transforms of 2048 samples with
    # a shorter window in their middle (the filterbank of a transform of 512 would have empty bands at other sizes).
    # One frame for each top-level token of Jukebox, over the same time: frame t is centred on sample 128 t + 64
    "spectroformer-token": [
        "mel(sample_rate=44100,n_fft=2048,win_length=512,hop_length=128,framing=token,n_mels=64,scale=ln)"
    ],
    # one frame for each four tokens, with the same short window
    "spectroformer-11ms": [
        "mel(sample_rate=44100,n_fft=2048,win_length=512,hop_length=512,framing=token,n_mels=64,scale=ln)"
    ],
    "spectroformer-46ms": ["mel(sample_rate=44100,n_fft=2048,hop_length=512,n_mels=64,scale=ln)"],
    "spectroformer-46ms-sparse": ["mel(sample_rate=44100,n_fft=2048,hop_length=2048,n_mels=64,scale=ln)"],
}


def expand_grid(grid: Mapping[str, Any], where: str = "grid") -> list[FeatureRequest]:
    """All combinations of a mapping whose lists are alternatives: ``{kind: mel, n_mels: [96, 48]}`` is two features.

    Raises
    ------
    SpecError
        For an unknown kind, or more than :data:`MAX_FEATURES` combinations (named before any of them is made).
    """
    fields = {name: value for name, value in grid.items() if name not in ("kind", "encoding")}
    choices = {"kind": grid.get("kind", "mel"), **fields, "encoding": grid.get("encoding")}
    choices = {name: value if isinstance(value, list) else [value] for name, value in choices.items()}
    kinds = {str(kind): KINDS.load(str(kind), where) for kind in choices["kind"]}
    for name, values in choices.items():
        if not values:
            raise SpecError(f"{name} has an empty list", where, "Give at least one value")
    total = math.prod(map(len, choices.values()))
    if total > MAX_FEATURES:
        sizes = " x ".join(f"{name}: {len(values)}" for name, values in choices.items() if len(values) > 1)
        raise SpecError(
            f"the grid has {total:,} combinations ({sizes}); at most {MAX_FEATURES} are allowed",
            where,
            "Shorten its lists, or split it into several files",
        )
    requests = []
    for kind, *values, encoding in itertools.product(*choices.values()):
        spec = kinds[str(kind)].from_text(dict(zip(fields, values, strict=True)))
        requests.append(_in_encoding(spec, encoding))
    return requests


def _in_encoding(spec: FeatureSpec, encoding: str | None) -> FeatureRequest:
    return FeatureRequest(spec, None if encoding is None else Encoding.parse(encoding, spec))


def _from_yaml(path: Path) -> list[FeatureRequest]:
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except ConfigError as error:
        raise SpecError(f"cannot read the feature file: {error.what}", str(path), error.fix) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the feature file: {error}", str(path), "Check the path and the YAML") from error
    if isinstance(content, Mapping) and "features" in content:
        content = content["features"]
    return _expand_items(content if isinstance(content, list) else [content], str(path))


def _expand_items(items: Iterable[Any], where: str, encoding: str | None = None) -> list[FeatureRequest]:
    """Features of specs, preset names and grids; ``encoding`` is that of all of them, where it is given."""
    requests: list[FeatureRequest] = []
    for item in items:
        if isinstance(item, str):
            requests += expand_features([item if encoding is None else f"{item}@{encoding}"])
        elif isinstance(item, Mapping):
            for grid in _grids(item, where):
                requests += expand_grid(grid if encoding is None else grid | {"encoding": encoding}, where)
        else:
            raise SpecError(f"{item!r} is no feature", where, "Write a spec, a preset name, or a mapping of fields")
    return requests


def _grids(entry: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Grids of ``{kind: mel, n_mels: …}`` as well as of ``{mel: {n_mels: …}, stft: {…}}``."""
    if entry and set(entry) <= set(KINDS):
        for kind, fields in entry.items():
            for grid in fields if isinstance(fields, list) else [fields or {}]:
                if not isinstance(grid, Mapping):
                    raise SpecError(f"{grid!r} under {kind} is no mapping", where, "Write fields, as n_mels: [96, 48]")
                yield {**grid, "kind": kind}
    else:
        yield dict(entry)


def expand_features(
    items: Iterable[str | FeatureSpec | FeatureRequest | Path], encoding: str | None = None
) -> list[FeatureRequest]:
    """Turn specs, preset names and YAML files into a list of distinct features, in the order given.

    Parameters
    ----------
    items : iterable of str, FeatureSpec, FeatureRequest or Path
        Each a spec (``mel(n_mels=48)``, ``mel(...)@uint8``), a preset's name, or the path of a YAML file.
    encoding : str, optional
        Encoding for those that name none.

    Raises
    ------
    SpecError
        When an item is none of the three, or the whole exceeds :data:`MAX_FEATURES`.

    See Also
    --------
    parse_feature : A single name.
    """
    requests: dict[FeatureRequest, None] = {}
    for item in items:
        for request in _expand_one(item):
            requests[request if request.encoding else _in_encoding(request.spec, encoding)] = None
    if len(requests) > MAX_FEATURES:
        raise SpecError(
            f"{len(requests):,} features asked for; at most {MAX_FEATURES} are allowed", "", "Shorten the list"
        )
    if not requests:
        raise SpecError(
            "no feature asked for", "", "Give at least one -f SPEC, for example -f 'mel(n_mels=96,scale=db)'"
        )
    return list(requests)


def _expand_one(item: str | FeatureSpec | FeatureRequest | Path) -> list[FeatureRequest]:
    if isinstance(item, Path):
        item = str(item)
    if not isinstance(item, str):
        return [parse_feature(item)]
    name, at, encoding = item.partition("@")
    if name in PRESETS:
        return _expand_items(PRESETS[name], name, encoding if at else None)
    if item.endswith((".yaml", ".yml")):
        return _from_yaml(Path(item))
    if "(" not in name and name.partition(".")[0] not in KINDS:
        raise SpecError(f"{name!r} is neither a feature kind nor a preset", "", did_you_mean(name, [*KINDS, *PRESETS]))
    return [parse_feature(item)]
