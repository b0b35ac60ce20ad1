"""Command ``featstore doctor``."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from typing import Any

import click

from featstore_cli.commands import Command
from featstore_cli.common import emit, json_option, render_table

__all__ = ["doctor"]

CORE = ("numpy", "scipy", "soundfile", "soxr", "zarr", "h5py", "dask", "torch", "librosa", "pandas", "pyarrow")


def _extras() -> dict[str, dict[str, bool]]:
    """Extra to its distributions and whether each is installed, as the metadata of the installed package says."""
    found: dict[str, dict[str, bool]] = {}
    for line in importlib.metadata.requires("featstore") or ():
        name, extra = re.match(r"[\w.-]+", line), re.search(r"""extra\s*==\s*["'](.+?)["']""", line)
        if name and extra and extra[1] not in ("all", "test"):
            found.setdefault(extra[1], {})[name[0]] = _version(name[0]) != "missing"
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _examine() -> dict[str, Any]:
    import psutil
    import soundfile

    from featstore.cluster import cpu_count
    from featstore.version import __version__

    result: dict[str, Any] = {
        "featstore": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "core": {name: _version(name) for name in CORE},
        "extras": _extras(),
        "formats": sorted(soundfile.available_formats()),
        "gpus": [],
    }
    try:
        import torch

        result["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except ImportError:
        pass
    result["ok"] = "missing" not in result["core"].values()
    return result


@click.command(cls=Command)
@json_option
def doctor(as_json: bool) -> None:
    """Say what is installed and what works here; exit code 1 when something needed is missing.

    Example:  featstore doctor
    """
    found = _examine()

    def text() -> str:
        rows = [("featstore", found["featstore"]), ("Python", found["python"]), ("system", found["platform"])]
        rows += [("cores", found["cores"]), ("memory", f"{found['memory_bytes'] / 2**30:.1f} GiB")]
        rows += [("GPU", ", ".join(found["gpus"]) or "none: everything runs on the CPU")]
        rows += [("mp3", "read and written" if "MP3" in found["formats"] else "needs libsndfile 1.1 or newer")]
        rows += list(found["core"].items())
        for extra, packages in found["extras"].items():
            absent = ", ".join(name for name, there in packages.items() if not there)
            rows.append((f"extra {extra}", f"lacks {absent}: pip install 'featstore[{extra}]'" if absent else "ready"))
        return render_table(rows, ["what", "found"])

    emit(found, as_json, text, exit_code=0 if found["ok"] else 1)
