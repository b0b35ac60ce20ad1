"""Weights of encoders that are published as a package: fetched by the user's own pip, and only when asked."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from featstore.cache_folder import cache_folder
from featstore.errors import CheckpointError, check_known

__all__ = ["FETCHABLE", "fetch_weights", "fetched_place", "fetched_places", "fetched_wheel", "how_to_fetch"]

FETCHABLE = dict.fromkeys(("mtt-musicnn", "msd-musicnn"), ("musicnn", "0.1.0"))
"""Encoder to the distribution that ships its weights, which is never installed or imported, and its version."""

_TIMEOUT_S = 600


def fetched_places(model: str) -> list[str]:
    """Where an encoder's weights are without being named: a fetched wheel, then the package, which is not imported."""
    if model not in FETCHABLE:
        return []
    wheel, spec = fetched_wheel(model), importlib.util.find_spec(FETCHABLE[model][0])
    folders = (spec and spec.submodule_search_locations) or ()
    return [*([str(wheel)] if wheel else []), *folders]


def fetched_place(model: str) -> str | None:
    """The first of :func:`fetched_places`."""
    return next(iter(fetched_places(model)), None)


def fetched_wheel(model: str) -> Path | None:
    """Wheel that was fetched for an encoder."""
    package, version = FETCHABLE[model]
    return max(cache_folder("weights").glob(f"{package}-{version}-*.whl"), default=None)


def how_to_fetch(model: str) -> str:
    """What to do about weights that are not there."""
    if model in FETCHABLE:
        return (
            f"Fetch them with: featstore models fetch {model}; or write weights=PATH of the package's wheel or folder"
        )
    return "Write weights=PATH of their folder or file"


def fetch_weights(model: str) -> Path:
    """Get the wheel that ships an encoder's weights, through pip and without what the package requires.

    Returns
    -------
    Path
        The wheel; one that is there already is not fetched again.

    Raises
    ------
    CheckpointError
        For an encoder that no package ships, or when pip fails, with its last line.
    """
    check_known(model, FETCHABLE, f"no package ships weights of {model!r}", "models fetch", error=CheckpointError)
    package, version = FETCHABLE[model]
    cache, there = cache_folder("weights"), fetched_wheel(model)
    if there:
        return there
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", f"{package}=={version}", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(cache), "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    found = fetched_wheel(model)
    if found is None:
        raise CheckpointError(
            f"pip could not fetch {package} {version}: {reason}", str(cache), "Give weights=PATH of its wheel instead"
        )
    return found
