"""Make the golden stores of the present format; run once per format version, never over an existing one.

    python -m tests.golden.make_golden FOLDER BACKEND [pack] && tar -C FOLDER -czf tests/golden/NAME.tar.gz .

Values follow from ``values_of``, so that the tests need no file beside the stores. Uses only what every version has.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, create_store
from featstore.store.consolidate import consolidate
from featstore.store.missing import find_missing
from featstore.store.writing import add_arrays, note_request, write_shard

MEL = parse_spec("mel(sample_rate=100,n_mels=2,n_fft=64,hop_length=64,scale=db)")
WAVE = parse_spec("waveform(sample_rate=100)")
LENGTHS = {"one": 5, "two": 3, "three": -1, "four": 0, "five": 4}  # three failed, four is empty
ARRAYS = [(MEL, "float32", "none"), (MEL, "uint8", "none"), (WAVE, "int16", "zstd")]


def headers() -> list[tuple[ArrayHeader, str]]:
    found = []
    for spec, encoding, compression in ARRAYS:
        item = (spec.n_mels,) if spec is MEL else ()
        dims = ("band", "frame") if spec is MEL else ("sample",)
        found.append((ArrayHeader(spec, Encoding.parse(encoding, spec), item, dims), compression))
    return found


def values_of(track: str, header: ArrayHeader) -> np.ndarray:
    """Values of a track before encoding: a ramp on the scale's range, one value out of it."""
    n = max(0, LENGTHS[track])
    shape = (*header.item_shape, n)
    steps = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + len(track)
    if header.spec is WAVE or header.spec.kind == "waveform":
        return (np.sin(steps) * 0.9).astype(np.float32)
    values = -90 + 7 * steps
    if track == "five":
        values[0, 0] = 55.0  # beyond the range of the integer encodings
    return values.astype(np.float32)


def main(path: str, backend: str, records: str = "") -> None:
    if records == "pack":  # however few there are
        from featstore.store import record_pack

        record_pack.PACK_FROM = 1
    frame = pd.DataFrame(
        {"track_id": list(LENGTHS), "path": [f"music/{t}.wav" for t in LENGTHS], "labels": [["x", "y"]] * 5}
    )
    made = headers()
    store = create_store(Path(path), frame, [header for header, _ in made], shard_tracks=2, backend=backend)
    rows = {int(row): track for track, row in store.table.frame["row"].items()}
    note_request(store, [f"{MEL}@float32", f"{MEL.replace(hop_length=128)}@float32"])
    for header, compression in made:
        add_arrays(store, [header], compression)
        for shard, keys in find_missing(store, [header.key]):
            with write_shard(store, shard, keys) as writer:
                for slot, row in enumerate(store.shard_rows(shard)):
                    writer.begin(slot, f"{100 + row}:0123456789abcdef")
                    if LENGTHS[rows[row]] < 0:
                        writer.fail(slot, "failed", "decode", "cannot be decoded", f"music/{rows[row]}.wav")
                        continue
                    writer.append(header.key, values_of(rows[row], header))
                    writer.end()
                writer.commit({"featstore": "0.1.0", "numpy": "2.0.0"})
    consolidate(store)
    for folder in ("staging", "leases"):
        for leftover in sorted(Path(path, folder).rglob("*"), reverse=True):
            leftover.rmdir() if leftover.is_dir() else leftover.unlink()
        if Path(path, folder).is_dir():
            Path(path, folder).rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
