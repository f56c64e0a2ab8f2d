"""The modules of the package import each other in one direction."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import polos

PACKAGE = Path(polos.__file__).parent


def module_name(file: Path, root: Path) -> str:
    parts = list(file.relative_to(root.parent).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def statements(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports in ``nodes``, also those in functions, except for type checkers."""
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from statements(node.orelse)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        else:
            yield from statements(ast.iter_child_nodes(node))


def imports_of(source: str, package: str, modules: set[str]) -> set[str]:
    """Return the modules that ``source``, in ``package``, imports by name."""
    found = set()
    for statement in statements([ast.parse(source)]):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
            continue
        above = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*(above if statement.level else []), statement.module or ""]).strip(".")
        for alias in statement.names:
            member = f"{base}.{alias.name}"
            found.add(member if member in modules else base)
    return found & modules


def graph_of(root: Path) -> dict[str, set[str]]:
    files = {module_name(file, root): file for file in root.rglob("*.py")}
    modules = files.keys() | {module_name(stub, root) for stub in root.rglob("*.pyi")}
    graph = {}
    for name, file in files.items():
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        graph[name] = imports_of(file.read_text(), package, modules) - {name}
    return graph


def test_no_modules_import_each_other_in_a_cycle() -> None:
    graph = graph_of(PACKAGE)
    assert len(graph) > 100
    assert "polos._runtime.executor" in graph["polos.worker"]
    tuple(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "second",
    [
        "from package import first",
        "from . import first",
        "from .first import nothing",
        "def call() -> None:\n    import package.first",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import package.first",
    ],
)
def test_a_cycle_is_found(tmp_path: Path, second: str) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("import package.second")
    (package / "second.py").write_text(second)
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(graph_of(package)).static_order())


def test_an_import_for_type_checkers_only_is_no_cycle(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("import package.second")
    (package / "second.py").write_text("if TYPE_CHECKING:\n    import package.first")
    tuple(TopologicalSorter(graph_of(package)).static_order())
