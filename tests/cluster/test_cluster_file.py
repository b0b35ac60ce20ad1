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
        ("kind: slurm\njobs: two", r"jobs='two' is not a whole number .*cluster\.yaml"),
        ("kind: slurm\nsetup: source env", r"setup='source env' is not a list .*\[a, b\]"),
        ("kind: slurm\nenvironment: {DEBUG: yes}", "environment.DEBUG=True is not text.*Quote it"),
        ("kind: slurm\nscheduler_options: 3", "scheduler_options is a section, not 3"),
        ("kind: slurm\nworker_extra_args: --x", "worker_extra_args='--x' is not a list"),
        ("kind: slurm\nwalltime: 0", "walltime=00:00:00 is too small"),
        ("kind: slurm\nwalltime: an hour", "walltime='an hour' is no time"),
        ("kind: slurm\nminimum_jobs: 2", "minimum_jobs=2 is out of range"),
        ("- kind", "a cluster file is a mapping"),
        ("kind: [", "not valid YAML"),
        ("kind: !!python/object/apply:os.system [false]", "not valid YAML"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_cluster(write(tmp_path, text))


def test_keys_of_dask_jobqueue_are_understood(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    own = read_cluster(
        write(
            tmp_path,
            "kind: slurm\nprocesses: 4\ncores: 4\nlog-directory: logs\njob_extra_directives: [--exclusive]\n"
            "job-script-prologue: [module load python]\ndeath_timeout: 120\nworker-extra-args: [--no-dashboard]\n",
        )
    )
    plain = (own.workers_per_job, own.log_directory, own.directives, own.setup)
    assert plain == (4, "logs", ("--exclusive",), ("module load python",))
    settings = own.settings("elsewhere")
    assert settings["death_timeout"] == 120 and settings["log_directory"] == "logs"
    assert settings["worker_extra_args"][0] == "--lifetime" and settings["worker_extra_args"][-1] == "--no-dashboard"
    from dask_jobqueue.slurm import SLURMJob

    settings.pop("scheduler_options")
    settings["log_directory"] = str(tmp_path / "logs")
    assert "--death-timeout 120" in SLURMJob("tcp://127.0.0.1:1", name="x", **settings).job_script()
    nested = "jobqueue:\n  slurm:\n    cores: 4\n    processes: 4\n    queue: null\n    interface: ib0\njobs: 3\n"
    config = read_cluster(write(tmp_path, nested))
    assert (config.kind, config.jobs, config.workers_per_job, config.interface) == ("slurm", 3, 4, "ib0")
    with pytest.raises(ConfigError, match=r"processes and workers_per_job say the same .*Keep one"):
        read_cluster(write(tmp_path, "kind: slurm\nprocesses: 4\nworkers_per_job: 2"))
    with pytest.raises(ConfigError, match=r"unknown key 'proceses' .*Did you mean processes"):
        read_cluster(write(tmp_path, "kind: slurm\nproceses: 4"))


def test_logs_of_jobs_go_into_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.cluster_file import ClusterConfig
    from featstore.extract import extract
    from featstore.specs import expand_features
    from featstore.testing.audio import make_collection
    from featstore.workflows.indexing import index_tracks

    asked = []

    def start(self: ClusterConfig, log_directory: str | None = None) -> None:
        asked.append(self.settings(log_directory)["log_directory"])
        raise ConfigError("no batch system here")

    monkeypatch.setattr(ClusterConfig, "start", start)
    tracks = index_tracks("folder", make_collection(tmp_path / "music", n_tracks=1, seconds=(0.5, 1.0)))
    for text in ("kind: slurm", "kind: slurm\nlog_directory: mine"):
        options = ExtractOptions(cluster=str(write(tmp_path, text)))
        with pytest.raises(ConfigError, match="no batch system here"):
            extract(tracks, expand_features(["mel(n_mels=8)"]), tmp_path / "s.zarr", options)
    assert asked == [str(tmp_path / "s.zarr" / "log" / "jobs"), "mine"]


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
