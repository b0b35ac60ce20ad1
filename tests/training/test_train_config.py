from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import ConfigError
from featstore.training import TrainConfig
from featstore.training.config import ScheduleConfig
from featstore.training.optimizers import rate_factor


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("loop: {epochs: 7, patience: 3}\noptimizer: {learning_rate: 1e-2}\nseed: 4\n")
    config = TrainConfig.resolve(
        {"loop": {"patience": 5}}, file=tmp_path / "train.yaml", assignments=["optimizer.name=sgd"], seed=9
    )
    assert (config.loop.epochs, config.loop.patience, config.seed) == (7, 5, 9)
    assert (config.optimizer.learning_rate, config.optimizer.name) == (0.01, "sgd")
    assert TrainConfig.resolve(assignments=["seed=3"]).seed == 3


def test_what_is_written_reads_back() -> None:
    config = TrainConfig.resolve(
        assignments=[
            "data.crop_s=3",
            "data.classes=[rock, jazz]",
            "schedule.milestones=12,24",
            "model.pools=[[2,4],[2,4],[3,4],[4,4]]",
            "loop.clip_norm=1",
            "loop.class_weights=balanced",
        ]
    )
    again = TrainConfig.resolve(yaml.safe_load(yaml.safe_dump(config.as_mapping())))
    assert again == config
    assert config.schedule.milestones == (12, 24)
    assert config.data.crop_s == 3.0


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("loop.epoch=3", "unknown setting 'loop.epoch'.*Did you mean loop.epochs"),
        ("lop.epochs=3", "unknown setting 'lop'.*Did you mean loop"),
        ("loop.epochs=many", "loop.epochs='many' is not a whole number"),
        ("loop.epochs=2.5", "loop.epochs=2.5 is not a whole number"),
        ("loop.epochs=true", "loop.epochs=True is not a whole number"),
        ("loop.epochs=0", "epochs=0 is not positive"),
        ("loop=3", "loop is a section, not 3"),
        ("loop.epochs", "'loop.epochs' is not section.key=value"),
        ("optimizer.name=adm", "optimizer.name='adm'.*Did you mean adam"),
        ("optimizer.learning_rate=0", "learning_rate=0.0 is not positive"),
        ("optimizer.learning_rate=.nan", "is not finite"),
        ("loop.monitor=roc", "monitor='roc'.*Did you mean roc_auc"),
        ("data.fractions=[0.5,0.2,0.2]", "are not three shares of a whole"),
        ("data.fold=5", "fold=5 of 5.*count from 0"),
        ("data.batch_size=0", "batch_size=0 is not positive"),
        ("schedule.factor=1.5", r"factor=1.5 is not in \(0, 1\)"),
        ("device.deterministic=perhaps", "device.deterministic='perhaps' is not true or false"),
        ("data.crop_s=-1", "crop_s=-1.0 is not positive"),
        ("seed=-1", "seed=-1 is out of range"),
        ("evaluate.pool=mean", "evaluate.pool='mean'"),
    ],
)
def test_wrong_settings_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.resolve(assignments=[assignment])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("loop: [", "not valid YAML"),
        ("- a", "holds no settings"),
        ("a: !!python/object/apply:os.getcwd []", "not valid"),
    ],
)
def test_files_that_are_no_settings(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        TrainConfig.resolve(file=tmp_path / "train.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        TrainConfig.resolve(file=tmp_path / "none.yaml")


def test_identity_leaves_out_where_it_runs() -> None:
    plain = TrainConfig.resolve()
    moved = TrainConfig.resolve(
        assignments=["device.accelerator=cpu", "data.tier=disk", "loop.checkpoint_batches=7", "device.threads=2"]
    )
    assert plain.identity() == moved.identity()
    for other in ("device.precision=bf16-mixed", "loop.epochs=3", "model.width=0.5", "data.batch_size=4"):
        assert TrainConfig.resolve(assignments=[other]).identity() != plain.identity()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["constant", "step", "cosine", "plateau"]),
    warmup=st.floats(0, 5),
    epoch=st.floats(0, 50),
    minimum=st.floats(0, 0.5),
    reductions=st.integers(0, 20),
)
def test_rates_stay_between_zero_and_one(
    name: str, warmup: float, epoch: float, minimum: float, reductions: int
) -> None:
    schedule = ScheduleConfig(name=name, warmup_epochs=warmup, minimum=minimum)
    factor = rate_factor(schedule, epoch=epoch, epochs=50, reductions=reductions)
    assert 0 <= factor <= 1
    if epoch >= warmup:
        assert factor >= minimum


def test_schedules_of_published_recipes() -> None:
    sinc = ScheduleConfig(name="step", step_epochs=30, factor=0.5, warmup_epochs=5, warmup_factor=1e-5 / 0.005)
    rates = [0.005 * rate_factor(sinc, epoch=epoch, epochs=200) for epoch in (0, 4, 5, 29, 30, 60)]
    assert rates == pytest.approx([1e-5, 1e-5, 0.005, 0.005, 0.0025, 0.00125])
    gafx = ScheduleConfig(name="step", milestones=(12, 24, 50, 65), factor=0.5, warmup_epochs=4)
    rates = [5e-5 * rate_factor(gafx, epoch=epoch, epochs=80) for epoch in (2, 4, 12, 24, 50, 65)]
    assert rates == pytest.approx([2.5e-5, 5e-5, 2.5e-5, 1.25e-5, 6.25e-6, 3.125e-6])
    cosine = ScheduleConfig(name="cosine", warmup_epochs=8, minimum=0.1)
    assert rate_factor(cosine, epoch=100, epochs=100) == pytest.approx(0.1)
    assert rate_factor(cosine, epoch=54, epochs=100) == pytest.approx(0.55)
