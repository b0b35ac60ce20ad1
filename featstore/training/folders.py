"""A run's folder: settings, metrics, checkpoints, predictions, result; one process trains in it at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featstore.atomic import disk_errors, json_object, remove_abandoned_in, write_json, write_text
from featstore.errors import CheckpointError, ConfigError
from featstore.models.input_kinds import read_input
from featstore.plain import plain
from featstore.results.schema import problems_of
from featstore.training.events import append_events, restart_events
from featstore.training.settings import read_yaml
from featstore.typed_values import converted

__all__ = ["RunFolder", "checked_run"]

_RUN: dict[str, Any] = {
    **dict.fromkeys(("run_id", "model", "feature", "dataset", "task"), str),
    **dict.fromkeys(("identity", "model_settings", "input", "objective", "tagging"), dict[str, Any]),
    "classes": list[str],
    "store": dict[str, str],
    "macs": int,
    "name": str,
}
"""Types of what is read of ``run.json``, and of what a checkpoint says of its run."""

_TRAIN_AGAIN = "Delete the folder and train again"


def checked_run(
    run: Mapping[str, Any], where: str, needed: Collection[str] = (), fix: str = _TRAIN_AGAIN
) -> dict[str, Any]:
    """Description of a run, each value of its type: a file may have been edited, or be of another version.

    Raises
    ------
    CheckpointError
        It lacks a key among those ``needed``.
    ConfigError
        A value is of another type, or no size that an input can have.
    """
    found = dict(run) | {key: converted(hint, run[key], key, where) for key, hint in _RUN.items() if key in run}
    lacking = [key for key in needed if key not in found]
    if "store" in needed and "store" in found:
        lacking += [f"store.{key}" for key in ("path", "fingerprint") if key not in found["store"]]
    if lacking:
        raise CheckpointError(f"the description of the run lacks {', '.join(lacking)}", where, fix)
    if "input" in found:
        read_input(found["input"], where)
    return found


class RunFolder:
    """Paths and files of one run.

    ``config.yaml`` (resolved settings), ``run.json`` (what is trained on what), ``labels.parquet`` (its tracks, splits
    and targets), ``metrics.jsonl`` (one line an epoch) and ``events.*`` (the same for TensorBoard), ``probes.jsonl``
    (one line a probe of the trunk),
    ``checkpoints/{best,last}.safetensors`` and ``state.json``, ``predictions.parquet``, ``result.json``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.best = self.path / "checkpoints" / "best.safetensors"
        self.last = self.path / "checkpoints" / "last.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.probes = self.path / "probes.jsonl"
        self.labels = self.path / "labels.parquet"
        self.events = self.path / "events.out.tfevents.0.featstore"
        self.predictions = self.path / "predictions.parquet"
        self.result = self.path / "result.json"

    @classmethod
    def around(cls, place: str | Path) -> RunFolder:
        """Folder of the run that a checkpoint file belongs to; a folder is the run's own."""
        path = Path(place)
        return cls(path if path.is_dir() else path.parent.parent)

    @property
    def has_weights(self) -> bool:
        """Whether anything was trained here that could be lost."""
        return self.best.is_file() or self.last.is_file() or self.result.is_file()

    @property
    def kept(self) -> Path:
        """The checkpoint that the run's scores are of."""
        return self.last if self.settings("loop").get("keep") == "last" else self.best

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this folder; a process that dies gives it back.

        Raises
        ------
        ConfigError
            When another process is at work here.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError("this is a file; a run needs a folder", str(self.path), "Choose another --out")
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("a")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    "another process is training in this folder", str(self.path), "Wait for it, or choose another --out"
                ) from None
            except OSError:  # a file system without locks: nothing to hold on to
                pass
            remove_abandoned_in(self.path)
            yield

    def write_run(self, run: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Write what the run is, and its settings."""
        import yaml

        write_text(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        write_json(self.path / "run.json", dict(run))

    def settings(self, section: str) -> dict[str, Any]:
        """Return the run's settings of a section, as they were written; none where it has no settings.

        Raises
        ------
        ConfigError
            When they cannot be read.
        """
        path = self.path / "config.yaml"
        found = (read_yaml(path) if path.is_file() else {}).get(section)
        return converted(dict[str, Any], found or {}, section, str(path))  # type: ignore[no-any-return]

    def read_run(self, needed: Collection[str] = ()) -> dict[str, Any] | None:
        """Return what the run in this folder is, with at least the keys ``needed``; None where there is none.

        Raises
        ------
        CheckpointError
            When the description cannot be read, or lacks a key.
        ConfigError
            When it was edited, and a value is of another type.
        """
        path = self.path / "run.json"
        if not path.is_file():
            return None
        return checked_run(_read_json(path), str(path), needed)

    def read_result(self) -> dict[str, Any] | None:
        """Return the result of a finished run; None where it has none.

        Raises
        ------
        CheckpointError
            When it cannot be read, or is none of featstore's.
        """
        if not self.result.is_file():
            return None
        result = _read_json(self.result)
        if problems := problems_of(result):
            what = f"this is not the result of a run: {'; '.join(problems[:3])}"
            raise CheckpointError(what, str(self.result), _TRAIN_AGAIN)
        return result

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Write the readable copy of where the run stands."""
        write_json(self.path / "checkpoints" / "state.json", plain(state))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add the line of an epoch, for programs and for TensorBoard."""
        line = plain(line)
        append_events(self.events, line)
        _append(self.metrics, line)

    def cut_metrics(self, epochs: int) -> None:
        """Keep the lines of the first ``epochs`` epochs: those after were not reached by the checkpoint."""
        lines = [line for line in _read_lines(self.metrics) if line.get("epoch", epochs) < epochs]
        write_text(self.metrics, "".join(map(_text, lines)))
        restart_events(self.events, lines, time=lines[0]["time"] if lines else time.time())

    def append_probe(self, line: Mapping[str, Any]) -> None:
        """Add the line of a probe of the trunk."""
        _append(self.probes, plain(line))

    def read_probes(self) -> list[dict[str, Any]]:
        """Lines of all probes, in the order of their steps."""
        return _read_lines(self.probes)

    def cut_probes(self, step: int) -> None:
        """Keep the probes up to an optimizer step: those after were not reached by the checkpoint."""
        if self.probes.is_file():
            kept = [line for line in self.read_probes() if line.get("step", step + 1) <= step]
            write_text(self.probes, "".join(map(_text, kept)))


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(_text(line))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a file of JSON; those that a process left half-written are passed over."""
    found = []
    for text in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            found.append(json_object(text))
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot be read: {error}", str(path), _TRAIN_AGAIN) from error
