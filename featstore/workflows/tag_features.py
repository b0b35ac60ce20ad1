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

__all__ = ["Item", "computed_features", "feature_function", "place_of", "stored_features"]

logger = logging.getLogger(__name__)

Item = tuple[str, "FloatArray | None", str]
"""Path, feature (bands, frames) or None, note or error."""


def place_of(path: str) -> str:
    """One name for a file however it is written: its absolute path; a URL is one already."""
    return path if "://" in path else os.path.abspath(path)


def computed_features(paths: Sequence[str], request: FeatureRequest, short_decode: str) -> Iterator[Item]:
    """Decode each file and compute its feature, here."""
    compute = feature_function(request, short_decode)
    for path in paths:
        try:
            feature, note = compute(path)
        except DecodeError as error:
            yield path, None, str(error)
        except FeatstoreError:
            raise
        except (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
            # one broken file must not end a run, whatever a library throws at it
            logger.debug("%s", path, exc_info=True)
            yield path, None, f"{type(error).__name__}: {error} [{path}]"
        else:
            yield path, feature, note


def feature_function(request: FeatureRequest, short_decode: str) -> Callable[[str], tuple[FloatArray, str]]:
    """Return the function from a path to its feature as the store would give it, and a note."""
    from featstore.extract.execute import run_track
    from featstore.extract.plan import graph_for, header_of
    from featstore.extract.worker import judge

    encoding = request.encoding or Encoding()
    base, view = _stored_form(request.spec, encoding)
    header = header_of(base, encoding)
    graph = graph_for([header])

    def compute(path: str) -> tuple[FloatArray, str]:
        blocks: list[FloatArray] = []
        report = run_track(path, graph, lambda _, block: blocks.append(block))
        status, what = judge(report, short_decode)
        if status == "short" and short_decode == "fail":
            raise DecodeError(what, path)
        lead = tuple(header.item_shape)
        values = np.concatenate(blocks, axis=-1) if blocks else np.zeros((*lead, 0), np.float32)
        codes, _ = encoding.encode(values)
        return np.asarray(view.apply(encoding.decode(codes)), np.float32), what

    return compute


def _stored_form(spec: FeatureSpec, encoding: Encoding) -> tuple[FeatureSpec, View]:
    """What is quantised, and how the feature follows from it: a view was trained on the values of its base."""
    if encoding.is_integer and encoding != Encoding.parse(encoding.name, spec) and hasattr(spec, "scale"):
        for scale in ("db", "log10_1p"):
            base = spec.replace(scale=scale)
            view = view_of(spec, base, encoding) if encoding == Encoding.parse(encoding.name, base) else None
            if view is not None:
                return base, view
    view = view_of(spec, spec, encoding)
    assert view is not None
    return spec, view


def stored_features(
    paths: Sequence[str], request: FeatureRequest, place: str | os.PathLike[str], options: ExtractOptions | None
) -> Iterator[Item]:
    """Bring a store up to date with the extractor, then read the feature of each file from it."""
    from featstore.store import open_store

    if paths:
        _extract(paths, request, place, options)
    store: Store = open_store(place)
    reader = store[f"{request.spec}@{request.encoding or Encoding()}"]
    ledger = store.tracks
    ids = {place_of(path): path for path in paths} if paths else {track: track for track in ledger.index}
    for track, path in ids.items():
        status, error = (str(ledger.loc[track, column] or "") for column in ("status", "error"))
        if reader.lengths[reader.row_of(track)] < 0:
            yield path, None, error or f"{status}: the store has nothing of it"
        else:
            yield path, reader[track], error


def _extract(
    paths: Sequence[str], request: FeatureRequest, place: str | os.PathLike[str], options: ExtractOptions | None
) -> None:
    import pandas as pd

    from featstore.datasets import TableInfo, TrackTable
    from featstore.extract import extract

    absolute = [place_of(path) for path in paths]
    table = TrackTable(pd.DataFrame({"track_id": absolute, "path": absolute}), TableInfo(name="tag"))
    extract(table, [request], place, options)
