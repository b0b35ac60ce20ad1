"""SQL over runs: right answers, and no way out of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("duckdb")

from featstore.errors import ConfigError
from featstore.results import RunSet, query, read_reference, summarise
from featstore.results.sql import VIEWS, _typed, view_frame


def test_averages_equal_those_of_the_summary(plain: RunSet) -> None:
    sql = """SELECT n_mels, hop_multiple, encoding, avg(roc_auc) AS mean, stddev_samp(roc_auc) AS std, count(*) AS n
             FROM runs GROUP BY ALL ORDER BY mean DESC"""
    found, expected = query(plain, sql), summarise(plain)
    assert found["mean"].tolist() == pytest.approx(expected["roc_auc_mean"].tolist())
    assert found["std"].tolist() == pytest.approx(expected["roc_auc_std"].tolist())
    assert found["n_mels"].tolist() == expected["n_mels"].tolist() and found["n"].tolist() == [3] * 12


@pytest.mark.slow
def test_the_views_hold_what_they_say(grid: RunSet) -> None:
    count = query(grid, "SELECT count(*) AS n, count(DISTINCT metric) AS m FROM scores").iloc[0]
    assert (count["n"], count["m"]) == (36 * (3 + 7), 7)  # three on valid, all that suit one label a track on test
    curve = query(grid, "SELECT max(epoch) AS last FROM epochs WHERE quantity = 'valid.roc_auc'")
    assert curve["last"][0] == 7
    classes = query(grid, "SELECT class, count(*) AS n FROM class_scores WHERE metric = 'roc_auc' GROUP BY class")
    assert len(classes) == 8 and classes["n"].tolist() == [36] * 8
    rows = query(grid, "SELECT count(*) AS n FROM reference WHERE source = 'ferraro2020'")["n"][0]
    assert rows == len(read_reference("ferraro2020"))
    settings = query(grid, 'SELECT DISTINCT "config.training.learning_rate" AS lr FROM runs')
    assert settings["lr"].tolist() == [0.001]


def test_macro_scores_are_the_means_of_the_classes(grid: RunSet) -> None:
    sql = """SELECT r.roc_auc, c.mean FROM runs r JOIN
             (SELECT run_id, avg(value) AS mean FROM class_scores WHERE metric = 'roc_auc' GROUP BY run_id) c
             USING (run_id)"""
    found = query(grid, sql)
    assert len(found) == 36 and np.allclose(found["roc_auc"], found["mean"], atol=1e-12)


def test_stores_that_are_gone_leave_empty_views_with_columns(plain: RunSet) -> None:
    for view in ("stores", "features", "tracks"):
        assert len(query(plain, f"SELECT * FROM {view}")) == 0
    assert "bytes_per_track" in view_frame(plain, "features")


def test_missing_values_are_null(plain: RunSet) -> None:
    assert query(plain, "SELECT count(fold) AS n, count(seed) AS m FROM runs").iloc[0].tolist() == [0, 36]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE runs",
        "INSERT INTO runs SELECT * FROM runs",
        "UPDATE runs SET model = 'x'",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1; SELECT 2",
        "",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE INSERT INTO runs SELECT * FROM runs",
        "EXPORT DATABASE '/tmp/x'",
    ],
)
def test_only_one_select_runs(plain: RunSet, sql: str) -> None:
    with pytest.raises(ConfigError, match="only one SELECT can be run"):
        query(plain, sql)


def test_no_file_is_read_or_written(plain: RunSet, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    for source in (f"read_csv('{secret}')", f"read_text('{secret}')", f"glob('{tmp_path}/*')", f"'{secret}'"):
        with pytest.raises(ConfigError, match=r"disabled by configuration|does not exist"):
            query(plain, f"SELECT * FROM {source}")
    with pytest.raises(ConfigError):
        query(plain, f"COPY runs TO '{tmp_path / 'out.csv'}'")
    with pytest.raises(ConfigError, match="read-only"):
        query(plain, "WITH gone AS (DELETE FROM runs RETURNING *) SELECT * FROM gone")
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_variables_of_python_are_out_of_reach(plain: RunSet) -> None:
    frame = plain.frame  # noqa: F841 (a name that DuckDB would find)
    with pytest.raises(ConfigError, match="does not exist"):
        query(plain, "SELECT * FROM frame")


def test_mistakes_come_with_advice(plain: RunSet) -> None:
    with pytest.raises(ConfigError, match=r"nothing_here.*information_schema"):
        query(plain, "SELECT nothing_here FROM runs")
    with pytest.raises(ConfigError, match=r"The views are runs, scores"):
        query(plain, "SELECT * FROM scorse")
    with pytest.raises(ConfigError, match="unknown view 'scorse'"):
        view_frame(plain, "scorse")
    assert set(query(plain, "SELECT table_name FROM information_schema.tables")["table_name"]) == set(VIEWS)


def test_columns_have_one_type_each() -> None:
    import pandas as pd

    mixed = {"flag": [True, None], "count": [3, None], "size": [1, 2.5], "odd": [1, "a"], "tags": [["a"], None]}
    found = _typed(pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in mixed.items()}))
    assert [str(kind) for kind in found.dtypes] == ["boolean", "Int64", "float64", "string", "object"]
    assert found["flag"][0] is np.True_ or found["flag"][0] is True
    assert found["size"].tolist() == [1.0, 2.5] and found["odd"].tolist() == ["1", "a"] and found["tags"][0] == ["a"]
    assert found["count"].isna().tolist() == [False, True]
