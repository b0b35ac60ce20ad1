"""SQL over runs: a DuckDB database in memory that can read nothing but what it was given, and write nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError, FeatstoreError, MissingDependency, check_known
from featstore.plain import is_missing, plain
from featstore.results.details import read_curves, read_predictions
from featstore.results.frames import flatten, metrics_in
from featstore.results.reference import read_reference
from featstore.results.run_set import RunSet, frame_of
from featstore.store.ledger import read_status
from featstore.store.sizes import describe_features

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

__all__ = ["VIEWS", "connect", "query", "view_frame"]

logger = logging.getLogger(__name__)

# settings that deny access to the machine; the last one locks the others
_LOCKS = (
    "SET enable_external_access = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET python_enable_replacements = false",
    "SET lock_configuration = true",
)


def query(runs: RunSet, sql: str) -> pd.DataFrame:
    """Answer one SELECT over the views of ``VIEWS``: ``runs, scores, shifts, epochs, class_scores`` and so on.

    Parameters
    ----------
    runs : RunSet
    sql : str
        One statement in DuckDB's dialect. It runs in a read-only transaction of a database in memory without access
        to files, network, extensions or Python's variables.

    Raises
    ------
    ConfigError
        For anything but one SELECT, or when DuckDB refuses it; the message is DuckDB's own.
    MissingDependency
        When duckdb is not installed.
    """
    connection = connect(runs, needed=_mentioned(sql))
    import duckdb

    try:
        statements = connection.extract_statements(sql)
        kinds = [statement.type for statement in statements]
        if kinds != [duckdb.StatementType.SELECT]:
            what = "nothing" if not kinds else " and ".join(str(kind).rpartition(".")[2] for kind in kinds)
            raise ConfigError(
                f"only one SELECT can be run, and this is {what}", "report query", "Reports are read-only"
            )
        connection.execute("BEGIN TRANSACTION READ ONLY")
        return connection.execute(statements[0]).df()
    except duckdb.Error as error:
        text = " ".join(str(error).split("\n\n")[0].splitlines()[:3])
        raise ConfigError(text, "report query", _advice(str(error))) from error
    finally:
        connection.close()


def connect(runs: RunSet, *, needed: set[str] | None = None) -> duckdb.DuckDBPyConnection:
    """Open a locked database in memory with the views of ``VIEWS`` (all, or those of ``needed``)."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependency.of("duckdb", "report", "querying runs with SQL") from error
    connection = duckdb.connect(":memory:")
    try:
        for name in VIEWS if needed is None else [view for view in VIEWS if view in needed]:
            frame = view_frame(runs, name)
            connection.register("incoming", frame)
            connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM incoming')
            connection.unregister("incoming")
        for lock in _LOCKS:
            connection.execute(lock)
    except BaseException:
        connection.close()
        raise
    return connection


def view_frame(runs: RunSet, name: str) -> pd.DataFrame:
    """One view as a table; see ``docs/reports.md`` for the columns.

    Raises
    ------
    ConfigError
        For an unknown view.
    """
    check_known(name, VIEWS, f"unknown view {name!r}", "report query")
    return _typed(VIEWS[name](runs))


def _mentioned(sql: str) -> set[str]:
    """Views that the query may read; the others are not built, because opening stores and predictions takes time."""
    words = {word.lower() for word in re.findall(r"[A-Za-z_]+", sql)}
    catalogue = words & {"information_schema", "duckdb_tables", "duckdb_columns", "show", "describe", "summarize"}
    return set(VIEWS) if catalogue else words & set(VIEWS)


def _advice(text: str) -> str:
    if "does not exist" in text and "Table" in text:
        return f"The views are {', '.join(VIEWS)}"
    if "disabled" in text or "read-only" in text.lower():
        return "Reports are read-only and see no files"
    return "The columns are listed by: SELECT column_name FROM information_schema.columns WHERE table_name = 'runs'"


# -- the views ------------------------------------------------------------------------------------------------------


def _runs(runs: RunSet) -> pd.DataFrame:
    """One row per run; the test scores carry the bare names of their metrics, settings are ``config.<key>``."""
    settings = sorted({f"config.{key}" for record in runs for key in flatten(record.config)})
    frame = frame_of(runs, settings).drop(columns="settings")
    bare = {f"test.{metric}": metric for metric in metrics_in(frame)}
    return frame.drop(
        columns=[n for n in frame if "." in str(n) and not str(n).startswith("config.") and n not in bare]
    ).rename(columns=bare)


def _scores(runs: RunSet) -> pd.DataFrame:
    """One row per score: ``run_id, split, metric, value``."""
    rows = [
        (record.run_id, split, metric, value)
        for record in runs
        for split, scores in record.result["scores"].items()
        for metric, value in scores.items()
    ]
    return _table(rows, run_id=str, split=str, metric=str, value=float)


def _shifts(runs: RunSet) -> pd.DataFrame:
    """One row per metric of a run on altered copies of test tracks, beside its score on the originals."""
    rows = [
        (
            *(record.run_id, shift["shift"], metric),
            *(values.get(name) for name in ("clean", "shifted", "drop", "low", "high")),
            *(shift.get("n_tracks"), shift.get("changed")),
        )
        for record in runs
        for shift in record.shifts
        for metric, values in shift["scores"].items()
    ]
    numbers = dict.fromkeys(("clean", "shifted", "drop", "low", "high"), float)
    return _table(rows, run_id=str, shift=str, metric=str, **numbers, n_tracks=int, tokens_changed=float)


def _epochs(runs: RunSet) -> pd.DataFrame:
    """One row per point of a learning curve: ``run_id, epoch`` (from 0)``, quantity, value``."""
    rows = [
        (record.run_id, epoch, name, value)
        for record in runs
        for name, values in read_curves(record).items()
        for epoch, value in enumerate(values)
    ]
    return _table(rows, run_id=str, epoch=int, quantity=str, value=float)


def _class_scores(runs: RunSet) -> pd.DataFrame:
    """One row per class of a run with predictions: ``run_id, class, metric, value, positives`` on the test split."""
    rows: list[tuple[Any, ...]] = []
    for record in runs:
        try:
            predictions = read_predictions(record)
            if predictions is None:
                continue
            for metric, values in predictions.class_scores().items():
                rows += [
                    (record.run_id, name, metric, float(value), int(count))
                    for name, value, count in zip(predictions.classes, values, predictions.positives, strict=True)
                ]
        except FeatstoreError as error:
            logger.warning("%s", error)
    return _table(rows, run_id=str, **{"class": str}, metric=str, value=float, positives=int)


def _stores(runs: RunSet) -> pd.DataFrame:
    """One row per store that the runs read and that still exists."""
    rows = [
        (
            *(path, store.fingerprint, len(store.tracks), len(store.arrays), store.shard_tracks),
            *(read_status(store).get(name) for name in ("ok", "failed", "pending")),
        )
        for path, store in _open_stores(runs)
    ]
    names = {"tracks": int, "arrays": int, "shard_tracks": int, "ok": int, "failed": int, "pending": int}
    return _table(rows, store=str, fingerprint=str, **names)


def _features(runs: RunSet) -> pd.DataFrame:
    """One row per feature of those stores, as ``featstore store info`` prints."""
    rows = [
        (
            path,
            *(row[name] for name in ("name", "encoding", "n_tracks", "bytes", "bytes_added", "bytes_per_track")),
            *(row["stored"] is True, bool(row["exact"]), row["bound"]),
        )
        for path, store in _open_stores(runs)
        for row in describe_features(store)
    ]
    sizes = {"n_tracks": int, "bytes": int, "bytes_added": int, "bytes_per_track": float}
    return _table(rows, store=str, feature=str, encoding=str, **sizes, stored=bool, exact=bool, bound=float)


def _tracks(runs: RunSet) -> pd.DataFrame:
    """One row per track of those stores."""
    import pandas as pd

    frames = [store.tracks.reset_index().assign(store=path) for path, store in _open_stores(runs)]
    if not frames:
        return _table([], store=str, track_id=str, path=str, split=str, status=str)
    joined: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return joined


def _reference(runs: RunSet) -> pd.DataFrame:
    """One row per published number."""
    return read_reference()


_VIEWS = (_runs, _scores, _shifts, _epochs, _class_scores, _stores, _features, _tracks, _reference)
VIEWS: dict[str, Callable[[RunSet], Any]] = {view.__name__.removeprefix("_"): view for view in _VIEWS}


def _open_stores(runs: RunSet) -> list[tuple[str, Any]]:
    """The stores of the runs, as far as they can be opened from here; each once."""
    from featstore.store import open_store

    opened: dict[str, Any] = {}
    for record in runs:
        location = record.store_path
        if not location or location in opened:
            continue
        opened[location] = None
        for candidate in (location, str(record.path / location)):
            if "://" not in candidate and not Path(candidate).exists():
                continue
            try:
                opened[location] = open_store(candidate)
                break
            except (FeatstoreError, OSError) as error:
                logger.warning("the store %s cannot be read: %s", candidate, error)
    return [(path, store) for path, store in opened.items() if store is not None]


def _table(rows: list[tuple[Any, ...]], **columns: type) -> pd.DataFrame:
    """Rows as a table whose columns have their types even when there are none."""
    import pandas as pd

    kinds = {str: "object", float: "float64", int: "Int64", bool: "boolean"}
    frame = pd.DataFrame(rows, columns=list(columns))
    return frame.astype({name: kinds[kind] for name, kind in columns.items()})


def _kind(value: Any) -> type:
    """Type of a value; a whole number that no column holds counts as text."""
    return str if isinstance(value, int) and abs(value) >= 2**63 else type(value)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each, as a database wants them: what is mixed becomes text."""
    import pandas as pd

    result = {}
    for name in frame:
        column = frame[name]
        if column.dtype == object:
            values = [None if is_missing(value) else plain(value) for value in column]
            kinds = {_kind(value) for value in values if value is not None}
            known = (({bool}, "boolean"), ({int}, "Int64"), ({int, float}, "float64"), ({list}, "object"))
            kind: Any = next((name for types, name in known if kinds <= types), "string")
            if kind == "string":
                values = [None if value is None else str(value) for value in values]
            column = pd.Series(values, index=frame.index, dtype=object).astype(kind)
        result[str(name)] = column
    return pd.DataFrame(result)
