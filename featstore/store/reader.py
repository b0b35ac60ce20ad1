"""Reading features, stored or derived, behind one interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from featstore.arrays import FloatArray, IntArray
from featstore.errors import MissingFeature, StoreError, did_you_mean
from featstore.html_repr import html_card
from featstore.specs import FeatureSpec, View
from featstore.store.base_array import BaseArray, nothing_stored
from featstore.store.layout import ArrayHeader, StoredArray, choose_layout
from featstore.store.stored_tracks import StoredTracks

if TYPE_CHECKING:
    import xarray

__all__ = ["FeatureReader"]

Which = str | int | slice | Sequence[str]


class FeatureReader:
    """A feature of a store, stored or derived, behind one interface.

    Attributes
    ----------
    spec, encoding : FeatureSpec, Encoding
        What is read, and how its base is stored.
    base : BaseArray
        The stored array behind it.
    view : View
        How the feature follows from the base.
    lengths : numpy.ndarray
        Frames of every row of the store, -1 where nothing is stored; excerpts, where there is an axis of excerpts.
    clip_frames : int or None
        Frames of each excerpt, where there is an axis of excerpts.
    shape_of_item : tuple of int
        Axes of one track before time.
    item_dims : tuple of str
        Names of the axes of one track or excerpt, time last.
    dtype : numpy.dtype
        Type of what is read: float32, for tokens int32.
    missing : float or int
        What stands for *missing* in what is read: NaN, for tokens -1.
    shard_rows : list of range
        Rows of each committed shard, in storage order.

    See Also
    --------
    BaseArray : A stored array without its view.
    """

    def __init__(self, spec: FeatureSpec, view: View, base: BaseArray, tracks: StoredTracks, source: str) -> None:
        self.spec, self.view, self.base = spec, view, base
        old, self.encoding = base.header, base.header.encoding
        self.shape_of_item, dims = old.item_shape, old.dims
        self.dtype, self.missing = self.encoding.value_dtype, self.encoding.missing
        if view.codes:
            self.shape_of_item = (spec.width,)  # type: ignore[attr-defined]
            dims = tuple("dimension" if dim == "codebook" else dim for dim in dims)
            self.dtype, self.missing = np.dtype(np.float32), float("nan")
        self.item_dims = tuple(dim for dim in dims if dim != "clip")
        counts = (old.fixed_frames, old.clip_frames)
        fixed, self.clip_frames = (None if n is None else int(view.n_frames(n)) for n in counts)
        self._header = ArrayHeader(spec, self.encoding, self.shape_of_item, dims, fixed, self.clip_frames)
        self.lengths: IntArray = np.where(base.lengths < 0, -1, view.n_frames(base.lengths))
        if old.has_clips:  # the stride of a view is inside each excerpt
            self.lengths = base.lengths.copy()
        self.shard_rows = base.shard_rows
        self._rows = tracks.row_of
        self._source = source

    def __repr__(self) -> str:
        kind = "stored" if self.view.is_identity else f"view of {self.base.header.spec.short()}"
        return f"<{self.spec.short()}@{self.encoding.name}, {kind}, {len(self.track_ids)} tracks>"

    @property
    def name(self) -> str:
        """Canonical name with the encoding of what is stored."""
        return self._header.name

    def shape_of(self, n_frames: int, n_tracks: int) -> list[int]:
        """Shape of ``n_frames`` frames (or excerpts) of ``n_tracks`` tracks."""
        return list(self._header.shape_of(n_frames, n_tracks))

    @property
    def track_ids(self) -> list[str]:
        """Tracks for which the feature is there, in storage order."""
        return [track for track, row in sorted(self._rows.items(), key=lambda item: item[1]) if self.lengths[row] >= 0]

    def row_of(self, track_id: str) -> int:
        """Row of a track in the store.

        Raises
        ------
        MissingFeature
            For a track that the store does not know, with near misses.
        """
        try:
            return self._rows[track_id]
        except KeyError:
            near = did_you_mean(str(track_id), self._rows) if len(self._rows) < 10000 else "See store.tracks"
            raise MissingFeature(f"no track {track_id!r}", self._source, near) from None

    def stored_row(self, track_id: str) -> int:
        """Row of a track that is stored.

        Raises
        ------
        MissingFeature
            For a track that the store does not have, or has nothing of.
        """
        row = self.row_of(track_id)
        if self.lengths[row] < 0:
            raise nothing_stored(f"track {track_id!r}", self.name)
        return row

    def rows_of(self, track_ids: Sequence[str]) -> IntArray:
        """Row of each track in the store, -1 for tracks that it does not know."""
        return np.fromiter(map(self._rows.get, track_ids, repeat(-1)), np.int64, len(track_ids))

    def read_row(self, row: int, start: int = 0, stop: int | None = None) -> FloatArray:
        """Decoded values (*item_shape, stop - start) of the feature's own frames: float32, for tokens int32."""
        n_frames = int(self.lengths[row])
        stop = n_frames if stop is None else stop
        stride = self.view.stride
        if self.clip_frames is not None:
            excerpts = self.view.apply(self.encoding.decode(self.base.read(row, start, stop)[..., ::stride]))
            return np.asarray(excerpts, dtype=self.dtype)
        if stride > 1 and stop > n_frames:
            raise StoreError(f"frames {start} to {stop} lie outside the track's {n_frames}", self.name, "Ask for less")
        # of no frames nothing is asked for: the base may end before the place where the next one would begin
        first, behind = (start * stride, (stop - 1) * stride + 1) if stop > start else (0, 0)
        codes = self.base.read(row, first, behind)
        values: FloatArray = self.view.apply(self.encoding.decode(codes[..., ::stride]))
        return values

    def __getitem__(self, which: Which | tuple[Which, slice]) -> FloatArray:
        """Values of a track (*item_shape, frames), or of several (tracks, *item_shape, frames).

        One track by its id or its place; several by a list of ids or a slice of places: ``mel["a.wav"]``, ``mel[0]``,
        ``mel[["a.wav", "b.wav"]]``, ``mel[:10]``. A second index cuts frames: ``mel["a.wav", 100:200]``.
        """
        tracks, frames = cast("Which", which), slice(None)
        if isinstance(which, tuple) and isinstance(which[-1], slice):  # other tuples are lists of ids
            tracks, frames = which
        start, stop = frames.start or 0, frames.stop
        if frames.step not in (None, 1) or start < 0 or (stop is not None and stop < start):
            raise StoreError(
                f"frames [{start}:{stop}:{frames.step}] are not a range forward in steps of 1",
                self.spec.short(),
                "Write mel[track, 100:200]",
            )
        if isinstance(tracks, slice):
            return self.read(self.track_ids[tracks], start, stop)
        if not isinstance(tracks, str | int | np.integer):
            return self.read(tracks, start, stop)
        track_id = tracks if isinstance(tracks, str) else self._at(int(tracks))
        row = self.stored_row(track_id)
        length = int(self.lengths[row])
        stop = length if stop is None else min(stop, length)
        return np.array(self.read_row(row, min(start, stop), stop), dtype=self.dtype)

    def _at(self, place: int) -> str:
        ids = self.track_ids
        try:
            return ids[place]
        except IndexError:
            raise MissingFeature(
                f"no track number {place}", self.spec.short(), f"There are {len(ids)}, from 0"
            ) from None

    # -- as a mapping from track ids to arrays -----------------------------------------------------------------------

    def __len__(self) -> int:
        return int((self.lengths >= 0).sum())

    def __iter__(self) -> Iterator[str]:
        return iter(self.track_ids)

    def __contains__(self, track_id: object) -> bool:
        return track_id in self._rows and bool(self.lengths[self._rows[str(track_id)]] >= 0)

    def keys(self) -> list[str]:
        """Tracks for which the feature is there, in storage order."""
        return self.track_ids

    _ipython_key_completions_ = keys

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all tracks read at once, along :attr:`dims`: as long as the longest one."""
        return tuple(self.shape_of(int(self.lengths.max(initial=0)), len(self)))

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of several tracks, time last: ``("track", "band", "frame")``."""
        return ("track", *self._header.dims)

    def _repr_html_(self) -> str:
        spec = self.spec
        seconds = int(self.lengths.max(initial=0)) * spec.frame_step / spec.sample_rate
        kept = "stored" if self.view.is_identity else f"view of {self.base.header.spec.short()}"
        rows = [
            ("shape", " × ".join(f"{size} {dim}s" for size, dim in zip(self.shape, self.dims, strict=True))),
            ("values", f"{self.dtype}, {spec.unit}" if spec.unit != "1" else str(self.dtype)),
            ("longest", f"{seconds:.1f} s" if self.clip_frames is None else f"{self.shape[1]} clips"),
            ("kept", f"{kept}, {self.encoding.name}, {self.bytes_alone / 1e6:.3g} MB alone"),
            ("name", self.name),
        ]
        return html_card(spec.short(), rows)

    def read(self, track_ids: Iterable[str], start: int = 0, stop: int | None = None) -> FloatArray:
        """Values (tracks, *item_shape, frames) of several tracks, frames ``start`` to ``stop``.

        With an axis of excerpts, (tracks, clips, *item_shape, frames): excerpts ``start`` to ``stop``, whole.

        Parameters
        ----------
        track_ids : iterable of str
        start, stop : int
            Frames of the feature; ``stop=None`` goes to the end of the longest track: to ``start`` where that lies
            behind it.

        Returns
        -------
        float32 array, for tokens int32
            NaN past the end of a track, for tokens -1.
        """
        ids = [track_ids] if isinstance(track_ids, str) else list(track_ids)
        rows = [self.stored_row(track_id) for track_id in ids]
        stop = max([start, *(int(self.lengths[row]) for row in rows)]) if stop is None else stop
        if not 0 <= start <= stop:
            raise StoreError(
                f"start={start} and stop={stop} are no range of frames", self.name, "Give 0 <= start <= stop"
            )
        out = np.full(self.shape_of(stop - start, len(rows)), self.missing, dtype=self.dtype)
        for place, row in enumerate(rows):
            end = min(stop, int(self.lengths[row]))
            if end > start:
                self.base.header.stretch(out[place], 0, end - start)[...] = self.read_row(row, start, end)
        return out

    def to_xarray(self, track_ids: Sequence[str] | None = None) -> xarray.DataArray:
        """Return the feature as a DataArray, all of it in memory, with units on its values and axes.

        Coordinates are track ids, seconds of the centre of each frame, and Hz of the centre of each band or bin.
        """
        import xarray

        spec, dims = self.spec, self.dims
        ids = self.track_ids if track_ids is None else list(track_ids)
        values = self.read(ids)
        seconds = spec.first_centre_s + np.arange(values.shape[-1]) * (spec.frame_step / spec.sample_rate)
        coords: dict[str, Any] = {
            "track": ids,
            dims[-1]: (dims[-1], seconds, {"units": "s", "long_name": "centre, from the start of what was cut"}),
        }
        if self.clip_frames is not None:
            starts = np.arange(values.shape[1]) * spec.clip.step_s
            coords["clip"] = ("clip", starts, {"units": "s", "long_name": "start"})
        centres = spec.band_centres
        if centres is not None:
            coords[dims[-2]] = (dims[-2], np.asarray(centres), {"units": "Hz", "long_name": "centre frequency"})
        attributes = {
            "spec": str(spec),
            "units": spec.unit,
            "sample_rate": spec.sample_rate,
            "encoding": str(self.encoding),
        }
        return xarray.DataArray(values, coords=coords, dims=dims, name=spec.kind, attrs=attributes)

    # -- sizes ----------------------------------------------------------------------------------------------------

    @property
    def bytes_added(self) -> int:
        """Bytes that this feature adds to a store that holds its base: none for a view."""
        return self.base.nbytes if self.view.is_identity else 0

    @property
    def bytes_alone(self) -> int:
        """Bytes of this feature stored on its own, in the base's encoding.

        What is stored is measured on disk. A view's size is that of the files an uncompressed store of it would have,
        to the byte in Zarr, but for the attributes with an encoding's measured error, and a few kB of HDF5's own
        in each of its files; with compression it is scaled by what the base achieves.
        """
        if self.view.is_identity or self.view.codes:
            return self.base.nbytes
        own, base = self._forecast(self._header, self.lengths), self._forecast(self.base.header, self.base.lengths)
        if self.base.layout.compression == "none":
            return own
        return round(own * self.base.nbytes / max(1, base))

    def _forecast(self, header: ArrayHeader, lengths: IntArray) -> int:
        array = StoredArray(header, choose_layout(header, self.base.layout.shard_tracks))
        used = [length for rows in self.shard_rows for length in lengths[rows.start : rows.stop]]
        backend = self.base.backend
        longest = header.fixed_frames if header.fixed_frames is not None else int(max(used, default=0))
        metadata = sum(map(len, backend.array_files(array, self.base.n_rows, longest).values()))
        frame_counts = len(self.shard_rows) * (4 * array.layout.shard_tracks + 4)
        return array.layout.data_bytes(header, used) + metadata + frame_counts
