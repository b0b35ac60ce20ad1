"""Who may import whom: read from the import statements of every file, imports inside functions included."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GROUND = {"errors", "arrays", "plain", "registry", "atomic", "log", "cluster", "cluster_file", "specs", "version"}
GROUND |= {"plain_yaml", "typed_values", "cache_folder", "process_memory", "object_client", "object_storage", "owner"}
GROUND |= {"kernel_code", "seekable_file", "own_workers", "arrow_files", "recorded_writes"}
GROUND |= {"compiling", "grouping", "stopping", "callable_package", "html_repr", "text_tables", "docstrings", "units"}
MAY_IMPORT = {
    "audio": set(),
    "dsp": set(),
    "datasets": set(),
    "metrics": set(),
    "store": set(),
    "results": {"store", "metrics"},
    "models": {"dsp"},
    "features": {"dsp", "models"},
    "extract": {"audio", "dsp", "datasets", "features", "store"},
    "loaders": {"datasets", "store"},
    "training": {"loaders", "models", "metrics", "results"},
    "workflows": None,  # any room below
    "testing": None,
}
HEAVY = ("torch", "dask", "distributed", "zarr", "h5py", "librosa", "pandas", "numba", "matplotlib", "duckdb")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "featstore":
                names = [f"featstore.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("featstore.")}
        rooms |= {name for name in names if name == "featstore_cli" or name.startswith("featstore_cli.")}
    return rooms


FILES = sorted((ROOT / "featstore").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_obey_the_floors(path: Path) -> None:
    parts = path.relative_to(ROOT / "featstore").parts
    room = parts[0].removesuffix(".py")
    rooms = imported_rooms(path)
    if parts == ("__main__.py",):
        return  # hands over to the command line
    assert not {name for name in rooms if name.startswith("featstore_cli")}, "the library imports the command line"
    rooms.discard(room)
    if len(parts) == 1 and room == "__init__":
        return  # the lazy front door names every room, and imports none
    if room in GROUND:
        allowed = GROUND
    elif MAY_IMPORT[room] is None:
        allowed = GROUND | (set(MAY_IMPORT) - {"testing"}) if room == "workflows" else GROUND | set(MAY_IMPORT)
    else:
        allowed = GROUND | MAY_IMPORT[room]
    assert rooms <= allowed, f"{room} may not import {sorted(rooms - allowed)}"


def test_every_room_is_in_the_table() -> None:
    rooms = {path.name for path in (ROOT / "featstore").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert rooms == set(MAY_IMPORT) | {"specs"}


def test_importing_featstore_is_light() -> None:
    code = f"import sys, featstore; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


LISTINGS = (
    "--help",
    "recipe list",
    "recipe show quickstart",
    "datasets --help",
    "datasets list",
    "codecs list",
    "features list",
    "features show mel",
    "features show ferraro2020",
)


@pytest.mark.parametrize("command", LISTINGS)
def test_listing_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom featstore_cli.main import main\n"
        f"try:\n    main({command.split()!r})\nexcept SystemExit as e:\n    assert e.code == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "[]"


def test_completion_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom featstore_cli.commands import _PLACES, completer\n"
        "for kind in [*_PLACES, 'features', 'presets']:\n    assert completer(kind)(None, None, ''), kind\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_file_is_called_like_a_standard_module() -> None:
    allowed = {"__init__", "__main__"}
    names = {path.stem for path in FILES} - allowed
    assert not names & set(sys.stdlib_module_names)
    assert "utils" not in names


def test_test_files_have_names_of_their_own() -> None:
    """Folders of tests are no packages: two files of one name could not be imported in one run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
