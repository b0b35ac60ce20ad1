"""The track table: one row per track, the one thing that every data set adapter returns."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from featstore.arrow_files import arrow_file
from featstore.atomic import write_bytes
from featstore.datasets.frame_facts import frame_facts, kept_attributes, label_facts, label_list, with_ids
from featstore.datasets.sources import check_column, refuse_repeats
from featstore.datasets.spelling import clean_names
from featstore.errors import DatasetError, did_you_mean
from featstore.object_storage import ObjectPlace, is_object_url, read_object
from featstore.plain import is_missing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["PROBE_COLUMNS", "SPLITS", "TableInfo", "Task", "TrackTable", "label_facts", "label_list", "track_table"]

logger = logging.getLogger(__name__)

Task = Literal["multi_label", "single_label", "none"]

SPLITS = ("train", "valid", "test")
PROBE_COLUMNS = ("duration_s", "source_sample_rate", "channels", "size_bytes", "probe_error")

_METADATA_KEY = b"featstore"
_FORMAT = 1
_TEXT = ("split", "group", "probe_error")
_INTEGERS = ("source_sample_rate", "channels", "size_bytes")
_MOST = 2.0**63  # what a column of whole numbers cannot hold


@dataclass(frozen=True, slots=True, kw_only=True)
class TableInfo:
    """What is true of a whole table.

    Attributes
    ----------
    name : str
        Name of the data set, as reports show it.
    task : "multi_label", "single_label" or "none"
    classes : tuple of str
        All labels, in the order of the columns of a target.
    label_column : str
        The column that holds the labels.
    root : str
        The folder the tracks were found in.
    notes : str
        Anything a reader should know: terms of use, what was left out.
    """

    name: str
    task: Task = "none"
    classes: tuple[str, ...] = ()
    label_column: str = "labels"
    root: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.task not in ("multi_label", "single_label", "none"):
            raise DatasetError(
                f"unknown task {self.task!r}", f"data set {self.name}", "Use multi_label, single_label or none"
            )
        twice = sorted(name for name, count in Counter(self.classes).items() if count > 1)
        if twice:
            raise DatasetError(f"classes listed twice: {', '.join(twice)}", f"data set {self.name}", "List each once")


@dataclass(frozen=True, slots=True, eq=False)
class TrackTable:
    """Tracks with their files, labels, splits and groups; checked when made.

    Attributes
    ----------
    frame : pandas.DataFrame
        One row per track: ``track_id``, ``path`` (absolute), ``labels`` (list of str), ``split`` (``train``, ``valid``,
        ``test`` or None), ``group`` (str or None), ``duration_s``, ``source_sample_rate``, ``channels``,
        ``size_bytes``, ``probe_error``, then any further columns. Columns that are not given are filled with
        "unknown" (empty list, None, NaN or NA).
    info : TableInfo

    See Also
    --------
    featstore.datasets.index : Make the table of a data set.
    featstore.datasets.assign_splits : Draw splits for its tracks.
    featstore.datasets.check_table : What is wrong with it.

    Raises
    ------
    DatasetError
        For an empty table, a missing column, an id or path that is empty, two rows with one id, a split that does
        not exist, a label outside ``info.classes``, or two labels on a track of a single-label set.
    """

    frame: pd.DataFrame
    info: TableInfo
    checked: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        place = f"data set {self.info.name}"
        frame = _normalised(self.frame, self.info, place)
        facts = {name: getattr(self.info, name) for name in ("name", "task", "label_column")}
        frame.attrs = {"featstore": {**facts, "classes": list(self.info.classes)}}  # a store keeps them with its tracks
        object.__setattr__(self, "frame", frame)
        if self.checked:
            _validate(self.frame, self.info, place)

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, checked: bool = True) -> TrackTable:
        """Read a table that ``write`` wrote; relative paths are resolved against the table's own folder.

        A file that another program wrote, such as pandas after an edit, needs the columns ``track_id`` and ``path``;
        task and classes are those that pandas kept, or what the labels make.

        ``checked=False`` reads even a table with faults, for programs that list them.

        Raises
        ------
        DatasetError
            When there is no such file, it is not a track table, is of a newer format, or breaks a rule of the table.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        source = os.fspath(path)
        try:
            # opened by Python: Arrow takes no path that is not valid UTF-8
            content = read_object(source) if is_object_url(source) else Path(source).read_bytes()
            table = pq.read_table(arrow_file(content))
        except (FileNotFoundError, IsADirectoryError):
            fix = "Make one: featstore datasets index folder MUSIC -o tracks.parquet"
            raise DatasetError("no track table here", source, fix) from None
        except (pa.ArrowException, OSError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            listed = source.lower().endswith((".csv", ".tsv", ".txt"))
            fix = f"Index it: featstore datasets index csv {source} -o tracks.parquet" if listed else "Make it again"
            raise DatasetError(f"not a parquet file: {reason}", source, fix) from error
        frame = with_ids(table.to_pandas())
        info = _info(table.schema.metadata or {}, frame, source)
        if "path" in frame.columns:
            folder = _folder_of(source)
            frame["path"] = [_joined(folder, each) for each in frame["path"]]
        return cls(frame, info, checked)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table as parquet in one atomic step; equal tables give equal bytes.

        Paths inside the table's own folder are written relative to it, so that the folder can move as a whole.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = os.fspath(path)
        if os.path.isdir(target):
            raise DatasetError("this is a folder, not a file to write to", target, "Name a file, like tracks.parquet")
        folder = _folder_of(target)
        frame = self.frame.assign(path=[_shortened(folder, each) for each in self.frame["path"]])
        columns = {name: _to_arrow(frame[name], name) for name in frame.columns}
        metadata = {"format": _FORMAT} | asdict(self.info)
        text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
        table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: text.encode()})
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        if is_object_url(target):
            folder, _, name = target.rpartition("/")
            ObjectPlace(folder).put(name, buffer.getvalue().to_pybytes())
        else:
            write_bytes(target, buffer.getvalue())

    def assign(self, **columns: Any) -> TrackTable:
        """The same tracks with some columns in place of others, as ``pandas.DataFrame.assign``."""
        return TrackTable(self.frame.assign(**columns), self.info)

    def with_labels(self, column: str) -> TrackTable:
        """The same tracks labelled by another column (text, or lists of text); that column stays.

        Raises
        ------
        DatasetError
            When there is no such column; the message names the columns there are.
        """
        check_column(column, self.frame.columns, f"data set {self.info.name}")
        labels, _ = clean_names([label_list(value) for value in self.frame[column]])
        frame = self.frame.assign(labels=_objects(labels))
        return TrackTable(frame, replace(self.info, label_column="labels", **label_facts(labels)))

    def targets(self) -> np.ndarray:
        """Targets of training, in the order of the rows.

        Returns
        -------
        float32 (n_tracks, n_classes) of 0 and 1 for a multi-label set; int64 (n_tracks,) for a single-label set, with
        -1 where a track has no label.

        Raises
        ------
        DatasetError
            When the set has no labels.
        """
        import numpy as np

        if self.info.task == "none" or not self.info.classes:
            raise DatasetError(
                "the table has no labels", f"data set {self.info.name}", "Index it again with --label-column"
            )
        position = {name: index for index, name in enumerate(self.info.classes)}
        labels = self.frame[self.info.label_column]
        if self.info.task == "single_label":
            return np.array([position[each[0]] if len(each) else -1 for each in map(label_list, labels)], np.int64)
        matrix = np.zeros((len(labels), len(position)), np.float32)
        for row, each in enumerate(labels):
            matrix[row, [position[name] for name in label_list(each)]] = 1.0
        return matrix


def track_table(
    tracks: pd.DataFrame | Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    *,
    notes: Sequence[str] = (),
    level: int = logging.INFO,
    **facts: Any,
) -> TrackTable:
    """Make the table of a data set from its tracks: columns, or one mapping for each track.

    Parameters
    ----------
    tracks : data frame, mapping of column to values, or sequence of mappings
    notes : sequence of str
        What a reader should know; kept in the table and logged at this level.
    **facts
        Further fields of :class:`TableInfo`.

    Raises
    ------
    DatasetError
        As :class:`TrackTable` does.
    """
    import pandas as pd

    info = TableInfo(notes="; ".join(notes), **facts)
    for note in notes:
        logger.log(level, "%s: %s", info.name, note)
    table = TrackTable(pd.DataFrame(tracks), info)
    logger.info("%s: %d tracks%s", info.name, len(table), info.root and f" under {info.root}")
    return table


def _normalised(frame: pd.DataFrame, info: TableInfo, place: str) -> pd.DataFrame:
    """Bring columns into the table's types and order; what is not given becomes "unknown"."""
    import pandas as pd

    for name in ("track_id", "path", *([info.label_column] if info.label_column != "labels" else [])):
        check_column(name, frame.columns, place)
    count = len(frame)
    columns: dict[str, Any] = {name: _objects([_text(value) for value in frame[name]]) for name in ("track_id", "path")}
    given: Any = frame["labels"] if "labels" in frame.columns else [[]] * count
    columns["labels"] = _objects([label_list(value) for value in given])
    for name in ("split", "group"):
        columns[name] = _text_column(frame, name)
    for name in ("duration_s", *_INTEGERS):
        columns[name] = _numbers(frame, name, place)
    columns["probe_error"] = _text_column(frame, "probe_error")
    for name in frame.columns:
        if name not in columns:
            columns[str(name)] = frame[name].array
    return pd.DataFrame(columns, columns=list(columns))


def _validate(frame: pd.DataFrame, info: TableInfo, place: str) -> None:
    """Raise ``DatasetError`` at the first rule that the table breaks."""
    if frame.empty:
        raise DatasetError("the table has no tracks", place, "Check the folder or file it was made from")
    for name in ("track_id", "path"):
        empty = [row for row, value in enumerate(frame[name]) if not value]
        if empty:
            raise DatasetError(f"row {empty[0]} has no {name}", place, f"Give every track a {name}")
    ids = frame["track_id"]
    twice = "two tracks have the id {0!r}: rows {1} and {2}"
    refuse_repeats(zip(ids, range(len(ids)), strict=True), twice, place, "Give each track its own id")
    for row, split in enumerate(frame["split"]):
        if split is not None and split not in SPLITS:
            what = f"unknown split {split!r} in row {row} ({ids.iloc[row]})"
            raise DatasetError(what, place, f"Use {', '.join(SPLITS)} or nothing")
    known = set(info.classes)
    for track_id, value in zip(ids, frame[info.label_column], strict=True):
        names = label_list(value)
        unknown = [name for name in names if name not in known] if info.task != "none" else []
        if unknown:
            what = f"label {unknown[0]!r} is not among the {len(known)} classes"
            raise DatasetError(what, f"{place}, track {track_id}", did_you_mean(unknown[0], known))
        if info.task == "single_label" and len(names) > 1:
            what = f"a single-label set with {len(names)} labels on one track: {', '.join(names)}"
            raise DatasetError(what, f"{place}, track {track_id}", "Keep one label, or make the task multi_label")


def _text(value: object) -> str:
    return "" if is_missing(value) else str(value)


def _text_column(frame: pd.DataFrame, name: str) -> Any:
    """A column of str or None."""
    values = frame[name] if name in frame.columns else [None] * len(frame)
    return _objects([None if is_missing(value) or value == "" else str(value) for value in values])


def _numbers(frame: pd.DataFrame, name: str, place: str) -> Any:
    """A column of float (seconds) or of whole numbers; a value that is no such number is named."""
    import pandas as pd

    whole = name in _INTEGERS
    numbers: list[float | None] = []
    for row, value in enumerate(frame[name] if name in frame.columns else [None] * len(frame)):
        try:
            number = None if is_missing(value) else float(value)
            valid = number is None or (0 <= number < _MOST and (not whole or number.is_integer()))
        except (TypeError, ValueError, OverflowError):
            valid = False
        if not valid:
            what = f"{name} of row {row} is {value!r}, not a {'whole ' if whole else ''}number from 0 on"
            raise DatasetError(what, place, "featstore fills this column itself: give yours another name")
        numbers.append(number)
    return pd.array(numbers, dtype="Int64" if whole else "float64")


def _objects(values: list[Any]) -> Any:
    """A series that keeps its values as they are: pandas' own text type would turn None into NaN."""
    import pandas as pd

    return pd.Series(values, dtype=object)


def _to_arrow(column: pd.Series, name: str) -> Any:
    import pyarrow as pa

    if name == "labels":
        return pa.array(list(column), pa.list_(pa.string()))
    if name in ("track_id", "path") or name in _TEXT:
        return pa.array(list(column), pa.string())
    if name in _INTEGERS:
        return pa.array(column, pa.int64())
    array = pa.Array.from_pandas(column)
    # pandas' large_string would read back as another type than the plain strings of other programs
    return array.cast(pa.string()) if pa.types.is_large_string(array.type) else array


def _folder_of(table: str) -> str:
    """Folder that a table's relative paths start from, on disk or in a bucket."""
    return table.rpartition("/")[0] if is_object_url(table) else os.path.abspath(os.path.dirname(table))


def _joined(folder: str, path: object) -> str:
    """An absolute path or URL, unless it is empty; names are taken as they are (no ``..`` is folded away)."""
    text = _text(path)
    return text if is_object_url(text) else os.path.join(folder, text) if text else ""


def _shortened(folder: str, path: str) -> str:
    prefix = folder if folder.endswith("/") else folder + "/"
    return path[len(prefix) :] if path.startswith(prefix) else path


def _info(metadata: Mapping[bytes, bytes], frame: pd.DataFrame, source: str) -> TableInfo:
    """What a file says of its tracks; where another program wrote it, what its columns say."""
    raw = metadata.get(_METADATA_KEY)
    if raw is None:
        if not {"track_id", "path"} <= set(frame.columns):
            fix = "It needs the columns track_id and path; or make one: featstore datasets index csv …"
            raise DatasetError("a parquet file, but not a track table of featstore", source, fix)
        return TableInfo(**frame_facts(frame, kept_attributes(metadata), Path(source).stem))
    try:
        values = json.loads(raw)
        version = int(values.pop("format"))
        info = TableInfo(**values) if version <= _FORMAT else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"its description is damaged: {error}", source, "Make the table again") from error
    if info is None:
        what = f"written in format {version}, this featstore reads up to {_FORMAT}"
        raise DatasetError(what, source, "Update featstore")
    return info
