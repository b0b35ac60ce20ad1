"""Run folders: written whole or not at all, read back, and every bad one named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import ConfigError
from featstore.results import read_results, write_result
from featstore.results.schema import problems_of
from featstore.testing.runs import mel_grid, write_runs


def test_what_is_written_is_read_back(tmp_path: Path, result: dict[str, Any]) -> None:
    path = write_result(tmp_path / "run7", result)
    assert path == tmp_path / "run7" / "result.json"
    [record] = read_results(tmp_path)
    assert {key: record.result[key] for key in result} == result
    assert (record.result["format"], record.run_id) == (1, "run7")
    assert record.result["finished"].endswith("+00:00")
    assert record.score("roc_auc") == 0.8 and math.isnan(record.score("accuracy"))
    assert (record.store_path, record.store_fingerprint) == ("store.zarr", "abc")


def test_numpy_values_become_plain_and_undefined_scores_null(tmp_path: Path, result: dict[str, Any]) -> None:
    result["scores"] = {"test": {"roc_auc": np.float32(0.5), "pr_auc": float("nan"), "loss": np.inf}}
    result["parameters"], result["classes"] = np.int64(12), np.array(["a", "b"])
    write_result(tmp_path, result)
    read = json.loads((tmp_path / "result.json").read_text())
    assert read["scores"]["test"] == {"roc_auc": 0.5, "pr_auc": None, "loss": None}
    assert (read["parameters"], read["classes"]) == (12, ["a", "b"])
    assert math.isnan(read_results(tmp_path)[0].score("pr_auc"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "'model' is None, not text"),
        ({"seed": 1.5}, "'seed' is 1.5, not count or null"),
        ({"scores": {}}, "'scores' is {}, not scores"),
        ({"scores": {"test": {"roc_auc": "high"}}}, "not scores"),
        ({"bytes": {"alone": 3}}, "lacks 'bytes.added'"),
        ({"seconds": None}, "'seconds' is None, not numbers"),
        ({"parameters": True}, "'parameters' is True, not number or null"),
        ({"format": 9}, "format 9, and this version of featstore reads up to 1"),
    ],
)
def test_an_incomplete_result_is_refused_and_nothing_written(
    tmp_path: Path, result: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=r"not complete.*Nothing was written") as caught:
        write_result(tmp_path / "run", result | change)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_all_problems_are_told_at_once(result: dict[str, Any]) -> None:
    del result["model"], result["gmacs"]
    assert problems_of(result) == ["lacks 'model'", "lacks 'gmacs'"]


@pytest.mark.parametrize("key", ["bytes", "scores"])
def test_mappings_within_mappings_are_refused_in_no_time(result: dict[str, Any], key: str) -> None:
    deep: Any = 1.0
    for _ in range(100):
        deep = {"a": deep}
    (problem, *_) = problems_of(result | {key: deep})
    assert problem.startswith(f"{key!r} is ") and problem.endswith(f"not {'numbers' if key == 'bytes' else 'scores'}")


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("audio_seen_s", [3], "numbers or null"),
        ("duration_s", "long", "number or null"),
        ("gmacs", 10**400, "number or null"),
        ("seed", 10**30, "count or null"),
    ],
)
def test_numbers_of_reports_are_numbers(result: dict[str, Any], key: str, value: Any, kind: str) -> None:
    (problem,) = problems_of(result | {key: value})
    assert problem.startswith(f"{key!r} is ") and problem.endswith(f"not {kind}")


def test_a_part_that_is_not_known_counts_as_none(tmp_path: Path, result: dict[str, Any]) -> None:
    write_result(tmp_path / "run", result | {"audio_seen_s": {"run": 60, "start": None}})
    assert read_results(tmp_path).frame["seconds_audio"].tolist() == [60.0]


def test_values_that_json_lacks_are_refused(tmp_path: Path, result: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a complex cannot be written"):
        write_result(tmp_path, result | {"extra": 1j})


def test_bad_folders_are_listed_with_reasons_and_never_fatal(tmp_path: Path, result: dict[str, Any]) -> None:
    write_result(tmp_path / "deep" / "er" / "good", result)
    bad = {
        "torn": b'{"model": "vgg',
        "empty": b"",
        "foreign": b'{"status": "ok", "accuracy": 1}',
        "list": b"[1, 2]",
        "binary": b"\x80\x04\x95\xff\x00",
        "newer": json.dumps(result | {"format": 2}).encode(),
        "nested": b"[" * 100_000,
    }
    for name, content in bad.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_bytes(content)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "metrics.jsonl").write_text('{"epoch": 0}\n')
    (tmp_path / "directory" / "result.json").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("not a run, and no trace of one")
    found = read_results(tmp_path)
    assert [record.run_id for record in found] == ["good"]
    reasons = {skip.path.name: skip.reason for skip in found.skipped}
    assert set(reasons) == {*bad, "half", "directory"}
    assert "not valid JSON" in reasons["torn"] and "is empty" in reasons["empty"]
    assert "lacks 'model'" in reasons["foreign"] and "more" in reasons["foreign"]
    assert "is a list" in reasons["list"] and "format 2" in reasons["newer"]
    assert "not finished" in reasons["half"] and "cannot be read" in reasons["directory"]
    assert str(found.skipped[0]).startswith(str(tmp_path))


def test_parts_of_runs_and_stores_are_not_searched(tmp_path: Path, result: dict[str, Any]) -> None:
    write_result(tmp_path / "run", result)
    write_result(tmp_path / "run" / "checkpoints" / "old", result)
    write_result(tmp_path / "run" / "inner", result)
    write_result(tmp_path / "mel.zarr" / "odd", result)
    (tmp_path / "mel.zarr" / "zarr.json").write_text("{}")
    assert [record.path.name for record in read_results(tmp_path)] == ["run"]


def test_roots_may_overlap_be_runs_or_files_and_links_may_loop(tmp_path: Path, result: dict[str, Any]) -> None:
    write_result(tmp_path / "a" / "run", result)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(read_results(tmp_path, tmp_path / "a", tmp_path / "a" / "run", tmp_path / "a/run/result.json")) == 1
    with pytest.raises(ConfigError, match="no such folder of runs"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no folder of runs was given"):
        read_results()


def test_equal_run_ids_are_told_apart_by_their_paths(tmp_path: Path, result: dict[str, Any]) -> None:
    for place in ("a/seed0", "b/seed0", "b/seed1"):
        write_result(tmp_path / place, result)
    assert [record.run_id for record in read_results(tmp_path)] == ["a/seed0", "b/seed0", "seed1"]


def test_names_are_unique_across_all_runs_whatever_they_share(tmp_path: Path, result: dict[str, Any]) -> None:
    # x twice and y twice: told apart within their own group, a/1 and b/1 would get the name 1 in both
    for place, name in (("a/1", "x"), ("b/2", "x"), ("a/2", "y"), ("b/1", "y"), ("c/1", "1")):
        write_result(tmp_path / place, result | {"run_id": name})
    found = read_results(tmp_path)
    assert [record.run_id for record in found] == ["a/1", "a/2", "b/1", "b/2", "1"]


def test_run_sets_are_sequences(plain: Any) -> None:
    assert len(plain) == 36 and plain[:3].records == plain.records[:3] and next(iter(plain)) is plain[0]
    uint8 = plain.select(lambda record: record.feature.endswith("uint8(low=-100,high=40)"))
    assert len(uint8) == 18 and len(uint8.frame) == 18


@given(st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_no_content_of_a_result_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "result.json").write_bytes(content)
    found = read_results(root)
    assert len(found) == 0 and len(found.skipped) == 1


def test_the_generator_is_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_runs(tmp_path / name, mel_grid(n_mels=[8]), seeds=2, predictions=20, seed=5)
    first, second = (sorted((tmp_path / name).rglob("*.json*")) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second] and len(first) == 4


def test_several_features_that_are_one_input_name_their_kinds(tmp_path: Path, result: dict[str, Any]) -> None:
    both = "stft(scale=db)@uint8(low=-100,high=70) + hpss(component=harmonic,scale=db)@uint8(low=-100,high=70)"
    fields = {"kind": "stft", "encoding": "uint8(low=-100,high=70)"}
    write_result(tmp_path / "run", result | {"feature": both, "feature_fields": fields})
    [row] = read_results(tmp_path).frame.to_dict("records")
    assert row["representation"] == "stft+hpss" and row["encoding"] == "uint8"


def test_ranges_that_were_measured_are_not_part_of_an_encoding_s_name(tmp_path: Path, result: dict[str, Any]) -> None:
    name = (
        f"embedding.r1(sample_rate=16000,clip=whole,model=mtt-musicnn,weights={'2' * 32},layers=penultimate,pool=mean,"
        "per=track,window=2.992,hop=2.992,tail=drop,n_layers=1,n_dims=200,column=256,step=0)@uint8(ranges=2c4f5b1e10c2)"
    )
    fields = {"kind": "embedding", "encoding": "uint8(ranges=2c4f5b1e10c2)"}
    write_result(tmp_path / "run", result | {"feature": name, "feature_fields": fields})
    [row] = read_results(tmp_path).frame.to_dict("records")
    assert row["encoding"] == "uint8"
    assert row["n_dims"] == 200 and row["revision"] == 1
    assert not {"sonifier", "takes_ranges", "usual_model", "wants_device"} & set(row)  # of the kind, not of a feature
