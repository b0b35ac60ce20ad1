"""The feature of each file as a run knows it: computed here, or through the extractor and a store."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import DecodeError, FeatstoreError
from featstore.specs import Encoding, FeatureRequest, FeatureSpec, View, view_of

if TYPE_CHECKING:
    from featstore.extract import ExtractOptions
    from featstore.store import Store
    from featstore.store.layout import ArrayHeader

__all__ = ["Item", "computed_features", "feature_function", "place_of", "stored_features"]

logger = logging.getLogger(__name__)

Item = tuple[str, "list[FloatArray] | None", str]
"""Path, its features (bands, frames) or None, note or error. Excerpts lie one after the other along time."""


def place_of(path: str) -> str:
    """One name for a file however it is written: its absolute path; a URL is one already."""
    return path if "://" in path else os.path.abspath(path)


def computed_features(paths: Sequence[str], requests: Sequence[FeatureRequest], short_decode: str) -> Iterator[Item]:
    """Decode each file and compute its features, here."""
    compute = feature_function(requests, short_decode)
    for path in paths:
        try:
            features, note = compute(path)
        except DecodeError as error:
            yield path, None, str(error)
        except FeatstoreError:
            raise
        except (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
            # one broken file must not end a run, whatever a library throws at it
            logger.debug("%s", path, exc_info=True)
            yield path, None, f"{type(error).__name__}: {error} [{path}]"
        else:
            yield path, features, note


def feature_function(
    requests: Sequence[FeatureRequest], short_decode: str
) -> Callable[[str], tuple[list[FloatArray], str]]:
    """Return the function from a path to its features as a store would give them, and a note."""
    from featstore.extract.execute import run_track
    from featstore.extract.plan import graph_for, header_of
    from featstore.extract.worker import judge

    forms = []
    for request in requests:
        encoding = request.encoding or Encoding()
        base, view = _stored_form(request.spec, encoding)
        forms.append((header_of(base, encoding), view))
    headers = {header.key: header for header, _ in forms}
    graph = graph_for(list(headers.values()))

    def compute(path: str) -> tuple[list[FloatArray], str]:
        blocks: dict[str, list[FloatArray]] = {key: [] for key in headers}
        report = run_track(path, graph, lambda key, block: blocks[key].append(block))
        if report.short:
            raise next(iter(report.short.values()))
        status, what = judge(report, short_decode)
        what = what or next(iter(report.silent.values()), "")
        if status == "short" and short_decode == "fail":
            raise DecodeError(what, path)
        found = []
        for header, view in forms:
            codes, _ = header.encoding.encode(_joined(blocks[header.key], header))
            values = view.apply(header.encoding.decode(codes))
            values = values if view.codes else np.asarray(values, header.encoding.value_dtype)
            found.append(_along_time(values) if header.clip_frames is not None else values)
        return found, what

    return compute


def _joined(blocks: list[FloatArray], header: ArrayHeader) -> FloatArray:
    """Blocks of frames put together, or blocks of excerpts (excerpts, bands, frames)."""
    whole = [block for block in blocks if len(block)]
    return np.concatenate(whole, 0 if header.has_clips else -1) if whole else np.zeros(header.shape_of(0), np.float32)


def _along_time(excerpts: FloatArray) -> FloatArray:
    """(excerpts, bands, frames) as (bands, excerpts * frames)."""
    return np.moveaxis(excerpts, 0, -2).reshape(*excerpts.shape[1:-1], -1)


def _stored_form(spec: FeatureSpec, encoding: Encoding) -> tuple[FeatureSpec, View]:
    """What is quantised, and how the feature follows from it: a view was trained on the values of its base."""
    tokens = spec.stored_as
    if tokens is not spec:  # code vectors: the tokens are computed, and looked up
        found = view_of(spec, tokens, encoding)
        assert found is not None
        return tokens, found.with_table(tokens.codebook()[0])
    if hasattr(spec, "scale") and encoding.is_integer and encoding != Encoding.parse(encoding.name, spec):
        for scale in ("db", "log10_1p"):
            base = spec.replace(scale=scale)
            view = view_of(spec, base, encoding) if encoding == Encoding.parse(encoding.name, base) else None
            if view is not None:
                return base, view
    view = view_of(spec, spec, encoding)
    assert view is not None
    return spec, view


def stored_features(
    paths: Sequence[str],
    requests: Sequence[FeatureRequest],
    place: str | os.PathLike[str],
    options: ExtractOptions | None,
) -> Iterator[Item]:
    """Bring a store up to date with the extractor, then read the features of each file from it."""
    from featstore.datasets.table import track_table
    from featstore.extract import extract
    from featstore.store import open_store

    if paths:
        absolute = [place_of(path) for path in paths]
        extract(track_table({"track_id": absolute, "path": absolute}, name="tag"), requests, place, options)
    store: Store = open_store(place)
    readers = [store[f"{request.spec}@{request.encoding or Encoding()}"] for request in requests]
    ledger = store.tracks
    ids = {place_of(path): path for path in paths} if paths else {track: track for track in ledger.index}
    for track, path in ids.items():
        status, error = (str(ledger.loc[track, column] or "") for column in ("status", "error"))
        if any(reader.lengths[reader.row_of(track)] < 0 for reader in readers):
            yield path, None, error or f"{status}: the store has nothing of it"
            continue
        found = [(reader[track], reader.clip_frames is not None) for reader in readers]
        yield path, [_along_time(values) if excerpts else values for values, excerpts in found], error
