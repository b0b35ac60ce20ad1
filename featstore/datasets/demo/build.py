"""Make the clips of the built-in music: in parallel, each file whole or not at all, and never twice."""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from featstore.atomic import disk_errors, remove_abandoned_in, write_text
from featstore.cluster import cpu_count
from featstore.datasets.demo import NOTICE
from featstore.datasets.demo.arrange import Arrangement, arrange, window
from featstore.datasets.demo.catalogue import catalogue
from featstore.datasets.demo.harmony import plain_metre
from featstore.datasets.demo.packages import require_packages
from featstore.datasets.demo.readers import cached_notes
from featstore.datasets.demo.render import SAMPLE_RATES, render, write_audio
from featstore.datasets.demo.sizes import ClipChoice, clips_per_style, ordered_clips, quotas
from featstore.datasets.demo.works import STYLES, tune_field, tune_text, work_named
from featstore.datasets.table import SPLITS
from featstore.errors import ConfigError, DatasetError
from featstore.log import progress_bar

__all__ = ["ClipRecord", "Settings", "arranged", "build_demo"]

logger = logging.getLogger(__name__)

_RECORDS = "clips.jsonl"
_FORMATS = ("mp3", "flac")


@dataclass(frozen=True, slots=True)
class Settings:
    """How clips sound and are written.

    Raises
    ------
    ConfigError
        For a value that is not offered.
    """

    sample_rate: int = 16_000
    channels: int = 1
    format: str = "mp3"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("sample_rate", SAMPLE_RATES), ("channels", (1, 2)), ("format", _FORMATS)):
            if getattr(self, name) not in allowed:
                listing = ", ".join(map(str, allowed))
                raise ConfigError(f"{name}={getattr(self, name)!r} is not offered", "data set demo", f"Use {listing}")

    @property
    def folder(self) -> str:
        """Name of the folder of clips made so."""
        sound = f"{self.format}-{self.sample_rate}-{'mono' if self.channels == 1 else 'stereo'}"
        return sound if self.seed == 0 else f"{sound}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """A finished clip, or one that was left out because it is silent.

    Attributes
    ----------
    name : str
        Track id.
    file : str
        Path relative to the folder of clips; empty for a clip left out.
    work, window, style, split, family
        What it is of.
    labels : tuple of str
        Tags.
    identity : str
        Digest of its list of events.
    size_bytes : int
    rms_db, peak, silent_share : float
        See ``render.Loudness``.
    """

    name: str
    file: str
    work: str
    window: int
    style: str
    split: str
    family: str
    labels: tuple[str, ...]
    identity: str
    size_bytes: int
    rms_db: float
    peak: float
    silent_share: float


def build_demo(
    out: str | os.PathLike[str],
    *,
    size: str | int = "quick",
    jobs: int | None = None,
    **sound: Any,
) -> list[ClipRecord]:
    """Make the clips of a size that are not there yet.

    Parameters
    ----------
    out : path
        Folder of the set; clips go to a sub-folder named after their settings, parsed scores to ``notes/``.
    size : "quick", "standard", "study", "full" or int
        20, 100, 175, all or this number of clips for each of the 12 styles. A smaller size is part of a bigger one.
    jobs : int > 0, optional
        Processes; by default one for each processor this process may use.
    **sound
        Fields of ``Settings``: ``sample_rate``, ``channels``, ``format`` and ``seed``.

    Returns
    -------
    list of ClipRecord, by style and name
        The clips of this size; audio of bigger sizes made before stays where it is.

    Raises
    ------
    ConfigError
        For a setting that is not offered.
    MissingDependency, DatasetError
        When a package is absent or another version, a score is missing, or a worker process died.
    StoreError
        When a file cannot be written.
    """
    settings = Settings(**sound)
    number = clips_per_style(size)
    require_packages()
    started = time.monotonic()
    root = Path(os.path.abspath(os.path.expanduser(out)))
    folder = root / settings.folder
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(root / "NOTICE.txt", NOTICE + "\n")
    remove_abandoned_in(folder)
    records = _read_records(folder)
    cells: Cells = []
    for style, split in itertools.product(STYLES, SPLITS):
        entries = [each for each in catalogue() if each.style == style and each.split == split]
        ordered = ordered_clips(entries, seed=settings.seed)
        cells.append((ordered, len(ordered) if number is None else quotas(number, style)[split]))
    made = 0
    total = sum(min(quota, len(ordered)) for ordered, quota in cells)
    with progress_bar(total=total, desc=f"demo {size}", unit="clip") as bar:
        bar.update(sum(each.name in records for each in _wanted(cells, records)))
        while missing := [each for each in _wanted(cells, records) if each.name not in records]:
            for record in _make(missing, settings, root, max(1, int(jobs or cpu_count()))):
                records[record.name] = record
                made += bool(record.file)
                bar.update(1 if record.file else 0)
    chosen = [records[each.name] for each in _wanted(cells, records)]
    logger.info("%d clips, %d of them made in %.1f s", len(chosen), made, time.monotonic() - started)
    return sorted(chosen, key=lambda record: (STYLES.index(record.style), record.name))


Cells = list[tuple[list[ClipChoice], int]]


def _wanted(cells: Cells, records: dict[str, ClipRecord]) -> Iterator[ClipChoice]:
    """Clips of a size: the first ones of each cell that are not known to be silent, up to its quota."""
    for ordered, quota in cells:
        yield from [each for each in ordered if each.name not in records or records[each.name].file][:quota]


# ------------------------------------------------------------------------------------------------------- record keeping


def _read_records(folder: Path) -> dict[str, ClipRecord]:
    """What was finished before: records whose file is there with the right size, and of clips left out.

    A line that a killed run left torn is passed over.
    """
    path = folder / _RECORDS
    names = {each.name for each in fields(ClipRecord)}
    records: dict[str, ClipRecord] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if not isinstance(values, dict) or set(values) != names:
            continue
        record = ClipRecord(**{**values, "labels": tuple(values["labels"])})
        if not record.file or _size(folder / record.file) == record.size_bytes:
            records[record.name] = record
    return records


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _kept(records: list[ClipRecord], folder: Path) -> list[ClipRecord]:
    """Records added to the list of finished clips, after a torn line on a line of their own."""
    text = "".join(json.dumps(asdict(each), ensure_ascii=False, sort_keys=True) + "\n" for each in records)
    path = folder / _RECORDS
    with disk_errors(path), open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write(text.encode())
    return records


# -------------------------------------------------------------------------------------------------------------- workers


def _make(missing: list[ClipChoice], settings: Settings, root: Path, jobs: int) -> Iterator[ClipRecord]:
    """Make clips, all of one work together, the long works first; records are kept as each work is done."""
    by_work: dict[str, list[ClipChoice]] = defaultdict(list)
    for each in missing:
        by_work[each.entry.work].append(each)
    tasks = sorted(by_work.values(), key=lambda clips: (-clips[0].entry.notes, clips[0].entry.work))
    folder = root / settings.folder
    if jobs == 1 or len(tasks) == 1:
        for clips in tasks:
            yield from _kept(_make_work(clips, settings, root), folder)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context, initializer=_start_worker) as pool:
        try:
            for future in as_completed([pool.submit(_make_work, clips, settings, root) for clips in tasks]):
                yield from _kept(future.result(), folder)
        except BrokenProcessPool as error:
            fix = "Run again to go on where it stopped, with fewer jobs if memory is short"
            raise DatasetError("a worker process died", "data set demo", fix) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave interrupts to the parent, and end when the parent does, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def arranged(name: str, style: str, *, seed: int, notes: Path) -> Arrangement:
    """Read and arrange a work; ``notes`` is the folder of parsed scores."""
    work = work_named(name, style)
    found = cached_notes(work, notes)
    metre = plain_metre(tune_field(tune_text(work.path, work.position), "M")) if work.position >= 0 else ""
    return arrange(found, work=name, style=style, metre=metre, seed=seed)


def _make_work(clips: list[ClipChoice], settings: Settings, root: Path) -> list[ClipRecord]:
    """Read and arrange a work, and write the clips asked for."""
    entry = clips[0].entry
    arrangement = arranged(entry.work, entry.style, seed=settings.seed, notes=root / "notes")
    records = []
    for choice in clips:
        clip = window(arrangement, choice.window)
        audio, loudness = render(clip, sample_rate=settings.sample_rate, channels=settings.channels)
        file = ""
        if not loudness.is_silent:
            file = f"{entry.style.lower().replace(' ', '-')}/{choice.name}.{settings.format}"
            path = root / settings.folder / file
            write_audio(path, audio, sample_rate=settings.sample_rate, format=settings.format)
        records.append(
            ClipRecord(
                name=choice.name,
                file=file,
                work=entry.work,
                window=choice.window,
                style=entry.style,
                split=entry.split,
                family=entry.family,
                labels=clip.tags,
                identity=clip.identity,
                size_bytes=_size(root / settings.folder / file) if file else 0,
                rms_db=round(max(loudness.rms_db, -999.0), 2),
                peak=round(loudness.peak, 4),
                silent_share=round(loudness.silent_share, 4),
            )
        )
    return records
