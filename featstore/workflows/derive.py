"""Views written out as arrays of their own, from the stored base, at disk speed and without audio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featstore.errors import MissingFeature, StoreError
from featstore.extract.plan import header_of
from featstore.log import progress_bar
from featstore.specs import Encoding, FeatureRequest
from featstore.specs.encoding import MEASURED
from featstore.store.consolidate import consolidate
from featstore.store.garbage import swept
from featstore.store.layout import ArrayHeader
from featstore.store.missing import find_missing
from featstore.store.opening import open_store
from featstore.store.reader import FeatureReader
from featstore.store.records import CommitRecord, Outcome
from featstore.store.store import Store
from featstore.store.writing import add_arrays, write_shard
from featstore.version import __version__
from featstore.workflows.vector_ranges import ranged

__all__ = ["derive"]

BLOCK_BYTES = 64 << 20  # of the base at once: a long track never lies in memory whole


def derive(path: str, requests: Sequence[FeatureRequest], *, compression: str = "none") -> dict[str, int]:
    """Store views as arrays; shards that are there already stay.

    Parameters
    ----------
    path : path of a store
    requests : sequence of FeatureRequest
        Each must be stored or derivable; the encoding asked for, or the base's.
    compression : str

    Returns
    -------
    dict
        Array key to the number of shards written.

    Raises
    ------
    MissingFeature
        When the store holds nothing that a feature derives from.
    """
    store = open_store(path)
    sources: dict[str, FeatureReader] = {}
    headers: list[ArrayHeader] = []
    written: dict[str, int] = {}
    for request in requests:
        if request.spec.stored_as is not request.spec:
            raise StoreError(
                "code vectors are never stored: they would take a hundred times the tokens' room",
                request.spec.short(),
                "Read them as they are: every reader and loader looks them up",
            )
        source = store[FeatureRequest(request.spec)]
        request = request.complete(source.spec)  # what the name leaves open, the stored feature says
        wanted = request.encoding or Encoding.parse(source.encoding.name, request.spec)  # as the base
        if wanted.ranges == MEASURED:
            wanted = ranged(store, request, wanted, source)
        header = header_of(request.spec, wanted)
        written[header.key] = 0
        if not (source.view.is_identity and source.encoding == wanted):
            sources[header.key] = source
            headers.append(header)
    add_arrays(store, headers, compression)
    by_base: dict[str, list[str]] = {}
    for key, source in sources.items():
        by_base.setdefault(source.base.header.key, []).append(key)
    todo = [
        (base, shard, lacking)
        for base, keys in by_base.items()
        for shard, lacking in find_missing(store, keys)
        if shard in store.records(base)
    ]
    with swept(store.location), progress_bar(total=len(todo), desc="derive", unit="shard") as bar:
        for base, shard, keys in todo:
            _derive_shard(store, store.records(base)[shard], {key: sources[key] for key in keys})
            for key in keys:
                written[key] += 1
            bar.update(1)
    store.refresh()
    for key, source in sources.items():
        if not store.records(key):
            raise MissingFeature("the base has no committed shard", source.name, "Finish its extraction first")
    consolidate(store, finished=not find_missing(store))
    return written


def _derive_shard(store: Store, base: CommitRecord, sources: dict[str, FeatureReader]) -> None:
    """Write several views of one base's shard."""
    outcomes = {outcome.row: outcome for outcome in base.outcomes}
    with write_shard(store, base.shard, list(sources)) as writer:
        for slot, row in enumerate(store.shard_rows(base.shard)):
            writer.begin(slot, base.sources[slot])
            known = outcomes.get(row, Outcome(row, "ok"))
            if base.n_frames[slot] < 0:
                writer.fail(slot, known.status, known.stage, known.error, known.path)
                continue
            for key, source in sources.items():
                block = max(1, BLOCK_BYTES // (source.base.header.frame_bytes * source.view.stride))
                length = int(source.lengths[row])
                for start in range(0, length, block):
                    values = source.read_row(row, start, min(start + block, length))
                    writer.append(key, np.asarray(values, dtype=np.float32))
            writer.end(known.status, error=known.error, path=known.path)
        writer.commit(base.versions | {"featstore": __version__})
