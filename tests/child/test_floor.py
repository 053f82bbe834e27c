"""Floor 0 runs in foreign interpreters: it imports the standard library only and is written in Python 3.9."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import service

SERVICE = Path(service.__file__).parent
CHILD = sorted((SERVICE / "child").glob("*.py"))
SCENARIOS = sorted((SERVICE / "scenarios").glob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of what a file imports when it runs."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        return
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        yield from (f"{'.' * tree.level}{tree.module or ''}.{alias.name}" for alias in tree.names)
    for node in ast.iter_child_nodes(tree):
        yield from imported(node)


def test_the_reader_of_imports() -> None:
    """The helper sees imports at every depth, and passes over what is for type checkers only."""
    source = "import a.b\nif TYPE_CHECKING:\n    import c\ndef f():\n    from d import e\nif f():\n    from . import g"
    assert ["a.b", "d.e", "..g"] == list(imported(ast.parse(source)))


@pytest.mark.parametrize("path", [*CHILD, *SCENARIOS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_the_standard_library_only(path: Path) -> None:
    """A file of floor 0 imports the standard library, those of the child each other, and nothing else."""
    own = ("service.child.",) if path in CHILD else ()
    foreign = [
        name
        for name in imported(ast.parse(path.read_text()))
        if name.split(".", 1)[0] not in sys.stdlib_module_names and not name.startswith(own or "\0")
    ]
    assert [] == foreign


@pytest.mark.interpreters
def test_compiles_everywhere(every_python: str) -> None:
    """Every file of floor 0 compiles on every interpreter found, the oldest included."""
    code = "import sys, pathlib\nfor path in sys.argv[1:]: compile(pathlib.Path(path).read_bytes(), path, 'exec')"
    paths = [str(path) for path in (*CHILD, *SCENARIOS)]
    done = subprocess.run(
        [every_python, "-I", "-S", "-W", "error", "-c", code, *paths],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ("", 0) == (done.stderr, done.returncode)
