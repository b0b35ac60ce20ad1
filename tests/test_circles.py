"""No files import each other, directly or through others: read from the import statements, inner ones included."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent


def imports() -> dict[str, set[str]]:
    """Files of the package, and those that each imports; packages' own front doors name everything and count not."""
    files = {
        ".".join(path.relative_to(ROOT / "featstore").with_suffix("").parts): path
        for path in (ROOT / "featstore").rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {}
    for name, path in files.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("featstore"):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[name] = ({module.removeprefix("featstore.") for module in found} & files.keys()) - {name}
    return graph


def first_circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_a_circle_is_found() -> None:
    assert first_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) != []
    assert first_circle({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}) == []


def test_no_files_import_each_other() -> None:
    graph = imports()
    assert len(graph) > 200 and "store.layout" in graph["store.reader"]
    assert first_circle(graph) == [], "files import each other in a circle: move what both need to a third"
