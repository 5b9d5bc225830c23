"""A name that begins with an underscore is used by its own class or file alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "python" / "ruvector"
FOLDERS = ["a2a"]
# Of other makers: the only name there is for the type.
FOREIGN = {"zlib._Decompress"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def is_own(node: ast.expr) -> bool:
    """self, cls or super()."""
    if isinstance(node, ast.Call):
        node = node.func
        return isinstance(node, ast.Name) and node.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def defined(tree: ast.AST) -> set[str]:
    """What the classes of a file define by `def` or assign to `self`."""
    names = set()
    for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(cls):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
    return names


def reaches(text: str) -> Iterator[str]:
    """What a file takes of the insides of others; a function beside a class may look into it."""
    tree = ast.parse(text)
    of_file = defined(tree)

    def visit(node: ast.AST, in_class: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Attribute) and is_private(child.attr):
                shown = ast.unparse(child)
                beside = not in_class and child.attr in of_file
                if not (is_own(child.value) or beside or shown in FOREIGN):
                    yield f"line {child.lineno}: {shown}"
            if isinstance(child, ast.ImportFrom) and child.level:
                for alias in child.names:
                    if is_private(alias.name):
                        yield f"line {child.lineno}: import {alias.name}"
            yield from visit(child, in_class or isinstance(child, ast.ClassDef))

    return visit(tree, False)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_reaches_into_a_class_of_another(folder):
    files = sorted((PACKAGE / folder).rglob("*.py"))
    assert len(files) > 5
    found = [f"{path.name} {reach}" for path in files for reach in reaches(path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n    def f(self):\n        self._client._gate.gone(1)\n",
        "class A:\n    def f(self, other):\n        self._x = other._x\n",
        "def close(client):\n    client._spawn(1)\n",
        "async def f(client):\n    await client._get('id')\n",
        "from .client import _close\n",
    ],
)
def test_a_reach_is_seen(text):
    assert len(list(reaches(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n    def f(self):\n        return self._x, super()._y, self.__dict__\n",
        "class A:\n    def _f(self): ...\ndef g(a):\n    a._f()\n",
    ],
)
def test_what_is_ones_own_is_allowed(text):
    assert list(reaches(text)) == []
