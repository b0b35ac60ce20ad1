"""What ``--cluster FILE.yaml`` says: a batch system, the jobs to ask it for, and what runs in them."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from featstore.errors import ConfigError, MissingDependency, check_known, did_you_mean
from featstore.plain_yaml import read_yaml
from featstore.typed_values import converted

__all__ = ["KINDS", "THREAD_SETTINGS", "ClusterConfig", "read_cluster"]

THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

# kind in the file -> class of dask-jobqueue
KINDS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
    "htcondor": "HTCondorCluster",
}

# what dask-jobqueue calls a key of ours
ALIASES = {
    "processes": "workers_per_job",
    "project": "account",
    "job_script_prologue": "setup",
    "env_extra": "setup",
    "job_extra_directives": "directives",
    "job_extra": "directives",
}

# fields whose names are those of dask-jobqueue's arguments
_SAME_NAME = ("memory", "queue", "account", "interface", "python", "local_directory")

_TIME = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Jobs of a batch system.

    Attributes
    ----------
    kind : str
        ``slurm``, ``pbs``, ``lsf``, ``sge``, ``oar``, ``moab`` or ``htcondor``.
    jobs : int
        Number of jobs; with ``adaptive``, the most at a time.
    adaptive : bool
        True asks for jobs as long as there is work for them and gives them back when there is not.
    minimum_jobs : int
        Kept even when idle, with ``adaptive``.
    workers_per_job, cores, memory : int, int, str
        Worker processes of a job (each single-threaded), its cores, and its memory such as ``16GB``.
    walltime : str
        ``HH:MM:SS``. Workers give up their place in good order before it ends: see ``lifetime``.
    lifetime, lifetime_stagger : str
        Age at which a worker retires, and how far workers differ in it, so that not all leave at once. By default
        a tenth of the walltime before its end (at most 5 minutes), staggered by half of that.
    queue, account : str
        Partition or queue, and account or project, as the batch system calls them.
    interface : str
        Network interface that workers and scheduler meet on, such as ``ib0``.
    host, port : str, int
        Where the scheduler listens on this machine, where the interface does not say it.
    environment : mapping of str
        Set in the jobs before the workers start.
    setup : sequence of str
        Shell lines run before that, such as ``source ~/env/bin/activate``.
    python : str
        Interpreter of the workers; this one by default.
    directives : sequence of str
        Further lines of the job's header, such as ``--gres=gpu:1``.
    local_directory, log_directory : str
        Scratch folder of the workers, and folder of the jobs' own logs: of an extraction ``log/jobs`` of the store
        by default.
    options : mapping
        Further arguments of dask-jobqueue's class, by its own names.
    """

    kind: str
    jobs: int = 1
    adaptive: bool = False
    minimum_jobs: int = 0
    workers_per_job: int = 1
    cores: int = 1
    memory: str = "2GB"
    walltime: str = "01:00:00"
    lifetime: str | None = None
    lifetime_stagger: str | None = None
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    host: str | None = None
    port: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    python: str | None = None
    directives: tuple[str, ...] = ()
    local_directory: str | None = None
    log_directory: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_known(self.kind, KINDS, f"kind={self.kind!r} is no batch system", "cluster file")
        for name in ("jobs", "workers_per_job", "cores"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is too small", "cluster file", "Give at least 1")
        if not 0 <= self.minimum_jobs <= self.jobs:
            raise ConfigError(
                f"minimum_jobs={self.minimum_jobs} is out of range", "cluster file", f"Give 0 to jobs={self.jobs}"
            )
        if not _seconds(self.walltime):
            raise ConfigError(f"walltime={self.walltime} is too small", "cluster file", 'Write it as "HH:MM:SS"')
        converted(list[str], self.options.get("worker_extra_args") or [], "worker_extra_args", "cluster file")
        converted(dict[str, Any], self.options.get("scheduler_options") or {}, "scheduler_options", "cluster file")

    def worker_arguments(self) -> list[str]:
        """Arguments by which workers retire before the batch system ends their job."""
        margin = min(300.0, _seconds(self.walltime) / 10)
        lifetime = self.lifetime or f"{_seconds(self.walltime) - 1.5 * margin:.0f}s"
        return ["--lifetime", lifetime, "--lifetime-stagger", self.lifetime_stagger or f"{margin / 2:.0f}s"]

    def settings(self, log_directory: str | None = None) -> dict[str, Any]:
        """Arguments of dask-jobqueue's class; ``log_directory`` is for a file that names none."""
        # numerical libraries stay on one thread: the workers are the parallelism
        environment = dict.fromkeys(THREAD_SETTINGS, "1") | self.environment
        exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        given: dict[str, Any] = {
            "cores": self.workers_per_job,  # threads of all workers: one each, whatever the job asks for
            "processes": self.workers_per_job,
            "job_cpu": self.cores if self.kind in ("slurm",) else None,
            "walltime": self.walltime if self.kind not in ("htcondor",) else None,
            **{name: getattr(self, name) for name in _SAME_NAME},
            "log_directory": self.log_directory or log_directory,
            "job_script_prologue": [*self.setup, *exports],
            "job_extra_directives": list(self.directives) or None,
            "worker_extra_args": [*self.worker_arguments(), *(self.options.get("worker_extra_args") or ())],
            "scheduler_options": {"dashboard_address": ":0"}
            | ({"host": self.host} if self.host else {})
            | ({"port": self.port} if self.port else {})
            | (self.options.get("scheduler_options") or {}),
        }
        if self.kind in ("sge", "oar", "lsf"):
            given["project"] = given.pop("account")
        given = {name: value for name, value in self.options.items() if name not in given} | given
        return {name: value for name, value in given.items() if value is not None}

    def start(self, log_directory: str | None = None) -> Any:
        """Start a scheduler here and ask for the jobs; the cluster object of dask-jobqueue.

        Parameters
        ----------
        log_directory : str, optional
            Of the jobs' own logs, where the file names none.

        Raises
        ------
        MissingDependency
            Without dask-jobqueue.
        ConfigError
            When the batch system's commands are not here, or refuse.
        """
        try:
            import dask_jobqueue
        except ImportError as error:
            raise MissingDependency.of("dask-jobqueue", "cluster", "--cluster") from error
        try:
            cluster = getattr(dask_jobqueue, KINDS[self.kind])(**self.settings(log_directory))
            if self.adaptive:
                cluster.adapt(minimum_jobs=self.minimum_jobs, maximum_jobs=self.jobs)
            else:
                cluster.scale(jobs=self.jobs)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the {self.kind} cluster cannot be started: {error}",
                "cluster file",
                "Run from a machine that submits jobs, and check the file against docs/cluster.md",
            ) from error
        return cluster


def read_cluster(path: str | os.PathLike[str]) -> ClusterConfig:
    """Read a cluster file; nothing in it is executed here.

    Keys are those of :class:`ClusterConfig`, or dask-jobqueue's own, written with ``_`` or ``-``; a whole
    ``jobqueue: {slurm: …}`` as in Dask's configuration is understood.

    Raises
    ------
    ConfigError
        For a file that is absent or no YAML mapping, an unknown key, or a value of the wrong kind.
    """
    place = os.fspath(path)
    content = read_yaml(place, "a cluster file is a mapping of keys", "See docs/cluster.md for an example")
    values = _named_as_here(content, place)
    if "kind" not in values:
        raise ConfigError("the key kind is missing", place, f"Write kind: and one of {', '.join(KINDS)}")
    try:
        return ClusterConfig(**values)
    except ConfigError as error:
        raise ConfigError(error.what, place, error.fix) from error


def _named_as_here(content: dict[Any, Any], place: str) -> dict[str, Any]:
    """Values by the names of our fields; what only dask-jobqueue knows is kept for it."""
    inner = content.get("jobqueue")
    if isinstance(inner, dict) and len(inner) == 1 and isinstance(section := next(iter(inner.values())), dict):
        content = {"kind": next(iter(inner))} | section | {key: content[key] for key in content if key != "jobqueue"}
    hints = get_type_hints(ClusterConfig)
    kind = str(content.get("kind"))
    values: dict[str, Any] = {}
    said: dict[str, Any] = {}
    further: dict[str, Any] = {}
    for key, value in content.items():
        known = str(key).replace("-", "_")
        name = ALIASES.get(known, known)
        if name in said:
            raise ConfigError(f"{said[name]} and {key} say the same", place, f"Keep one of them: {name}")
        if name in hints:
            said[name] = key
            if value is not None or name == known:
                values[name] = _typed(name, value, hints[name], place)
        elif kind in KINDS and name in _jobqueue_names(kind):
            further[name] = value
        else:
            raise ConfigError(f"unknown key {key!r}", place, did_you_mean(str(key), [*hints, *ALIASES]))
    if further:
        values["options"] = further | values.get("options", {})
    return values


def _jobqueue_names(kind: str) -> set[str]:
    """Arguments that dask-jobqueue's own configuration knows for a batch system; none where it is not installed."""
    try:
        import dask.config
        import dask_jobqueue  # noqa: F401 - its import adds its section to the configuration
    except ImportError:
        return set()
    return {name.replace("-", "_") for name in dask.config.get(f"jobqueue.{kind}", {})}


def _typed(key: str, value: Any, hint: Any, place: str) -> Any:
    """A value of the file, checked against the annotation of its field."""
    if key == "walltime" and type(value) is int and value < 2**31:  # YAML reads 01:00:00 without quotes as seconds
        value = f"{value // 3600:02d}:{value // 60 % 60:02d}:{value % 60:02d}"
    if key == "environment" and isinstance(value, dict):
        value = {str(name): str(each) if type(each) in (int, float) else each for name, each in value.items()}
    found = converted(hint, value, key, place)
    return {name.replace("-", "_"): each for name, each in found.items()} if key == "options" else found


def _seconds(walltime: str) -> float:
    match = _TIME.fullmatch(walltime.strip())
    if match is None:
        raise ConfigError(f"walltime={walltime!r} is no time", "cluster file", 'Write it in quotes: "HH:MM:SS"')
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
