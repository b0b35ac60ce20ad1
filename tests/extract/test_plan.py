"""Plans: how few arrays answer for how many features, and what the shared graph looks like."""

import pytest

from featstore.errors import PlanError, SpecError
from featstore.extract import make_plan
from featstore.specs import expand_features


def test_the_study_needs_fourteen_arrays() -> None:
    plan = make_plan(expand_features(["ferraro2020"]))
    assert len(plan.headers) == 14 and len(plan.views) == 88
    assert {str(header.spec.scale) for header in plan.headers} == {"power"}
    assert {header.spec.hop_length for header in plan.headers} == {256}
    assert all(view.exact for _, view in plan.views.values())
    # decode, mono, and for each rate: resample, cut, one transform, seven banks
    assert plan.graph.n_nodes == 2 + 2 * (3 + 7)
    fixed = {(h.spec.sample_rate, h.fixed_frames) for h in plan.headers}
    assert fixed == {(12000, 1366), (16000, 1820)}


def test_the_study_in_bytes_is_stored_in_decibels() -> None:
    plan = make_plan(expand_features(["ferraro2020"], "uint8"))
    assert len(plan.headers) == 14
    assert {h.spec.scale.name for h in plan.headers} == {"db"} and {h.encoding.name for h in plan.headers} == {"uint8"}
    assert all(0 < view.bound < 0.56 for _, view in plan.views.values())


@pytest.mark.parametrize(
    ("features", "n_arrays", "n_views"),
    [
        (["mel(scale=db)"], 1, 0),
        (["mel(scale=db)", "mel(scale=db,hop_length=512)"], 1, 1),
        (["mel(scale=db,hop_length=512)", "mel(scale=db,hop_length=768)"], 2, 0),
        (["mel(scale=db)", "mel(scale=log10_1p)"], 1, 2),
        (["mel(scale=db)", "mel(scale=db)@uint8"], 2, 0),
        (["mel(scale=db)@uint8", "mel(scale=log10_1p)@uint8"], 1, 1),
        (["mel()", "mel(n_mels=48)", "mel(sample_rate=12000)"], 3, 0),
        (["mel(scale=db)", "mel(scale=db,engine=librosa)"], 2, 0),
        (["waveform()", "mel()"], 2, 0),
    ],
)
def test_bases_and_views(features: list[str], n_arrays: int, n_views: int) -> None:
    plan = make_plan(expand_features(features))
    assert len(plan.headers) == n_arrays
    assert sum(not view.is_identity for _, view in plan.views.values()) == n_views


def test_equal_steps_are_shared() -> None:
    plan = make_plan(
        expand_features(["waveform()", "mel()", "mel(n_mels=48,hop_length=512)", "mel(n_mels=24,scale=db)"])
    )
    ops = [node.op for node in plan.graph.children]
    assert ops.count("decode") == ops.count("mono") == ops.count("resample") == 1
    assert ops.count("power_spectrum") == 1 and ops.count("stride") == 1 and ops.count("mel_bank") == 3


def test_what_cannot_be_computed_is_refused_before_any_audio() -> None:
    with pytest.raises(SpecError, match="empty"):
        make_plan(expand_features(["mel(n_mels=512)"]))
    with pytest.raises(PlanError, match="nothing to extract"):
        make_plan([])
