"""What docstrings point to exists: names under "See Also", beside them in their package or with their full path."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import featstore

ROOT = Path(featstore.__file__).parent
_ENTRY = re.compile(r"^(\s*)([A-Za-z_][\w.]*(?:, [A-Za-z_][\w.]*)*)(?: : .+)?$")


def _docstrings(path: Path) -> list[tuple[str, str]]:
    """(owner, docstring) of all functions and classes of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return [("", ast.get_docstring(tree) or ""), *((node.name, ast.get_docstring(node) or "") for node in found)]


def _entries(docstring: str) -> list[str]:
    """Names in the section "See Also" of a docstring."""
    lines = docstring.splitlines()
    if "See Also" not in lines:
        return []
    names = []
    for k, line in enumerate(lines[lines.index("See Also") + 2 :], lines.index("See Also") + 2):
        if k + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[k + 1]):
            break
        match = _ENTRY.match(line)
        if match is not None and not match[1]:
            names += match[2].split(", ")
    return names


def _exists(module: str, name: str) -> bool:
    """Whether a name is there: in the module, in the packages around it, or by its full path."""
    parts = module.split(".")
    places = [f"{'.'.join(parts[:k])}.{name}" for k in range(len(parts), 0, -1)]
    return any(_resolves(place) for place in [*places, name])


def _resolves(path: str) -> bool:
    parts = path.split(".")
    for k in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:k]))
        except ImportError:
            continue
        for part in parts[k:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def _modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "See Also" in path.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_under_see_also_exist(path: Path) -> None:
    module = ".".join(("featstore", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    importlib.import_module(module)
    names = [name for _, docstring in _docstrings(path) for name in _entries(docstring)]
    assert names, "a section without an entry"
    assert [name for name in names if not _exists(module, name)] == []
