"""Views written out as arrays of their own, from the stored base, at disk speed and without audio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featstore.errors import MissingFeature, StoreError
from featstore.extract.plan import header_of
from featstore.log import progress_bar
from featstore.specs import Encoding, FeatureRequest
from featstore.store.reader import FeatureReader
from featstore.store.records import Outcome
from featstore.store.store import Store, open_store
from featstore.version import __version__

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
    written: dict[str, int] = {}
    for request in requests:
        if request.spec.stored_as is not request.spec:
            raise StoreError(
                "code vectors are never stored: they would take a hundred times the tokens' room",
                request.spec.short(),
                "Read them as they are: every reader and loader looks them up",
            )
        source = store[FeatureRequest(request.spec)]
        wanted = request.encoding or _same_format(source, request)
        header = header_of(request.spec, wanted)
        if source.view.is_identity and source.encoding == wanted:
            written[header.key] = 0
            continue
        store.add_arrays([header], compression)
        written[header.key] = _derive_one(store, source, header.key)
    store.refresh()
    store.consolidate(finished=not store.missing(list(store.arrays)))
    return written


def _same_format(source: FeatureReader, request: FeatureRequest) -> Encoding:
    """Encoding of the base, with the range that fits the view's scale."""
    return Encoding.parse(source.encoding.name, request.spec)


def _derive_one(store: Store, source: FeatureReader, key: str) -> int:
    base_records = store.records(source.base.header.key)
    block = max(1, BLOCK_BYTES // (source.base.header.frame_bytes * source.view.stride))
    todo = [shard for shard, _ in store.missing([key]) if shard in base_records]
    with progress_bar(total=len(todo), desc="derive", unit="shard") as bar:
        for shard in todo:
            base = base_records[shard]
            outcomes = {outcome.row: outcome for outcome in base.outcomes}
            with store.shard_writer(shard, [key]) as writer:
                for slot, row in enumerate(store.shard_rows(shard)):
                    fingerprint = base.sources[slot]
                    writer.begin(slot, fingerprint)
                    known = outcomes.get(row, Outcome(row, "ok"))
                    if source.lengths[row] < 0:
                        writer.fail(slot, known.status, known.stage, known.error, known.path)
                        continue
                    for start in range(0, int(source.lengths[row]), block):
                        stop = min(start + block, int(source.lengths[row]))
                        writer.append(key, np.asarray(source.read_row(row, start, stop), dtype=np.float32))
                    writer.end(known.status, error=known.error, path=known.path)
                writer.commit(base.versions | {"featstore": __version__})
            bar.update(1)
    if not todo and not store.records(key):
        raise MissingFeature("the base has no committed shard", source.name, "Finish its extraction first")
    return len(todo)
