"""Cluster files: what is asked of the batch system, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from featstore.cluster_file import KINDS, read_cluster
from featstore.errors import ConfigError
from featstore.extract import ExtractOptions


def write(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return path


def test_keys_become_a_job(tmp_path: Path) -> None:
    config = read_cluster(
        write(
            tmp_path,
            'kind: slurm\njobs: 3\ncores: 4\nworkers_per_job: 4\nmemory: 8GB\nwalltime: "02:00:00"\nqueue: short\n'
            "environment: {DATA: /a b}\nsetup: [source env/bin/activate]\ndirectives: [--exclusive]\n",
        )
    )
    jobqueue = pytest.importorskip("dask_jobqueue")
    from dask_jobqueue.slurm import SLURMJob

    settings = config.settings()
    settings.pop("scheduler_options")
    script = SLURMJob("tcp://127.0.0.1:1", name="x", **settings).job_script()
    for line in (
        "#SBATCH -p short",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=8G",
        "#SBATCH -t 02:00:00",
        "#SBATCH --exclusive",
        "source env/bin/activate",
        "export DATA='/a b'",
        "export OMP_NUM_THREADS=1",
        "--nworkers 4",
        "--nthreads 1",
        "--lifetime 6750s --lifetime-stagger 150s",
    ):
        assert line in script, script
    assert all(hasattr(jobqueue, name) for name in KINDS.values())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("moab", "htcondor")])
def test_every_batch_system_takes_the_settings(tmp_path: Path, kind: str) -> None:
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    config = read_cluster(write(tmp_path, f"kind: {kind}\nqueue: short\naccount: music\n"))
    settings = config.settings()
    settings.pop("scheduler_options")
    job = getattr(dask_jobqueue, KINDS[kind]).job_cls("tcp://127.0.0.1:1", name="x", **settings)
    script = job.job_script()
    assert "music" in script and "short" in script and "--lifetime" in script


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: slrum", r"kind='slrum' is no batch system .*cluster\.yaml\]\. Did you mean slurm"),
        ("kind: slurm\nwaltime: '1:00:00'", r"unknown key 'waltime' .*Did you mean walltime"),
        ("jobs: 2", "the key kind is missing"),
        ("kind: slurm\njobs: 0", "jobs=0 is too small"),
        ("kind: slurm\njobs: two", "jobs='two' is of the wrong kind .* Give int"),
        ("kind: slurm\nwalltime: an hour", "walltime='an hour' is no time"),
        ("kind: slurm\nminimum_jobs: 2", "minimum_jobs=2 is out of range"),
        ("- kind", "a cluster file is a mapping"),
        ("kind: [", "no YAML"),
        ("kind: !!python/object/apply:os.system [false]", "no YAML"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_cluster(write(tmp_path, text))


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_cluster(tmp_path / "none.yaml")


def test_a_walltime_without_quotes_is_understood(tmp_path: Path) -> None:
    assert read_cluster(write(tmp_path, "kind: slurm\nwalltime: 10:30:00")).walltime == "10:30:00"


def test_scheduler_and_cluster_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        ExtractOptions(scheduler="sync", cluster="c.yaml")
    with pytest.raises(ConfigError, match=r"track_timeout=-1 is out of range"):
        ExtractOptions(track_timeout=-1)
